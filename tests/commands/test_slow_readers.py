"""A client may read as slowly as it likes, but it has to read."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from ingest_cli.server import protocol
from ingest_cli.server.protocol import BoundedProtocol

from ..support.waiting import PATIENCE

LENGTH = 64 << 20
UNREAD = 0.5


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with more than any buffer holds."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LENGTH)]})
    for left in range(LENGTH, 0, -(1 << 16)):
        await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": left > 1 << 16})


@contextmanager
def served() -> Iterator[int]:
    config = uvicorn.Config(large, port=0, http=BoundedProtocol, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join(PATIENCE)


@contextmanager
def asking(port: int) -> Iterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        yield client


def rest_of(client: socket.socket) -> int:
    """How much more comes."""
    length = 0
    with suppress(ConnectionError):
        while piece := client.recv(1 << 20):
            length += len(piece)
    return length


@pytest.mark.sweep
def test_it_may_be_slow_but_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", UNREAD)
    with served() as port:
        with asking(port) as slow:
            length, deadline = 0, time.monotonic() + 4 * UNREAD
            # So slowly that more than UNREAD passes until the system has room for more.
            while time.monotonic() < deadline:
                length += len(slow.recv(4096))
                time.sleep(0.02)
            assert length + rest_of(slow) > LENGTH
        with asking(port) as stopped:
            length = len(stopped.recv(4096))
            time.sleep(4 * UNREAD)
            assert length + rest_of(stopped) < LENGTH

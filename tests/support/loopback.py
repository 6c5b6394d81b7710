"""HTTP servers on a free port of loopback, each for as long as a ``with`` block lasts."""

import itertools
import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True
    scheme = "http"

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class QuietHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are written apart: without this, each answer waits 40 ms for the client's kernel.
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _own_ports() -> Iterator[int]:
    """Below those that systems pick from, and apart from those of other workers of pytest, in any order."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    own = range(20_000 + worker * PORTS, 20_000 + (worker + 1) * PORTS)
    return itertools.cycle(random.sample(own, PORTS))


def lasting_port() -> int:
    """A free one that nobody else gets while the server that has it is started anew, nor before it is started."""
    while True:
        port = next(OWN_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


WORKERS, PORTS = 8, 1500
OWN_PORTS = _own_ports()

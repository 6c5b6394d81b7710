"""One who is sent events over HTTP, on a free port of loopback: it remembers them, and answers as it is told."""

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .loopback import LoopbackServer, QuietHandler


@dataclass(frozen=True)
class Got:
    """What came: the headers with names in small letters, and the body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Receiver(LoopbackServer):
    """Answers each POST with the next of ``statuses``, the last one from then on; ``got`` is what came whole.

    A status of 0 drops the connection once the body has come. ``answer`` takes the place of all that.
    """

    def __init__(self, *statuses: int, answer: "Callable[[Handler], None] | None" = None, **headers: str) -> None:
        super().__init__(Handler)
        self.statuses, self.answer, self.headers = list(statuses) or [200], answer, headers
        self.got: list[Got] = []
        self.received: list[Got] = []
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        super().__exit__()

    def handle_error(self, *_: Any) -> None:
        """A client may be gone, or killed."""

    def with_tls(self, certificate: str, key: str) -> "Receiver":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https"
        return self

    def ids(self) -> list[str]:
        """The ids of the events that were received: answered with 2xx."""
        return [event.json.get("eventID") or event.json["id"] for event in self.received]


class Handler(QuietHandler):
    server: Receiver

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # nobody is there to be answered
            return
        got = Got("POST", self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        server = self.server
        with server.lock:
            server.got.append(got)
            status = server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0]
        if server.answer is not None:
            server.answer(self)
            return
        if status == 0:
            self.close_connection = True
            self.connection.close()
            return
        if 200 <= status < 300:
            server.received.append(got)
        self.answered(status)

    def do_HEAD(self) -> None:
        self.answered(self.server.statuses[0] if self.server.statuses[0] >= 500 else 405)

    def answered(self, status: int, said: bytes = b"") -> None:
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


def hanging(handler: Handler) -> None:
    """Say nothing, for as long as the receiver lasts."""
    handler.close_connection = True
    handler.server.ended.wait(60)


def trickling(handler: Handler) -> None:
    """Answer with a header that never ends, a byte now and then."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.ended.wait(0.05):
        handler.wfile.write(b"x")

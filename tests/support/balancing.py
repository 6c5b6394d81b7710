"""A load balancer on loopback: each request goes to the next of several servers that can be reached."""

import http.client
import itertools
import socket
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

from .loopback import LoopbackServer, QuietHandler

PIECE_BYTES = 64 << 10
PATIENCE = 120
# What concerns a connection, not who is at its other end.
OF_CONNECTIONS = {"connection", "transfer-encoding", "keep-alive"}
# Asked of each request, by its method, its path and how many there were: whether its answer is to be lost.
Loses = Callable[[str, str, int], bool]


class Balancer(LoopbackServer):
    """Stands in front of the servers at ``urls``, and loses the answers that ``loses`` says."""

    def __init__(self, urls: Sequence[str], loses: Loses = lambda _method, _path, _number: False) -> None:
        super().__init__(_Balanced)
        self.backends = [urlsplit(url).netloc for url in urls]
        self.loses = loses
        self.turns, self.numbers = itertools.count(), itertools.count(1)
        self.passed: list[tuple[str, str, str]] = []

    def handle_error(self, *_: Any) -> None:
        """A client that has gone, or a server, is no failure of a test."""


class _Balanced(QuietHandler):
    server: Balancer
    timeout = PATIENCE

    def _pass(self) -> None:
        number, turn = next(self.server.numbers), next(self.server.turns)
        backends = self.server.backends
        for backend in (backends[(turn + place) % len(backends)] for place in range(len(backends))):
            upstream = http.client.HTTPConnection(backend, timeout=PATIENCE)
            try:
                upstream.connect()
            except OSError:
                continue
            break
        else:
            self.send_error(502)
            return
        self.server.passed.append((self.command, self.path, backend))
        with closing(upstream):
            try:
                self._send(upstream)
                answer = upstream.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                self._broken()
                return
        if self.server.loses(self.command, self.path, number):
            self._broken()
            return
        self.send_response_only(answer.status)
        headers = [(name, text) for name, text in answer.getheaders() if name.lower() not in OF_CONNECTIONS]
        if not any(name.lower() == "content-length" for name, _ in headers) and answer.status != 204:
            headers.append(("Content-Length", str(len(body))))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_OPTIONS = _pass

    def _send(self, upstream: http.client.HTTPConnection) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, text in self.headers.items():
            if name.lower() not in OF_CONNECTIONS | {"expect"}:
                upstream.putheader(name, text)
        upstream.endheaders()
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read1(min(left, PIECE_BYTES))
            if not piece:
                raise ConnectionError("the client has gone")
            left -= len(piece)
            upstream.send(piece)

    def _broken(self) -> None:
        """Close the connection, as if the answer had been lost on its way."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

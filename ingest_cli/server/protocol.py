"""Limits on a request's header: its size, and how long it may take to arrive."""

import asyncio
import json
from typing import Any

from rich.filesize import decimal
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .. import __version__

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for httptools, which itself waits for ever and for any number of bytes."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes: int | None = 0  # None while a body comes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes until the head is whole."""
        super().data_received(data)
        if self._head_bytes is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, f"the request header is longer than {decimal(MAX_HEAD_BYTES)}")

    def on_message_begin(self) -> None:
        """A request begins, which may be the second of a connection."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The body has its own limits."""
        self._stop_waiting()
        self._head_bytes = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the form of every other error."""
        self._refuse(400, msg)

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._refuse, 408, "no complete request arrived in time")

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, message: str) -> None:
        body = json.dumps(error_object(status, message)).encode()
        head = f"HTTP/1.1 {error_object(status, message)['status']}\r\nContent-Type: application/json\r\n"
        self.transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        self.transport.close()


def error_object(status: int, message: str) -> dict[str, Any]:
    """The JSON object that Pacifica's clients expect of every error; its traceback is always empty."""
    from http import HTTPStatus

    return {
        "status": f"{status} {HTTPStatus(status).phrase}",
        "message": message,
        "traceback": "",
        "version": __version__,
    }

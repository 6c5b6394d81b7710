"""Limits on connections: how many there are, how long each may take to say what it wants, and to read the answer."""

import asyncio
import fcntl
import json
import sys
import termios
from contextlib import suppress
from functools import partial
from typing import Any

from httptools import HttpRequestParser
from rich.filesize import decimal
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .. import __version__
from ..text import number_of
from .bodies import PIECE_BYTES, PIECE_SECONDS, KnownBody

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0
# How many idle connections are closed for a newcomer.
MADE_ROOM = 32
MAX_READ_BYTES = 64 << 10
# A client may send its next requests before it has an answer. None is known to send more at once.
MAX_PIPELINED = 16
# For a body that is not wanted any more: the client gets its answer if it reads while it sends.
REST_SECONDS = 20.0
# What HTTP has no name for, but tus.
OWN_PHRASES = {460: "Checksum Mismatch"}
# For a request that may be on its way when the server ends.
ENDING_SECONDS = 0.5
# For an answer of which the client reads nothing.
UNREAD_SECONDS = 60.0


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for httptools, which itself waits for ever and for any number of bytes.

    Its limit on concurrency is one on connections: where there are more, the one closes that is idle for longest, so
    that those who only hold connections keep nobody else out.
    """

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head_bytes: int | None = 0  # None while a body comes
    _useless_bytes = 0  # of what came since a body's last byte, while a body comes
    _is_useless = True
    _idle_since = 0.0
    _is_cut = False
    _left: int | None = None  # of a body whose length is known, as far as it is parsed
    _known: KnownBody | None = None
    _gathering: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self._ending = asyncio.Event()
        super().connection_made(transport)
        # With asyncio's own measure the others wait long for what one sends in the smallest chunks.
        transport.max_size = MAX_READ_BYTES  # type: ignore[attr-defined]
        self._idle_since = self.loop.time()
        self._await_head()
        if self._most is not None and len(self.connections) > self._most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        if self._known is not None:
            self._known.hand_over(self.cycle)
        self._stop_gathering()
        self._known = None
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes until the head is whole."""
        if self._is_cut:
            return
        self._is_useless = True
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, f"the request header is longer than {decimal(MAX_HEAD_BYTES)}")
        elif self._is_useless:
            self._useless_bytes += len(data)
            if self._useless_bytes > MAX_HEAD_BYTES:
                self._refuse_trailer()
        # Blank lines end the wait for another request, but begin none.
        if self._is_idle and self._deadline is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """A request begins, which may be the second of a connection."""
        super().on_message_begin()
        self._head_bytes = 0
        self._note_use()
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The body has its own limits."""
        self._stop_waiting()
        self._head_bytes = None
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        super().on_headers_complete()
        # For a response that cannot be completed; the scope is read when the loop is next at work.
        # And for one that goes on until the server ends.
        self.scope["extensions"] = {"ingest.abort": self.transport.abort, "ingest.ending": self._ending}  # type: ignore[dict-item]
        if self.parser.get_http_version() == "1.0":
            self.cycle.waiting_for_100_continue = False  # it would be taken for the answer
        if self._ending.is_set():
            self.cycle.keep_alive = False
        self.cycle.receive = partial(self._receive, self.cycle)  # type: ignore
        given = next((value for name, value in self.headers if name == b"content-length"), b"")
        self._left = None if self.parser.should_upgrade() else number_of(given.decode("latin-1"))

    def on_body(self, body: bytes) -> None:
        """Something of a body came."""
        self._note_use()
        if self._left is not None:
            self._left -= len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """The connection is idle, but for the rest of a body that nobody reads any more."""
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if self._is_idle and self.cycle.more_body and not self.transport.is_closing():
            self._stop_waiting()
            self._deadline = self.loop.call_later(REST_SECONDS, self.transport.close)

    def shutdown(self) -> None:
        """End the connection with the answer to what is under way, or to what still comes in a moment."""
        self._ending.set()
        if self._is_idle:
            self.loop.call_later(ENDING_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def cut(self) -> None:
        """Take nothing more of what comes: a body without end, in small chunks, would take the time of all else."""
        self._is_cut = True

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._await_reading(self._unread_bytes())

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _await_reading(self, unread: int) -> None:
        self._unread = self.loop.call_later(UNREAD_SECONDS, self._require_reading, unread)

    def _require_reading(self, unread: int) -> None:
        """Abort unless something of ``unread`` bytes was read since: it may take long until more can be written."""
        if (left := self._unread_bytes()) < unread:
            self._await_reading(left)
        else:
            self.transport.abort()

    def _unread_bytes(self) -> int:
        """How many of the bytes that were written the other end has not received."""
        queued = bytearray(4)
        with suppress(OSError):  # not every system tells what it has queued
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the form of every other error."""
        self._refuse(400, msg)

    @property
    def _is_idle(self) -> bool:
        """Whether no request of the connection is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle:
            self.transport.close()

    def _make_room(self) -> None:
        idle = [connection for connection in self.connections if isinstance(connection, BoundedProtocol)]
        idle = sorted((other for other in idle if other._is_idle), key=lambda other: other._idle_since)
        if idle == [self]:
            self._refuse(503, "too many connections are open: try again later")
        # Several at once, since this is a look at all.
        for longest in idle[: min(MADE_ROOM, len(idle) - 1)]:
            longest.transport.abort()

    def _note_use(self) -> None:
        self._is_useless, self._useless_bytes = False, 0

    def _refuse_trailer(self) -> None:
        """End the connection of a client that sends trailers, or extensions of a chunk, which nobody reads."""
        if self.cycle.response_started:
            self.transport.abort()
        else:
            self._refuse(431, f"what is between or behind the chunks is longer than {decimal(MAX_HEAD_BYTES)}")

    def _begin_known(self, left: int) -> None:
        """Have what is left of the body received without a parser, now that somebody reads it."""
        self._known = KnownBody(self, left, len(self.connections), self._take, self._is_read)
        self.transport.set_protocol(self._known)

    def _is_read(self) -> bool:
        return not (self._is_idle or self._is_cut)

    def _take(self, known: KnownBody) -> None:
        """Something of a body came that is not parsed."""
        self._note_use()
        self._unset_keepalive_if_required()
        if known.left == 0:
            self._end(known)
        elif not self._is_read():
            return
        elif not known.is_full:
            self._gather(known)
        elif not self._hand_over():
            self.flow.pause_reading()

    def _end(self, known: KnownBody) -> None:
        """The body is whole. The parser knows nothing of it, and would wait for it: another one takes its place."""
        if self._is_read():
            known.hand_over(self.cycle)
        self._stop_gathering()
        self._left = self._known = None
        self.parser = HttpRequestParser(self)
        with suppress(AttributeError):  # as uvicorn has it, of those that can
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.transport.set_protocol(self)
        self.on_message_complete()

    def _go_on(self, known: KnownBody) -> None:
        """There is room for more again."""
        if known.is_full:
            self._hand_over()
            self.flow.resume_reading()
        else:
            self._gather(known)

    def _gather(self, known: KnownBody) -> None:
        """Wait for the rest of a piece, but not for long."""
        if known.is_begun and self._gathering is None:
            self._gathering = self.loop.call_later(PIECE_SECONDS, self._hand_over)

    def _hand_over(self) -> bool:
        """Let who reads the body have what has come of a piece; False where enough waits to be read."""
        self._stop_gathering()
        if self._known is None or len(self.cycle.body) >= PIECE_BYTES:
            return False
        self._known.hand_over(self.cycle)
        self.cycle.message_event.set()
        return True

    def _stop_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    async def _receive(self, cycle: RequestResponseCycle) -> Message:
        """What uvicorn's own does, but nothing is copied, and what came before a connection broke is not forgotten."""
        if cycle.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        if not cycle.body and not cycle.disconnected and not cycle.response_complete:
            if cycle is self.cycle and self._known is None and self._left is not None and self._left > PIECE_BYTES:
                self._begin_known(self._left)
            self.flow.resume_reading()
            await cycle.message_event.wait()
        cycle.message_event.clear()
        if cycle.response_complete or (cycle.disconnected and not cycle.body):
            return {"type": "http.disconnect"}
        body, cycle.body = cycle.body, bytearray()
        if self._known is not None and cycle is self.cycle:
            self._go_on(self._known)
        return {"type": "http.request", "body": body, "more_body": cycle.more_body}

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

    phrase = OWN_PHRASES.get(status) or HTTPStatus(status).phrase
    return {
        "status": f"{status} {phrase}",
        "message": message,
        "traceback": "",
        "version": __version__,
    }

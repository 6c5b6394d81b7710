"""Downloads that are under way: how many there are, and how the bytes of one get from a disk to its client."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import IngestError
from ..retrieval.layout import Pieces
from ..text import counted, one_line
from .admission import BUSY_SECONDS, client_of
from .authentication import Refusal
from .ranges import Span, Version, is_known, requested
from .threads import Threads

MAX_STREAMS = 16
# What is known of a file takes up to 1 kB.
MAX_FILES = 500_000
# Written at once: what is kept here for a slow client.
SENT_BYTES = 64 << 10
# Small files are read several at once.
PIECE_BYTES = 1 << 20
# How long a connection may take to be closed.
CLOSE_SECONDS = 1.0
# A file of somebody else must not become a page of this server in a browser.
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


@dataclass(frozen=True, slots=True)
class Download:
    """What can be had of something: its bytes, by ``read`` from one on up to another; ``headers`` tell of them.
    ``files`` is of how many files it is made."""

    version: Version
    headers: Mapping[str, str]
    read: Callable[[int, int], Pieces]
    files: int = 1


class Streams:
    """The downloads that are under way: at most half of MAX_STREAMS to one client, and of no more files together than
    MAX_FILES, unless it is one alone."""

    def __init__(self) -> None:
        self._clients: list[tuple[str, int]] = []

    @cached_property
    def _threads(self) -> Threads:
        return Threads(MAX_STREAMS, "download")

    def answer(self, request: Request, download: Download) -> Response:
        """The response to ``request``: all of the download, a range of it, or that there is nothing new.

        Raises Refusal for a range that there is not.
        """
        version = download.version
        headers = {**SAFE, **download.headers, **version.headers, "Accept-Ranges": "bytes"}
        if is_known(request.headers, version):
            return Response(status_code=304, headers=headers)
        # A range is for GET alone (RFC 9110, 14.2).
        span = requested(request.headers, version) if request.method == "GET" else Span(0, version.size)
        headers["Content-Length"] = str(span.stop - span.start)
        if span.is_part:
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{version.size}"
        status = 206 if span.is_part else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return _Streamed(self, download, span, status, headers)

    @contextmanager
    def admit(self, request: Request, files: int) -> Iterator[None]:
        """Have a place for a download of so many files. Raises Refusal where there is none."""
        client, others = client_of(request), len(self._clients)
        own = sum(other == client for other, _ in self._clients)
        together = files + sum(theirs for _, theirs in self._clients)
        if own >= MAX_STREAMS // 2 or others >= MAX_STREAMS or (others and together > MAX_FILES):
            busy = counted(len(self._clients), "download is", "downloads are")
            raise Refusal(503, f"{busy} under way: try again later", {"Retry-After": str(BUSY_SECONDS)})
        self._clients.append((client, files))
        try:
            yield
        finally:
            self._clients.remove((client, files))

    async def next(self, pieces: Pieces) -> bytes:
        """The next bytes; none at the end. A thread is busy only until they are read."""
        return await self._threads.do(next, pieces, b"")

    async def close(self, pieces: Pieces) -> None:
        """Nothing more is read."""
        with suppress(ValueError):  # a thread that hangs in it closes it at its end
            await self._threads.do(pieces.close)


class _Streamed(Response):
    """Sends what is read as it is read. Where that fails, the connection breaks: no client takes it for the end."""

    def __init__(
        self, streams: Streams, download: Download, span: Span, status: int, headers: Mapping[str, str]
    ) -> None:
        self._streams, self._download, self._span = streams, download, span
        self.status_code, self.background = status, None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with self._streams.admit(request, self._download.files):
            pieces = _gathered(self._download.read(self._span.start, self._span.stop))
            try:
                await self._send(request, pieces, send)
            finally:
                await self._streams.close(pieces)

    async def _send(self, request: Request, pieces: Pieces, send: Send) -> None:
        piece = await self._first(request, pieces)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            while piece:
                view = memoryview(piece)
                for at in range(0, len(piece), SENT_BYTES):
                    body = view[at : at + SENT_BYTES]
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                if await request.is_disconnected():
                    return
                piece = await self._streams.next(pieces)
        except IngestError as error:
            log_failure(request, error)
            await _break_off(request)
        except asyncio.CancelledError:
            await _break_off(request)
            raise
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _first(self, request: Request, pieces: Pieces) -> bytes:
        """The first bytes, before anything is promised: what is small is read, and found to be right, as a whole."""
        try:
            return await self._streams.next(pieces)
        except IngestError as error:
            if error.transient:
                raise
            log_failure(request, error)
            raise HTTPException(500, "the archive does not hold what was recorded: see the server's log") from error


def _gathered(pieces: Pieces) -> Pieces:
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= PIECE_BYTES:
            yield b"".join(held)  # one alone is not copied
            held, length = [], 0
    if held:
        yield b"".join(held)


def log_failure(request: Request, error: IngestError) -> None:
    """Write to the log why the request fails, where its client is not told."""
    line = one_line(f"ingest: {request.method} {request.scope['path']}: {error}")
    print(line, file=sys.stderr, flush=True)


async def _break_off(request: Request) -> None:
    """Close the connection, and return when it is closed: the server has nothing to complain of then."""
    request.scope["extensions"]["ingest.abort"]()
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            while not await request.is_disconnected():
                await asyncio.sleep(0)

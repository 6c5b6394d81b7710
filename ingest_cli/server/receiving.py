"""Receives a request's body into the spool."""

import asyncio
import hashlib
from base64 import b64decode
from binascii import Error as BinasciiError
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rich.filesize import decimal
from starlette.requests import ClientDisconnect, Request

from .admission import Reception
from .arrivals import Arrivals
from .authentication import Refusal
from .bodies import PIECE_BYTES
from .incoming import Incoming
from .threads import Threads

# A client that is slow but lives sends something; the request of one that sends nothing for so long is ended.
IDLE_SECONDS = 60.0
DIGESTS = {"sha-256": "sha256", "sha-512": "sha512"}
LONGEST_DIGESTS = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_bytes`` a body may be long, None for any length; ``reserve`` bytes stay free on the spool's disk."""

    max_bytes: int | None
    reserve: int

    def require_allowed(self, length: int) -> None:
        """Raise Refusal where a body of this length is too long."""
        if self.max_bytes is not None and length > self.max_bytes:
            raise Refusal(413, f"the body is too long: the limit is {decimal(self.max_bytes)}")


@asynccontextmanager
async def spooled(disk: Threads, opening: Callable[[], Incoming]) -> AsyncIterator[Incoming]:
    """What threads open in the spool, and close at the end of the block: removing a large file takes its time too."""
    file = await disk.do(opening)
    try:
        yield file
    finally:
        if file.is_kept:
            file.__exit__()
        else:
            await disk.do(file.__exit__)


async def receive(
    request: Request,
    file: Incoming,
    limits: Limits,
    reception: Reception,
    disk: Threads,
    arrivals: Arrivals | None = None,
) -> None:
    """Write the body of ``request`` to ``file``, durably, and have ``arrivals`` hash it.

    Raises Refusal, NoRoom, and Starlette's ClientDisconnect where the client goes away.
    """
    announced = announced_length(request) or 0
    limits.require_allowed(announced)
    digest, wanted = _content_digest(request)
    length = 0
    await disk.do(reception.announced, announced)
    async for piece in pieces(request):
        length += len(piece)
        limits.require_allowed(length)
        # Most bodies come in one piece: it is synced by the thread that writes it.
        is_last = length == announced
        await disk.do(_append, file, digest, piece, sync=is_last)
        reception.arrived(len(piece))
        if arrivals is not None:
            arrivals.wrote(file.source, length)
    if length != announced:
        await disk.do(file.sync)
    if digest is not None and digest.digest() != wanted:
        raise Refusal(400, "the body does not match its Content-Digest")


async def pieces(request: Request) -> AsyncIterator[bytes | bytearray]:
    """The body in pieces of some PIECE_BYTES. Raises Refusal where nothing comes for too long.

    Where the client goes away, what came is yielded before Starlette's ClientDisconnect is raised.
    """
    held: bytes | bytearray = b""
    stream = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                piece = await anext(stream)
            if held:
                held += piece
            else:
                held = piece
            if len(held) >= PIECE_BYTES:
                yield held
                held = b""
    except StopAsyncIteration:
        yield held
    except TimeoutError:
        raise Refusal(408, f"nothing arrived for {IDLE_SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        yield held
        raise


def announced_length(request: Request) -> int | None:
    """The Content-Length, which the parser has found to be a number; None where the body is chunked."""
    value = request.headers.get("content-length")
    return int(value) if value is not None and value.isdigit() else None


def _append(file: Incoming, digest: "hashlib._Hash | None", data: bytes | bytearray, *, sync: bool) -> None:
    if digest is not None:
        digest.update(data)
    file.write(data)
    if sync:
        file.sync()


def _content_digest(request: Request) -> "tuple[hashlib._Hash | None, bytes]":
    """The digest that the client sends along (RFC 9530), where it is one that we know."""
    given = request.headers.get("content-digest", "")
    if len(given) > LONGEST_DIGESTS:
        raise Refusal(400, f"the Content-Digest is longer than {LONGEST_DIGESTS:,} characters")
    for entry in given.split(","):
        name, _, value = entry.strip().partition("=")
        before, _, rest = value.partition(":")
        text, colon, _ = rest.partition(":")
        if name in DIGESTS and not before and colon:
            try:
                return hashlib.new(DIGESTS[name]), b64decode(text, validate=True)
            except (BinasciiError, ValueError):
                raise Refusal(400, "the Content-Digest is not valid base64") from None
    return None, b""

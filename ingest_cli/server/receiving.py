"""Receives a request's body into the spool."""

import asyncio
import hashlib
import re
from base64 import b64decode
from binascii import Error as BinasciiError
from collections.abc import AsyncIterator
from dataclasses import dataclass

from rich.filesize import decimal
from starlette.requests import ClientDisconnect, Request

from ..jobs.spool import NoRoom, SpoolFile
from .authentication import Refusal

# A client that is slow but lives sends something; the request of one that sends nothing for so long is ended.
IDLE_SECONDS = 60.0
PIECE_BYTES = 1 << 20
DIGESTS = {"sha-256": "sha256", "sha-512": "sha512"}


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_bytes`` a body may be long, None for any length; ``reserve`` bytes stay free on the spool's disk."""

    max_bytes: int | None
    reserve: int


async def receive(request: Request, file: SpoolFile, limits: Limits) -> int:
    """Write the body of ``request`` to ``file``, durably, and return its length.

    Raises Refusal, and Starlette's ClientDisconnect where the client goes away.
    """
    announced = announced_length(request)
    require_allowed(announced or 0, limits)
    digest, wanted = _content_digest(request)
    length = 0
    try:
        file.require_room(announced or 0)
        async for piece in pieces(request):
            length += len(piece)
            require_allowed(length, limits)
            await asyncio.to_thread(_append, file, digest, piece)
        await asyncio.to_thread(file.sync)
    except NoRoom as error:
        raise Refusal(507, str(error)) from error
    if digest is not None and digest.digest() != wanted:
        raise Refusal(400, "the body does not match its Content-Digest")
    return length


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of some PIECE_BYTES. Raises Refusal where nothing comes for too long.

    Where the client goes away, what came is yielded before Starlette's ClientDisconnect is raised.
    """
    held = bytearray()
    stream = aiter(request.stream())
    try:
        while True:
            held += await asyncio.wait_for(anext(stream), IDLE_SECONDS)
            if len(held) >= PIECE_BYTES:
                yield bytes(held)
                held.clear()
    except StopAsyncIteration:
        yield bytes(held)
    except TimeoutError:
        raise Refusal(408, f"nothing arrived for {IDLE_SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        yield bytes(held)
        raise


def announced_length(request: Request) -> int | None:
    """The Content-Length, which the parser has found to be a number; None where the body is chunked."""
    value = request.headers.get("content-length")
    return int(value) if value is not None and value.isdigit() else None


def _append(file: SpoolFile, digest: "hashlib._Hash | None", data: bytes) -> None:
    if digest is not None:
        digest.update(data)
    file.write(data)


def require_allowed(length: int, limits: Limits) -> None:
    """Raise Refusal where a body of this length is too long."""
    if limits.max_bytes is not None and length > limits.max_bytes:
        raise Refusal(413, f"the body is too long: the limit is {decimal(limits.max_bytes)}")


def _content_digest(request: Request) -> "tuple[hashlib._Hash | None, bytes]":
    """The digest that the client sends along (RFC 9530), where it is one that we know."""
    for name, value in re.findall(r"([\w-]+)=:([A-Za-z0-9+/=]*):", request.headers.get("content-digest", "")):
        if name in DIGESTS:
            try:
                return hashlib.new(DIGESTS[name]), b64decode(value, validate=True)
            except BinasciiError:
                raise Refusal(400, "the Content-Digest is not valid base64") from None
    return None, b""

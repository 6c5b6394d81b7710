"""Receives what the body of a request of tus brings for an upload."""

import hashlib
from functools import partial
from pathlib import Path

from starlette.requests import Request

from ..errors import SourceError
from ..jobs.spool import SpoolFile, SpoolKind
from ..text import counted
from .admission import Reception
from .authentication import Refusal
from .concatenation import append_files
from .receiving import Limits, announced_length, pieces, receive, spooled
from .threads import Threads
from .tus_protocol import MISMATCH, Checksum, checksum_in
from .uploads import Upload


async def add_body(
    request: Request, upload: Upload, file: SpoolFile, limits: Limits, reception: Reception, disk: Threads
) -> None:
    """Append the body of ``request`` to the file of ``upload``, durably.

    What arrives before a failure stays, unless there is a checksum: then all is appended, or nothing. Raises Refusal,
    NoRoom, and Starlette's ClientDisconnect where the client goes away.
    """
    checksum = checksum_in(request)
    most = limits.max_bytes if upload.length is None else upload.length
    left = None if most is None else most - file.length
    require_fit(announced_length(request) or 0, left)
    if checksum is None:
        await _append_pieces(request, file, most, disk)
    else:
        await _append_verified(request, file, checksum, Limits(left, limits.reserve), reception, disk)


async def _append_pieces(request: Request, file: SpoolFile, most: int | None, disk: Threads) -> None:
    try:
        async for piece in pieces(request):
            require_fit(len(piece), None if most is None else most - file.length)
            await disk.do(file.write, piece)
    finally:
        await disk.do(file.sync)


async def _append_verified(
    request: Request, file: SpoolFile, checksum: Checksum, limits: Limits, reception: Reception, disk: Threads
) -> None:
    """Append what has the ``checksum``. Until that is known it lies beside the file, whose length is the offset."""
    opening = partial(SpoolFile.fresh, SpoolKind.RECEIVED, file.path.parent, ".piece", limits.reserve)
    async with spooled(disk, opening) as piece:
        await receive(request, piece, limits, reception, disk)
        if await disk.do(_digest_of, piece.path, checksum.algorithm) != checksum.digest:
            raise Refusal(
                MISMATCH, f"the {checksum.algorithm} of the body is not the one that was given: send it again"
            )
        await append_files(file, file.length, [piece.path], disk)


def _digest_of(path: Path, algorithm: str) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).digest()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def require_fit(length: int, left: int | None) -> None:
    """Raise Refusal where a body of this length is longer than what is ``left`` to come; None is any length."""
    if left is not None and length > left:
        raise Refusal(413, f"the body is too long: the upload needs only {counted(left, 'byte')} more")

"""Receives what the body of a request of tus brings for an upload."""

import asyncio
import hashlib

from starlette.requests import Request

from ..text import counted
from .arrivals import Arrivals
from .authentication import Refusal
from .incoming import Incoming
from .receiving import Limits, announced_length, pieces
from .threads import Threads
from .tus_protocol import MISMATCH, Checksum, checksum_in
from .uploads import Upload, Uploads


async def add_body(
    request: Request,
    upload: Upload,
    file: Incoming,
    uploads: Uploads,
    limits: Limits,
    disk: Threads,
    arrivals: Arrivals,
) -> None:
    """Append the body of ``request`` to the file of ``upload``, durably, and have ``arrivals`` hash what stays.

    What arrives before a failure stays, unless there is a checksum: then all is appended, or nothing. Raises Refusal,
    NoRoom, and Starlette's ClientDisconnect where the client goes away.
    """
    checksum = checksum_in(request)
    most = limits.max_bytes if upload.length is None else upload.length
    left = None if most is None else most - file.length
    require_fit(announced_length(request) or 0, left)
    if checksum is None:
        await _append_pieces(request, file, most, disk, arrivals)
        return
    begun = file.length
    await disk.do(uploads.doubt, upload, file)
    try:
        await _append_verified(request, file, checksum, most, disk)
    except asyncio.CancelledError:
        raise  # something may still be written: whoever is next settles it
    except BaseException:
        await disk.do(file.cut, begun)
        await disk.do(uploads.trust, upload, file)
        raise
    await disk.do(uploads.trust, upload, file)
    arrivals.wrote(file.source, file.length)


async def _append_pieces(request: Request, file: Incoming, most: int | None, disk: Threads, arrivals: Arrivals) -> None:
    try:
        async for piece in pieces(request):
            require_fit(len(piece), None if most is None else most - file.length)
            await disk.do(file.write, piece)
            arrivals.wrote(file.source, file.length)
    finally:
        await disk.do(file.sync)


async def _append_verified(
    request: Request, file: Incoming, checksum: Checksum, most: int | None, disk: Threads
) -> None:
    digest = hashlib.new(checksum.algorithm, usedforsecurity=False)
    async for piece in pieces(request):
        require_fit(len(piece), None if most is None else most - file.length)
        await asyncio.gather(disk.do(file.write, piece), disk.do(digest.update, piece))
    if digest.digest() != checksum.digest:
        raise Refusal(MISMATCH, f"the {checksum.algorithm} of the body is not the one that was given: send it again")
    await disk.do(file.sync)


def require_fit(length: int, left: int | None) -> None:
    """Raise Refusal where a body of this length is longer than what is ``left`` to come; None is any length."""
    if left is not None and length > left:
        raise Refusal(413, f"the body is too long: the upload needs only {counted(left, 'byte')} more")

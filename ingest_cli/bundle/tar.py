"""The tar format: walk an uncompressed tar's headers and say which members lie where.

Reads V7, POSIX ustar, GNU and PAX headers. The standard library's reader is not used because it believes a header's
claim before it looks at the file (a 512-byte header can make it allocate gigabytes), and because it is slower.
Nothing is ever extracted by name; what is not a regular file or a folder is refused. So is that of which readers of
tars differ as to which members there are, what they are called, and which bytes they hold: an archive must not hold
other files than the person saw who looked at the tar with another program.
"""

import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple, Protocol

from rich.filesize import decimal

from ..errors import BundleError, BundleTruncated, OnProblem, raise_problem
from ..text import counted, quoted
from .extension import KINDS, MAX_EXTENSION_BYTES, Extensions, Records, size_of
from .header import BLOCK, EMPTY, has_sparse_map, is_header, name_of, numbers_of
from .window import Window

FOLDER = b"5"
OLD_FILE = b"\0"
REGULAR_TYPES = (b"0", OLD_FILE, b"7")
SPARSE = b"S"
REFUSED_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"V": "a volume label",
    b"M": "a part of a multi-volume archive",
    b"D": "an incremental dump's folder",
}
# No blocks follow the headers of these, whatever size they give.
WITHOUT_BLOCKS = (FOLDER, b"1", b"2", b"3", b"4", b"6")

TIME = re.compile(r"-?[0-9]+(?:\.[0-9]*)?", re.ASCII)
# The years 1 to 9999, which a calendar can show.
TIMES = (-62_135_596_800, 253_402_300_799)
HEADERS_AT_ONCE = 1000
# Ten times as many as a document can list files; what is known of each is held in memory.
MAX_HEADERS = 10_000_000
LARGE_EXTENSION = 4096


class Member(NamedTuple):
    """A regular file in a tar: ``name`` without ``./`` parts; ``offset`` and ``size`` in bytes; ``mtime`` in seconds
    since 1970 (UTC). ``odd_time`` is what the tar has as the time where that is none, and another one is in its place.
    """

    name: str
    offset: int
    size: int
    mtime: float
    odd_time: str | None = None


class Blocks(Protocol):
    """What a tar is read through."""

    def read(self, position: int, length: int) -> bytes:
        """So many bytes from ``position``; less at the tar's end."""


def members(
    descriptor: int, on_problem: OnProblem = raise_problem, require: Callable[[], None] = lambda: None
) -> Iterator[Member]:
    """Yield the regular files of the tar open as ``descriptor``, in their order; folders are passed over.

    A member that no bundle may hold is reported as BundleError, and passed over too where that does not raise.
    ``require`` is called now and then, and may raise to stop. Raises BundleTruncated where the file ends before the tar
    does, BundleError where no more can be read of it.
    """
    return members_in(Window(descriptor), os.fstat(descriptor).st_size, on_problem, require)


def members_in(
    blocks: Blocks, end: int, on_problem: OnProblem = raise_problem, require: Callable[[], None] = lambda: None
) -> Iterator[Member]:
    """Yield the regular files of a tar that ends at byte ``end``, as `members` does."""
    position = 0
    extensions = Extensions()
    for number in count():
        if number % HEADERS_AT_ONCE == 0:
            require()
            _require_few(number)
        block = blocks.read(position, BLOCK)
        if block == EMPTY:
            _require_end(blocks, position, extensions)
            return
        if not is_header(block):
            raise _no_header(block, position)
        kind = block[156:157]
        length, mtime = numbers_of(block, position)
        position += BLOCK
        if kind in KINDS:
            if length > LARGE_EXTENSION:
                require()
            body = _body(blocks, position, length)
            extensions.take(kind, body, length)
            position += len(body)
            continue
        if kind == SPARSE:
            position = _end_of_map(blocks, block, position)
        records = extensions.of_member()
        length = 0 if kind in WITHOUT_BLOCKS else size_of(records, length)
        if position + length > end:
            raise BundleTruncated(f"the tar is truncated: it ends at byte {end}, inside a member")
        try:
            member = _member(block, kind, records, position, length, mtime)
        except BundleError as error:
            on_problem(error)
            member = None
        if member is not None:
            yield member
        position += _padded(length)


def _member(
    block: bytes, kind: bytes, records: Records, offset: int, length: int, header_time: int | None
) -> Member | None:
    name = records.get("path")
    if name is None:
        name = name_of(block, offset - BLOCK)
    if kind == SPARSE or "sparse" in records or has_sparse_map(block):
        real = quoted(records.get("real path", name))
        raise BundleError(f"{real} is a sparse file; pack it without tar's --sparse, or with bsdtar's --no-read-sparse")
    # Python looks at the name in the header itself, others at the one that counts.
    is_old_folder = kind == OLD_FILE and block[:100].partition(b"\0")[0].endswith(b"/")
    if kind == FOLDER or (is_old_folder and name.endswith("/") and length == 0):
        if size_of(records, 0):
            raise BundleError(f"{quoted(name)} is a folder, but has a file's size: readers of tars differ there")
        safe_name(name, folder=True)
        return None
    if kind not in REGULAR_TYPES:
        what = REFUSED_TYPES.get(kind, f"of the unknown type {kind!r}")
        raise BundleError(f"{quoted(name)} is {what}; a bundle holds regular files and folders only")
    if is_old_folder or name.rpartition("/")[2] in ("", "."):
        size = counted(length, "byte")
        raise BundleError(f"{quoted(name)} has a folder's name, but is a file of {size}: readers of tars differ there")
    mtime, odd_time = _time(records.get("mtime"), header_time)
    return Member(safe_name(name), offset, length, mtime, odd_time)


def safe_name(name: str, *, folder: bool = False) -> str:
    """A member's name without empty and ``.`` parts; refused where it would lead out of the bundle."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise BundleError(f"{quoted(name)} points outside the bundle; member names must be relative and without '..'")
    if not parts and not folder:
        raise BundleError("a member of the tar has no name")
    return "/".join(parts)


def _time(given: str | None, header_time: int | None) -> tuple[float, str | None]:
    """The modification time to be kept, and what is odd of the one that the tar gives: pax's, else the header's."""
    first, last = TIMES
    own = float(header_time) if header_time is not None and first <= header_time <= last else None
    if given is None:
        odd = None if own is not None else "" if header_time is None else str(header_time)
        return own or 0.0, odd
    if TIME.fullmatch(given) and first <= float(given) <= last:
        return float(given), None
    return own or 0.0, given


def _body(blocks: Blocks, position: int, length: int) -> bytes:
    """What an extended header holds, to the end of its last block."""
    if length > MAX_EXTENSION_BYTES:
        allowed = decimal(MAX_EXTENSION_BYTES)
        raise BundleError(f"the header at byte {position - BLOCK} is {decimal(length)} long; the limit is {allowed}")
    whole = _padded(length)
    body = blocks.read(position, whole)
    if len(body) < whole:
        raise _cut_short(position + len(body))
    return body


def _end_of_map(blocks: Blocks, block: bytes, position: int) -> int:
    """Where the map of a sparse file ends, which goes on behind its header: members after it can be named too."""
    goes_on = block[482:483]
    while goes_on not in (b"\0", b""):
        goes_on = blocks.read(position, BLOCK)[504:505]
        position += BLOCK
    return position


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _no_header(block: bytes, position: int) -> BundleError:
    if not block:
        return BundleTruncated(
            f"the tar is truncated: it ends at byte {position} without the two empty blocks that end a tar"
        )
    if len(block) < BLOCK:
        return _cut_short(position + len(block))
    return BundleError(f"damaged tar: no valid header at byte {position}")


def _require_few(headers: int) -> None:
    if headers > MAX_HEADERS:
        raise BundleError(f"the tar has more than {MAX_HEADERS:,} headers: pack it as several bundles")


def _cut_short(position: int) -> BundleTruncated:
    return BundleTruncated(f"the tar is truncated: it ends at byte {position}")


def _require_end(blocks: Blocks, position: int, extensions: Extensions) -> None:
    """The first of the empty blocks that end a tar lies at ``position``."""
    if extensions.are_pending:
        raise BundleError(f"damaged tar: it ends at byte {position} with an extended header that is of no member")
    second = blocks.read(position + BLOCK, BLOCK)
    if not second:
        raise BundleTruncated(
            f"the tar is truncated: it ends at byte {position + BLOCK} with one empty block, where a tar ends with two"
        )
    if len(second) < BLOCK:
        raise _cut_short(position + BLOCK + len(second))
    if second != EMPTY:
        raise BundleError(f"damaged tar: a single empty block at byte {position}, where a tar ends with two")

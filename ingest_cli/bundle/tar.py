"""The tar format: walk an uncompressed tar's headers and say which members lie where.

Reads POSIX ustar, GNU and PAX headers. The standard library's reader is not used because it believes a header's
claim before it looks at the file (a 512-byte header can make it allocate gigabytes), and because it is slower.
Nothing is ever extracted by name; what is not a regular file or a folder is refused.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

from rich.filesize import decimal

from ..errors import BundleError, BundleTruncated, OnProblem, raise_problem

BLOCK = 512
# A PAX or GNU header longer than this describes nothing that a bundle may hold.
MAX_EXTENSION_BYTES = 1 << 20
MAX_NAME_BYTES = 4096
# What a time_t of 64 bits holds, with room for the rounding of a float.
MAX_MTIME = 2.0**62

REFUSED_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"S": "a sparse file",
    b"V": "a volume label",
    b"M": "a part of a multi-volume archive",
    b"D": "an incremental dump's folder",
}
REGULAR_TYPES = (b"0", b"\0", b"7")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: ``name`` without ``./`` parts; ``offset`` and ``size`` in bytes; ``mtime`` in seconds
    since 1970 (UTC)."""

    name: str
    offset: int
    size: int
    mtime: float


def is_header(block: bytes) -> bool:
    """Whether a 512-byte block is a tar header: its checksum holds (POSIX pax, "ustar Interchange Format")."""
    if len(block) != BLOCK or block == bytes(BLOCK):
        return False
    try:
        recorded = int(block[148:156].strip(b"\0 ") or b"-", 8)
    except ValueError:
        return False
    return recorded == sum(block) - sum(block[148:156]) + 8 * 0x20


def members(descriptor: int, on_problem: OnProblem = raise_problem) -> Iterator[Member]:
    """Yield the regular files of the tar open as ``descriptor``, in their order; folders are passed over.

    A member that no bundle may hold is reported as BundleError, and passed over too where that does not raise.
    Raises BundleTruncated where the file ends before the tar does, BundleError where no more can be read of it.
    """
    size = os.fstat(descriptor).st_size
    position = 0
    whole_tar: dict[str, str] = {}
    extension: dict[str, str] = {}
    while True:
        block = _read(descriptor, position, BLOCK)
        position += BLOCK
        if block == bytes(BLOCK):
            _expect_end(descriptor, position)
            return
        if not is_header(block):
            raise BundleError(f"damaged tar: no valid header at byte {position - BLOCK}")
        kind = block[156:157]
        length = _number(block[124:136], "size", position)
        if kind in (b"x", b"g", b"L", b"K"):
            body = _extension(descriptor, position, length)
            if kind == b"x":
                extension = {**extension, **_pax_records(body)}
            elif kind == b"g":
                whole_tar = {**whole_tar, **_pax_records(body)}
            elif kind == b"L":
                extension = {**extension, "path": _text(body.rstrip(b"\0"))}
        else:
            attributes = {**whole_tar, **extension}
            extension = {}
            length = _pax_size(attributes, length)
            if position + length > size:
                raise BundleTruncated(f"the tar is truncated: it ends at byte {size}, inside a member")
            try:
                member = _member(block, kind, attributes, position, length)
            except BundleError as error:
                on_problem(error)
                member = None
            if member is not None:
                yield member
        position += -(-length // BLOCK) * BLOCK


def _member(block: bytes, kind: bytes, attributes: dict[str, str], offset: int, length: int) -> Member | None:
    name = attributes.get("path") or _header_name(block)
    if kind == b"5" or (kind in REGULAR_TYPES and name.endswith("/")):
        safe_name(name, folder=True)
        return None
    if kind not in REGULAR_TYPES:
        what = REFUSED_TYPES.get(kind, f"of the unknown type {kind!r}")
        raise BundleError(f"{name!r} is {what}; a bundle holds regular files and folders only")
    if any(key.startswith("GNU.sparse") for key in attributes):
        raise BundleError(f"{name!r} is a sparse file; pack the bundle without tar's --sparse")
    return Member(safe_name(name), offset, length, _mtime(block, attributes, offset))


def safe_name(name: str, *, folder: bool = False) -> str:
    """A member's name without empty and ``.`` parts; refused where it would lead out of the bundle."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise BundleError(f"{name!r} points outside the bundle; member names must be relative and without '..'")
    if not parts and not folder:
        raise BundleError("a member of the tar has no name")
    return "/".join(parts)


def _read(descriptor: int, position: int, length: int) -> bytes:
    block = os.pread(descriptor, length, position)
    if len(block) < length:
        raise BundleTruncated(f"the tar is truncated: it ends at byte {position + len(block)}")
    return block


def _expect_end(descriptor: int, position: int) -> None:
    if _read(descriptor, position, BLOCK) != bytes(BLOCK):
        raise BundleError(f"damaged tar: a single empty block at byte {position - BLOCK}, where a tar ends with two")


def _extension(descriptor: int, position: int, length: int) -> bytes:
    if length > MAX_EXTENSION_BYTES:
        allowed = decimal(MAX_EXTENSION_BYTES)
        raise BundleError(f"the header at byte {position - BLOCK} is {decimal(length)} long; the limit is {allowed}")
    return _read(descriptor, position, length)


def _number(field: bytes, what: str, position: int) -> int:
    """A number field: octal digits, or GNU's base 256 where the first bit is set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        number = int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        number = -1
    if number < 0:
        raise BundleError(f"damaged tar: the {what} in the header at byte {position - BLOCK} is not a number")
    return number


def _pax_records(body: bytes) -> dict[str, str]:
    """``length key=value\\n`` records (POSIX pax, "pax Header Block"), sparse and known keys only."""
    records: dict[str, str] = {}
    start = 0
    while start < len(body) and body[start] != 0:
        digits, blank, _ = body[start : start + 24].partition(b" ")
        if not blank or not digits.isdigit():
            raise BundleError("damaged tar: an extended header's record has no length")
        record = body[start : start + int(digits)]
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if len(record) != int(digits) or not record.endswith(b"\n") or not equals:
            raise BundleError("damaged tar: an extended header's record is truncated")
        if key in (b"path", b"size", b"mtime") or key.startswith(b"GNU.sparse"):
            records[_text(key)] = _text(value[:-1])
        start += len(record)
    return records


def _pax_size(attributes: dict[str, str], length: int) -> int:
    if "size" not in attributes:
        return length
    if not attributes["size"].isdecimal() or len(attributes["size"]) > 19:
        raise BundleError(f"damaged tar: an extended header gives the size {attributes['size'][:40]!r}")
    return int(attributes["size"])


def _mtime(block: bytes, attributes: dict[str, str], position: int) -> float:
    try:
        mtime = float(attributes["mtime"]) if "mtime" in attributes else float(_signed(block[136:148], position))
    except (ValueError, OverflowError):
        mtime = math.nan
    if not -MAX_MTIME <= mtime <= MAX_MTIME:  # nan is not
        raise BundleError(f"damaged tar: the modification time at byte {position - BLOCK} is out of range")
    return mtime


def _signed(field: bytes, position: int) -> int:
    if field[0] == 0xFF:  # base 256, two's complement: before 1970
        return int.from_bytes(field, "big", signed=True)
    return _number(field, "modification time", position)


def _header_name(block: bytes) -> str:
    name = block[:100].partition(b"\0")[0]
    # GNU headers ("ustar  ") keep other things where POSIX keeps the prefix.
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(raw: bytes) -> str:
    if len(raw) > MAX_NAME_BYTES:
        raise BundleError(f"a member's name is {len(raw)} bytes long; the limit is {MAX_NAME_BYTES}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BundleError(f"a member's name is not UTF-8: {raw!r}") from None

"""One header of a tar: its numbers and its name, only in those forms that all readers of tars take for the same."""

import re
from zlib import adler32

from ..errors import BundleError
from ..text import counted, quoted

BLOCK = 512
EMPTY = bytes(BLOCK)
MAX_NAME_BYTES = 4096
# No disk holds more, and some readers give up.
MAX_SIZE = 1 << 60

# Mode, uid, gid, size, time and checksum, then two device numbers, as nearly every writer fills them in.
USUAL = re.compile(rb"(?:[0-7]{6}[0-7 ][\0 ]){3}([0-7]{11})[\0 ]([0-7]{11})[\0 ][0-7]{6}\0 ")
USUAL_DEVICES = re.compile(rb"(?:[0-7]{6}[0-7 ][\0 ]|\0{8}){2}")
CHECKSUM = re.compile(rb" *([0-7]+)[\0 ]*")
# A NUL ends a number, whatever stands behind it.
SIZE = re.compile(rb" *([0-7]+) *(?:\0.*)?", re.DOTALL)
# Some old writers put a sign before times ahead of 1970.
SIGNED = re.compile(rb" *(-?[0-7]+)? *(?:\0.*)?", re.DOTALL)
OTHER_FIELDS = {"mode": (100, 108), "uid": (108, 116), "gid": (116, 124), "major": (329, 337), "minor": (337, 345)}
FIRST_FIELD = re.compile(rb"[\0\x80\xff].*| *[0-7]*[\0 ]*", re.DOTALL)


def is_header(block: bytes) -> bool:
    """Whether a block is a tar's header: its checksum holds, be it one of unsigned bytes, as POSIX has it, or, as old
    writers have it, of signed ones."""
    found = CHECKSUM.fullmatch(block, 148, 156) if len(block) == BLOCK else None
    if found is None:
        return False
    recorded = int(found[1], 8)
    unsigned = _sum(block) - sum(block[148:156]) + 8 * 0x20
    # A signed byte is 256 less from 128 on, as none of the checksum itself is.
    return recorded == unsigned or recorded == unsigned - 256 * sum(byte > 127 for byte in block)


def _sum(block: bytes) -> int:
    """The sum of a block's bytes: the lower half of an Adler-32 is one more, where it does not overflow. `sum` takes
    five times as long."""
    half = BLOCK // 2
    return (adler32(block[:half]) & 0xFFFF) + (adler32(block[half:]) & 0xFFFF) - 2


def numbers_of(block: bytes, position: int) -> tuple[int, int | None]:
    """Size and modification time of a header, which lies at ``position``; None where it gives no time.

    Raises BundleError where a field is not a number: some readers end there.
    """
    usual = USUAL.match(block, 100)
    if usual is not None and USUAL_DEVICES.match(block, 329) is not None:
        return int(usual[1], 8), int(usual[2], 8)
    for what, (start, end) in OTHER_FIELDS.items():
        _signed(block[start:end], what, position)
    return _size(block[124:136], position), _signed(block[136:148], "modification time", position)


def name_of(block: bytes, position: int) -> str:
    """The name in a header itself, which lies at ``position``. Raises BundleError where not all read the same one."""
    name = block[:100].partition(b"\0")[0]
    if block[345] == 0:
        return text_of(name)
    if block[257:263] != b"ustar\0":
        # GNU tar --incremental and star keep times there in GNU's format; Python takes them for a part of the name.
        raise BundleError(
            f"{quoted(name)}, at byte {position} of the tar, has a longer name for some readers: pack it with"
            " tar --format=pax, without --incremental"
        )
    return text_of(block[345:500].partition(b"\0")[0] + b"/" + name)


def text_of(raw: bytes) -> str:
    """A name. Raises BundleError where it is too long or not UTF-8."""
    if len(raw) > MAX_NAME_BYTES:
        raise BundleError(f"a member's name is {counted(len(raw), 'byte')} long; the limit is {MAX_NAME_BYTES:,}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BundleError(f"a member's name is not UTF-8: {quoted(raw)}") from None


def has_sparse_map(block: bytes) -> bool:
    """Whether a header of GNU's has the map of a sparse file, be it marked as one or not: libarchive looks there."""
    return block[257:265] == b"ustar  \0" and block[386:495] != EMPTY[386:495]


def _size(field: bytes, position: int) -> int:
    octal = SIZE.fullmatch(field)
    size = int.from_bytes(field[1:], "big") if octal is None else int(octal[1], 8)
    is_number = octal is not None or field[0] == 0x80 or field == EMPTY[:12]
    if not is_number or size > MAX_SIZE or not _fits(field, position):
        raise _no_number("size", position)
    return size


def _signed(field: bytes, what: str, position: int) -> int | None:
    """Octal digits, or base 256 in two's complement for larger and negative numbers; None where it is blank."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    octal = SIGNED.fullmatch(field)
    if octal is None or not _fits(field, position):
        raise _no_number(what, position)
    return int(octal[1], 8) if octal[1] else None


def _fits(field: bytes, position: int) -> bool:
    """Whether libarchive knows a tar by its first header, where it is strict about what stands beside the digits."""
    return position > 0 or FIRST_FIELD.fullmatch(field) is not None


def _no_number(what: str, position: int) -> BundleError:
    return BundleError(f"damaged tar: the {what} in the header at byte {position} is not a number")

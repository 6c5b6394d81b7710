"""One header of a tar: its numbers and its name, only in those forms that all readers of tars take for the same."""

import re

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
OCTAL = re.compile(rb" *([0-7]+)[\0 ]*")
# Some old writers have times before 1970 with a sign.
SIGNED = re.compile(rb" *(-?[0-7]+)[\0 ]*")
BLANK = re.compile(rb" *\0*")
OTHER_FIELDS = {"mode": (100, 108), "uid": (108, 116), "gid": (116, 124), "major": (329, 337), "minor": (337, 345)}


def is_header(block: bytes) -> bool:
    """Whether a block is a tar's header: its checksum holds, be it one of unsigned bytes, as POSIX has it, or, as old
    writers have it, of signed ones."""
    found = OCTAL.fullmatch(block, 148, 156) if len(block) == BLOCK else None
    if found is None:
        return False
    recorded = int(found[1], 8)
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    # A signed byte is 256 less from 128 on, as none of the checksum itself is.
    return recorded == unsigned or recorded == unsigned - 256 * sum(byte > 127 for byte in block)


def numbers_of(block: bytes, position: int) -> tuple[int, int | None]:
    """Size and modification time of a header, which lies at ``position``; None where it gives no time.

    Raises BundleError where a field is not a number: some readers of tars end there.
    """
    usual = USUAL.match(block, 100)
    if usual is not None and USUAL_DEVICES.match(block, 329) is not None:
        return int(usual[1], 8), int(usual[2], 8)
    for what, (start, end) in OTHER_FIELDS.items():
        _signed(block[start:end], what, position)
    return _size(block[124:136], position), _signed(block[136:148], "modification time", position)


def is_old_sparse(block: bytes) -> bool:
    """Whether a header of GNU's has what tells of a sparse file, be it marked as one or not: libarchive looks there."""
    return block[257:265] == b"ustar  \0" and block[386:495] != bytes(109)


def name_of(block: bytes, position: int) -> str:
    """The name in a header itself, which lies at ``position``."""
    name = block[:100].partition(b"\0")[0]
    if block[345] == 0:
        return text_of(name)
    if block[257:263] != b"ustar\0":
        # GNU tar keeps other things there, in what --incremental makes; Python takes them for a part of the name.
        raise BundleError(
            f"{quoted(name)} has another name for some readers, since the header at byte {position} is not ustar's but"
            " fills its prefix: pack it with tar --format=pax"
        )
    return text_of(block[345:500].partition(b"\0")[0] + b"/" + name)


def text_of(raw: bytes) -> str:
    """A name, or another text, that has a name's length at most and is UTF-8. Raises BundleError."""
    if len(raw) > MAX_NAME_BYTES:
        raise BundleError(f"a member's name is {counted(len(raw), 'byte')} long; the limit is {MAX_NAME_BYTES:,}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BundleError(f"a member's name is not UTF-8: {quoted(raw)}") from None


def _size(field: bytes, position: int) -> int:
    octal = OCTAL.fullmatch(field)
    if octal is not None:
        return int(octal[1], 8)
    size = int.from_bytes(field[1:], "big")
    if (field[0] != 0x80 and field != EMPTY[:12]) or size > MAX_SIZE:
        raise _no_number("size", position)
    return size


def _signed(field: bytes, what: str, position: int) -> int | None:
    """Octal digits, or base 256 in two's complement, as larger and negative numbers often are; None where it is blank."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    octal = SIGNED.fullmatch(field)
    # With a sign in the first header libarchive takes the tar for none.
    if (octal is None and BLANK.fullmatch(field) is None) or (b"-" in field and position == 0):
        raise _no_number(what, position)
    return int(octal[1], 8) if octal is not None else None


def _no_number(what: str, position: int) -> BundleError:
    return BundleError(f"damaged tar: the {what} in the header at byte {position} is not a number")

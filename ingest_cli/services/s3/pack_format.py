"""What a pack looks like: a ZIP of small files that are stored as they are, each named by its id.

Its directory, at its end, says where each file begins, so that one is read without the others. Any program for ZIP
takes it apart. The comment of each file has its recorded hash and its modification time, in seconds since 1970.
"""

import struct
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

# As in APPNOTE.TXT of PKWARE, 4.3.7, 4.3.12 and 4.3.16.
LOCAL = struct.Struct("<4s5H3L2H")
ENTRY = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
LOCAL_MARK, ENTRY_MARK, END_MARK = b"PK\3\4", b"PK\1\2", b"PK\5\6"
FIRST_DATE, LAST_DATE = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
READ_ONLY = 0o100444 << 16


class Damaged(ValueError):
    """It is not what was written."""


@dataclass(frozen=True, slots=True)
class Small:
    """A file for a pack; ``hashed`` is its hash, behind its type and a colon."""

    data: bytes
    hashed: str
    mtime: float


@dataclass(frozen=True, slots=True)
class Packed:
    """Where in a pack a file lies, from ``start`` to ``stop`` with what stands before it, and what is noted of it."""

    start: int
    stop: int
    size: int
    crc: int
    hashed: str
    mtime: float

    def content(self, piece: bytes | memoryview) -> bytes:
        """The file, of this ``piece`` of the pack, which goes from its start to its stop. Raises Damaged."""
        if len(piece) != self.stop - self.start or bytes(piece[: len(LOCAL_MARK)]) != LOCAL_MARK:
            raise Damaged
        data = bytes(piece[len(piece) - self.size :])
        if zlib.crc32(data) != self.crc:
            raise Damaged
        return data


def pack_of(files: Mapping[int, Small]) -> bytes:
    """A pack of files, by their ids. The same files make the same pack."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file_id in sorted(files):
            small = files[file_id]
            entry = zipfile.ZipInfo(str(file_id), _date_of(small.mtime))
            entry.comment = f"{small.hashed} {small.mtime:.9f}".encode()
            entry.external_attr = READ_ONLY
            archive.writestr(entry, small.data)
    return out.getvalue()


def directory_start(tail: bytes, size: int) -> int:
    """Where its directory begins in a pack of this size that ends with ``tail``. Raises Damaged."""
    try:
        mark, *_, length, start, comment = END.unpack(tail[-END.size :])
    except struct.error as error:
        raise Damaged from error
    if mark != END_MARK or comment or start + length + END.size != size:
        raise Damaged
    return int(start)


def index_of(directory: bytes) -> dict[int, Packed]:
    """The files of a pack that ends with its ``directory``. Raises Damaged."""
    found: dict[int, Packed] = {}
    position, end = 0, len(directory) - END.size
    try:
        while position < end:
            fields = ENTRY.unpack_from(directory, position)
            mark, crc, size, name_length, extra, comment_length, start = (
                *fields[:1],
                *fields[7:8],
                *fields[9:13],
                fields[-1],
            )
            name = position + ENTRY.size
            comment = name + name_length + extra
            position = comment + comment_length
            hashed, _, mtime = directory[comment:position].decode().partition(" ")
            stop = start + LOCAL.size + name_length + size
            if mark != ENTRY_MARK or position > end:
                raise Damaged
            found[int(directory[name : name + name_length])] = Packed(start, stop, size, crc, hashed, float(mtime))
    except (struct.error, ValueError) as error:
        raise Damaged from error
    return found


def _date_of(mtime: float) -> tuple[int, int, int, int, int, int]:
    """The nearest that a ZIP can say, in UTC."""
    try:
        date = time.gmtime(mtime)[:6]
    except (OverflowError, ValueError, OSError):
        date = FIRST_DATE
    return min(max(date, FIRST_DATE), LAST_DATE)

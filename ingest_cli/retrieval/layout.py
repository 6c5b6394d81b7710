"""The tar of stored files, byte for byte, before any of them is read: which of its bytes come from which file.

It is the tar that Python's tarfile writes in PAX format. Its length is known beforehand, and it can be read from any
byte on without what comes before.
"""

import hashlib
import tarfile
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable
from itertools import accumulate
from typing import NamedTuple

from ..services.base import StoredFile

# The bytes of a stored file from one on to another.
Read = Callable[[StoredFile, int, int], Generator[bytes, None, None]]
Pieces = Generator[bytes, None, None]

# What fits into a header's fields; anything else has a header of its own before it.
LONGEST_NAME = 100
LARGEST_NUMBER = 8**11 - 1
# Another one wherever a later version of this program makes other bytes of the same members.
FORMAT = b"1"


class Member(NamedTuple):
    """A file of the tar: its name there, when it was changed, and what it holds: a stored file's bytes, or these."""

    name: str
    mtime: int
    source: StoredFile | bytes

    @property
    def size(self) -> int:
        """The length in bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.size


class Layout:
    """The tar of ``members``: ``size`` bytes long. ``digest`` is another one where a byte of it would be."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = list(members)
        lengths = (_header_size(member) + _padded(member.size, tarfile.BLOCKSIZE) for member in self._members)
        *self._offsets, self._end = accumulate(lengths, initial=0)
        self.size = _padded(self._end + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE)
        self.digest = _digest(self._members)

    def read(self, read: Read, start: int = 0, stop: int | None = None) -> Pieces:
        """The bytes from ``start`` on, up to ``stop``, in pieces of any length; those of files by ``read``."""
        stop = self.size if stop is None else min(stop, self.size)
        first = max(0, bisect_right(self._offsets, start) - 1)
        for offset, member in zip(self._offsets[first:], self._members[first:], strict=True):
            if offset >= stop:
                return
            yield from _read_member(member, read, start - offset, stop - offset)
        if stop > self._end:
            yield bytes(stop - max(start, self._end))


def _read_member(member: Member, read: Read, start: int, stop: int) -> Pieces:
    """A member's header, content and padding, as far as they lie from ``start`` to ``stop``, counted from its header;
    that may be before it."""
    header = _header(member) if start < _header_size(member) else b""
    begin = len(header) or _header_size(member)
    if wanted := header[max(0, start) : max(0, stop)]:
        yield wanted
    first, last = max(0, start - begin), min(stop - begin, member.size)
    if first < last or (member.size == 0 and start <= begin < stop):
        yield from _read_source(member.source, read, first, last)
    padding = _padded(member.size, tarfile.BLOCKSIZE) - member.size
    first, last = max(0, start - begin - member.size), min(stop - begin - member.size, padding)
    if first < last:
        yield bytes(last - first)


def _read_source(source: StoredFile | bytes, read: Read, start: int, stop: int) -> Pieces:
    if isinstance(source, bytes):
        yield source[start:stop]
    else:
        yield from read(source, start, stop)


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.size, info.mode, info.mtime = member.size, 0o644, member.mtime
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _header_size(member: Member) -> int:
    """The length of a member's header, which for most of them can be told without making it."""
    is_plain = (
        len(member.name) <= LONGEST_NAME
        and member.name.isascii()
        and member.size <= LARGEST_NUMBER
        and 0 <= member.mtime <= LARGEST_NUMBER
    )
    return tarfile.BLOCKSIZE if is_plain else len(_header(member))


def _padded(length: int, unit: int) -> int:
    return -(-length // unit) * unit


def _digest(members: Iterable[Member]) -> str:
    digest = hashlib.sha256(FORMAT)
    for name, mtime, source in members:
        what: tuple[object, ...]
        if isinstance(source, bytes):
            what = (hashlib.sha256(source).hexdigest(),)
        else:
            what = (source.file_id, source.size, source.hashtype, source.hashsum)
        digest.update(repr((name, mtime, what)).encode(errors="surrogateescape"))
    return digest.hexdigest()

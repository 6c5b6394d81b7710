"""The bytes of one file on their way into the archive: read, hashed, and compared with what was recorded."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import FileRefused
from .hashing import beside

CHUNK_BYTES = 1 << 20
# What an archive can share of a bundle, on a disk that can do so, begins and ends where one of its blocks does.
SHARED_BLOCK = 4096
# Sharing less takes as long as writing it.
SHARED_FROM_BYTES = 64 << 10


def shareable_bytes(offset: int, size: int) -> int:
    """How many of so many bytes, which begin at ``offset`` in a file, others can share, from the first one on."""
    is_worth_it = size >= SHARED_FROM_BYTES and offset % SHARED_BLOCK == 0
    return size - size % SHARED_BLOCK if is_worth_it else 0


@dataclass(frozen=True, slots=True)
class Content:
    """``size`` bytes from ``offset`` of an open file, recorded to hash to ``hashsum``.

    ``name`` is for messages; ``mtime`` in seconds since 1970 (UTC); ``observe`` is told the length of each chunk,
    and may raise to stop. So much is read at once: a ``piece``. The bytes of a file that was hashed before may be
    ``kept``, in pieces: then they are what it holds, whatever has become of the open file since. Whoever wants to have
    the bytes ``also``, as for another digest, gives what begins anew and takes them, each time that they are read.
    """

    name: str
    descriptor: int
    offset: int
    size: int
    mtime: float
    hashtype: str
    hashsum: str
    observe: Callable[[int], None]
    piece: int = CHUNK_BYTES
    kept: Sequence[bytes] | None = None
    also: Callable[[], Callable[[bytes], None]] | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes; after the last, raise FileRefused unless they are those that were recorded."""
        return self._chunks() if self.also is None else self._taken_too(self.also())

    def _taken_too(self, take: Callable[[bytes], None]) -> Iterator[bytes]:
        for chunk in self._chunks():
            take(chunk)
            yield chunk

    def _chunks(self) -> Iterator[bytes]:
        if self.kept is not None:
            for piece in self.kept:
                self.observe(len(piece))
                yield piece
            return
        digest = hashlib.new(self.hashtype, usedforsecurity=False)
        # The consumer writes a chunk while it is hashed.
        with beside(digest, self.size) as update:
            for chunk in self._read():
                update(chunk)
                yield chunk
        require_hash(self.name, self.hashtype, digest.hexdigest(), self.hashsum)

    def _read(self) -> Iterator[bytes]:
        position, end = self.offset, self.offset + self.size
        while position < end:
            chunk = os.pread(self.descriptor, min(self.piece, end - position), position)
            if not chunk:
                raise truncated(self.name)
            position += len(chunk)
            self.observe(len(chunk))
            yield chunk

    def verify(self) -> None:
        """Read the bytes and raise FileRefused unless they are those that were recorded."""
        for _ in self.chunks():
            pass


def require_hash(name: str, hashtype: str, found: str, recorded: str) -> None:
    """Raise FileRefused where the bytes of the file ``name`` hash to something else than is recorded."""
    if found != recorded:
        raise FileRefused(f"{name!r} hashes to {hashtype} {found}, but the metadata says {recorded}")


def truncated(name: str) -> FileRefused:
    """The error for a file that ends before its last byte."""
    return FileRefused(f"{name!r} was truncated while it was read")


def digest_of(pieces: Iterable[bytes], hashtype: str, size: int = 0) -> str:
    """The hash of bytes that come in pieces, ``size`` of them where that is known, as lower-case hex."""
    digest = hashlib.new(hashtype, usedforsecurity=False)
    with beside(digest, size) as update:
        for piece in pieces:
            update(piece)
    return digest.hexdigest()

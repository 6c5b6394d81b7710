"""The bytes of one file on their way into the archive: read, hashed, and compared with what was recorded."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ..errors import FileRefused

CHUNK_BYTES = 1 << 20
# From this size on, hashing in a second thread wins more than handing chunks over costs.
OVERLAP_FROM_BYTES = 8 << 20
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
    ``kept``, in pieces: then they are what it holds, whatever has become of the open file since.
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

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes; after the last, raise FileRefused unless they are those that were recorded."""
        if self.kept is not None:
            for piece in self.kept:
                self.observe(len(piece))
                yield piece
            return
        digest = hashlib.new(self.hashtype, usedforsecurity=False)
        if self.size < OVERLAP_FROM_BYTES:
            for chunk in self._read():
                digest.update(chunk)
                yield chunk
        else:
            # hashlib releases the GIL: the consumer writes a chunk, and the next one is read, while it is hashed.
            with ThreadPoolExecutor(1) as hasher:
                hashing: Future[None] | None = None
                for chunk in self._read():
                    if hashing is not None:
                        hashing.result()
                    hashing = hasher.submit(digest.update, chunk)
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


def digest_of(pieces: Iterable[bytes], hashtype: str) -> str:
    """The hash of bytes that come in pieces, as lower-case hex."""
    digest = hashlib.new(hashtype, usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()

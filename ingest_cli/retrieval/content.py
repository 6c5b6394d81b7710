"""The bytes of a stored file on their way out of the archive, compared with what was recorded."""

import hashlib
from contextlib import closing

from ..bundle.content import CHUNK_BYTES
from ..bundle.hashing import beside
from ..bundle.listed import HASH_TYPES
from ..errors import ArchiveError
from ..services.base import Archive, StoredFile
from ..text import counted
from .ahead import Ahead
from .layout import Pieces

# How much of a file is read only to be hashed, for whoever wants the rest of it: seconds, not minutes.
MOST_BEFORE_BYTES = 4 << 30


def read_content(
    archive: Archive, file: StoredFile, start: int = 0, stop: int | None = None, *, ahead: Ahead | None = None
) -> Pieces:
    """The bytes of a stored file from ``start`` on, up to ``stop``, in pieces.

    Before the last piece of the file is yielded, the whole file has been compared with what was recorded; but not
    where it would have to be read from MOST_BEFORE_BYTES before ``start``. With ``ahead``, whoever is slow to take the
    pieces keeps nobody else from the archive. Raises ArchiveError where the file is not what was recorded.
    """
    stop = file.size if stop is None else stop
    is_checked = stop == file.size and start <= MOST_BEFORE_BYTES
    position = 0 if is_checked else start
    digest = _digest_of(file)
    held = b""
    with closing(_read(archive, file, position, ahead)) as pieces, beside(digest, file.size) as update:
        for piece in pieces:
            if is_checked:
                update(piece)
            wanted = piece[max(0, start - position) : max(0, stop - position)]
            position += len(piece)
            if held and wanted:
                yield held
            held = wanted or held
            if position >= stop and not is_checked:
                break
    if position < stop:
        raise ArchiveError(f"file {file.file_id}, {file.path!r}, is shorter than {counted(file.size, 'byte')}")
    if is_checked and digest.hexdigest() != file.hashsum:
        raise ArchiveError(f"file {file.file_id}, {file.path!r}, does not match the catalogue: see 'ingest verify'")
    if held:
        yield held


def _read(archive: Archive, file: StoredFile, start: int, ahead: Ahead | None) -> Pieces:
    pieces = archive.read(file.file_id, start)
    if ahead is None or not archive.is_exclusive:
        return pieces
    return _at_once(pieces) if file.size - start <= CHUNK_BYTES else ahead.read(pieces)


def _at_once(pieces: Pieces) -> Pieces:
    yield b"".join(pieces)


def _digest_of(file: StoredFile) -> "hashlib._Hash":
    if file.hashtype not in HASH_TYPES:  # as another program's catalogue may have it
        raise ArchiveError(f"file {file.file_id}, {file.path!r}, has a hash of type {file.hashtype!r}")
    return hashlib.new(file.hashtype, usedforsecurity=False)

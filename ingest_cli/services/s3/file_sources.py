"""Moved files that come from a disk here: a copy is sent, and the source stays until it is released."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from ...bundle.fingerprint import identity_of
from ...disk import durable_write, explained, sync_folder
from ...errors import ArchiveError, RollbackFailed, SourceChanged, SourceMissing
from ..sources import each_caught, is_same_file, not_removed, put_back
from .bucket import Bucket
from .notes import HASH, MODE, MTIME

Read = Callable[[int], Iterator[bytes]]


class FileSources:
    """The sources of one run; ``read`` gives the bytes of a file of the archive in ``bucket``."""

    def __init__(self, bucket: Bucket, ids: range, fence: int, read: Read) -> None:
        self._bucket, self._ids, self._fence, self._read = bucket, ids, fence, read
        self._copied: dict[int, tuple[int, ...]] = {}
        self._changed_in: set[Path] = set()

    def has_sent(self, file_id: int) -> bool:
        """Whether this run has sent the file from a source."""
        return file_id in self._copied

    def note_sent(self, file_id: int, found: os.stat_result) -> None:
        """Remember which file has been sent."""
        self._copied[file_id] = identity_of(found)

    def is_stored(self, file_id: int, source: Path) -> bool:
        """Whether the file at ``source`` is the one that this run has sent, or of the same bytes."""
        found = os.lstat(source)
        if not stat.S_ISREG(found.st_mode):
            return False
        if file_id in self._copied:
            return self._copied[file_id] == identity_of(found)
        with source.open("rb") as file:
            return all(file.read(len(piece)) == piece for piece in self._read(file_id)) and not file.read(1)

    def bring_back(self, file_id: int, key: str, source: Path) -> None:
        """Write the file to ``source``, where nothing may stand."""
        action = f"move back file {file_id}"
        found = self._bucket.find(key, action)
        if found is None:
            return
        hashtype, _, hashsum = found.notes.get(HASH, "").partition(":")
        mode = int(found.notes.get(MODE, "600"), 8)
        digest = hashlib.new(hashtype or "sha1", usedforsecurity=False)
        try:
            with durable_write(source, mode=mode) as file:
                for piece in self._bucket.get(key, 0, action) or ():
                    digest.update(piece)
                    file.write(piece)
                if hashsum and digest.hexdigest() != hashsum:
                    raise RollbackFailed(f"{self._bucket.location(key)} is not what was moved from {source}")
                file.flush()
                mtime = float(found.notes.get(MTIME, "0"))
                os.utime(file.fileno(), (mtime, mtime))
        except OSError as error:
            message = f"cannot move {self._bucket.location(key)} back to {source}"
            raise explained(error, message, RollbackFailed, source) from error

    def release(self, file_id: int, source: Path, hashed: os.stat_result | None) -> None:
        """Remove the source, if it still is the file that was moved."""
        try:
            for caught in each_caught(source, self._ids.start, self._fence, file_id, hashed):
                self._remove_caught(file_id, source, caught, hashed)
        except OSError as error:
            raise not_removed(error, source, str(self._bucket.place)) from error

    def sync(self) -> None:
        """Have what was removed stay so."""
        for folder in tuple(self._changed_in):
            try:
                sync_folder(folder)
            except OSError as error:
                raise explained(error, f"cannot sync {folder}", ArchiveError, folder) from error
            self._changed_in.discard(folder)

    def _remove_caught(self, file_id: int, source: Path, caught: Path, hashed: os.stat_result | None) -> None:
        try:
            found = os.lstat(caught)
            if stat.S_ISREG(found.st_mode) and not found.st_size and not self.is_stored(file_id, caught):
                os.unlink(caught)  # of a run that was killed before it renamed the source to it
                return
            is_other = hashed is not None and not is_same_file(found, hashed)
            if hashed is not None and not is_other and identity_of(found) != identity_of(hashed):
                raise ArchiveError(f"{source} was modified after it was moved, so it is kept; see 'ingest verify'")
            if not is_other and self.is_stored(file_id, caught):
                os.unlink(caught)
                self._changed_in.add(source.parent)
        finally:
            if os.path.lexists(caught):
                put_back(caught, source)


def require_at(source: Path, hashed: os.stat_result) -> None:
    """Raise where the file that was hashed is not at ``source``."""
    try:
        found = os.lstat(source)
    except FileNotFoundError as error:
        raise SourceMissing(f"the source {source} no longer exists") from error
    except OSError as error:
        raise explained(error, f"cannot look at {source}", SourceMissing, source) from error
    if identity_of(found) != identity_of(hashed):
        raise SourceChanged(f"the source {source} was changed after it was hashed")

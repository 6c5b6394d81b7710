"""How one run of a job changes an archive in storage that speaks S3; why it is safe stands in `archive`."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...bundle.content import CHUNK_BYTES, Content
from ...errors import ArchiveError, IngestError, LeaseLost, RollbackFailed, ServiceUnavailable, StopRequested
from ...text import counted
from ..base import require_within
from .bucket import Bucket, part_bytes
from .file_sources import FileSources, Read, require_at
from .keys import folder_of, key_of, parsed
from .notes import HASH, MODE, MTIME
from .object_sources import ObjectSources
from .sums import PartSums, tag_of

# So many uploads in parts are under way at once: each keeps some of its parts in memory.
LARGE_AT_ONCE = 4
# So many files of a job that is undone are deleted with one request.
DELETED_TOGETHER = 500
# So many folders are remembered of what earlier runs left in them.
MOST_FOLDERS = 64


class S3Writer:
    """One run's way to change the archive in ``bucket``; ``read`` gives the bytes of one of its files.

    Where ``tags_are_sums``, an object of another tag than the one computed here is not what was sent. ``resent`` is 0:
    obstore does not tell how often it tried.
    """

    resent = 0

    def __init__(
        self,
        bucket: Bucket,
        ids: range,
        fence: int,
        *,
        resumed: bool,
        require: Callable[[], None],
        tags_are_sums: bool,
        read: Read,
    ) -> None:
        self._bucket, self._ids, self._fence, self._require = bucket, ids, fence, require
        self._resumed, self._tags_are_sums = resumed, tags_are_sums
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)
        self._lock, self._listing = threading.Lock(), threading.Lock()
        self._left: dict[str, dict[int, list[str]]] = {}
        self._doomed: list[str] = []
        self._files, self._objects = FileSources(bucket, ids, fence, read), ObjectSources(bucket)
        self._has_written = self._has_uploaded = False
        if resumed and ids:
            self._end_uploads()

    def put(self, file_id: int, content: Content) -> None:
        """Send the content, hashed on its way, at once or in parts, and confirm what is stored."""
        # No other run counts on a file that was not noted as stored.
        with self._taken_back(file_id, lambda: True):
            self._put(file_id, content, {})

    def stage(self, file_id: int, content: Content) -> None:
        """Nothing is staged: what is stored is an object of its own at once."""
        raise NotImplementedError

    def place(self, file_id: int) -> None:
        """Nothing is staged."""
        raise NotImplementedError

    def move(self, file_id: int, source: Path, size: int, content: Content | None) -> None:
        """Send the file, or have storage copy an object of its own, /BUCKET/KEY; the source stays until `release`."""
        require_within(self._ids, file_id)
        if content is None:
            with self._taken_back(file_id, lambda: False):
                self._copy(file_id, source, size)
            return
        found = os.fstat(content.descriptor)
        require_at(source, found)
        # But for a moved one whose source is gone.
        with self._taken_back(file_id, lambda: os.path.lexists(source)):
            self._put(file_id, content, {MODE: f"{stat.S_IMODE(found.st_mode):o}"})
        require_at(source, found)
        self._files.note_sent(file_id, found)

    def holds(self, file_id: int, hashed: os.stat_result) -> bool:
        """False: what is stored is a copy."""
        return False

    def was_changed(self, file_id: int, hashed: os.stat_result) -> bool:
        """False: the source can be written to, but not what is stored."""
        return False

    def move_back(self, file_id: int, source: Path) -> None:
        """Delete the copy of a file that is still at ``source``; else bring it back there.

        Raises RollbackFailed where another file is there now, or where the moved one is missing.
        """
        require_within(self._ids, file_id)
        keys = self._keys(file_id)
        if keys and (copied := self._objects.tag_of(keys[-1], source)) is not None:
            self._objects.copy_back(file_id, keys[-1], source, copied)
        elif os.path.lexists(source):
            if keys and not self._files.is_stored(file_id, source):
                location = self._bucket.location(keys[-1])
                raise RollbackFailed(f"the archive still holds {location}: another file is at {source} now")
        elif keys:
            self._files.bring_back(file_id, keys[-1], source)
        elif not self._resumed:
            raise RollbackFailed(f"neither {source} nor file {file_id} of the archive exists")
        self.delete(file_id)

    def release(self, file_id: int, source: Path, hashed: os.stat_result | None) -> None:
        """Remove the source, if it still is the file that was moved."""
        require_within(self._ids, file_id)
        self._require()
        if not self._files.has_sent(file_id) and (keys := self._keys(file_id)):
            copied = self._objects.tag_of(keys[-1], source)
            if copied is not None:
                self._objects.release(source, copied)
                return
        self._files.release(file_id, source, hashed)

    def delete(self, file_id: int) -> None:
        """Delete what this run, and those before it, have stored of the file: of many files together, where a job is
        undone, of which the last ones go with `flush`."""
        require_within(self._ids, file_id)
        with self._lock:
            self._doomed += self._keys(file_id)
            is_due = len(self._doomed) >= (DELETED_TOGETHER if self._resumed else 1)
        if is_due:
            self._delete_doomed()

    def flush(self) -> None:
        """Delete what is to be deleted, and sync the folders of sources. What storage has answered for is durable."""
        self._delete_doomed()
        self._files.sync()

    def close(self) -> None:
        """End the uploads that were begun twice, since the first answer was lost."""
        if self._has_uploaded:
            with suppress(IngestError):
                self._end_uploads()
            self._has_uploaded = False

    def _put(self, file_id: int, content: Content, notes: dict[str, str]) -> None:
        require_within(self._ids, file_id)
        notes = {HASH: f"{content.hashtype}:{content.hashsum}", MTIME: f"{content.mtime:.9f}", **notes}
        if content.size <= CHUNK_BYTES:
            self._send(file_id, content, notes)
        else:
            with self._large:
                self._upload(file_id, content, notes)
        self._supersede(file_id)

    @contextmanager
    def _taken_back(self, file_id: int, is_of_no_use: Callable[[], bool]) -> Iterator[None]:
        """What is stored is deleted again where the run turns out to have lost its job, and no other counts on it."""
        try:
            yield
        except (LeaseLost, StopRequested):
            with suppress(IngestError):
                if is_of_no_use() or self._is_stored_later(file_id):
                    self._bucket.delete([key_of(file_id, self._fence)], f"delete file {file_id}")
            raise

    def _supersede(self, file_id: int) -> None:
        """What earlier runs have stored of the file is to be deleted, now that this one has."""
        # Frozen just before it was sent, and thawed when the job was another's, it is to be gone again.
        self._require()
        if older := [key for key in self._left_by_others(file_id) if key != key_of(file_id, self._fence)]:
            with self._lock:
                self._doomed += older

    def _delete_doomed(self) -> None:
        """Delete what this run undoes, or has stored anew."""
        with self._lock:
            keys, self._doomed = self._doomed, []
        if not keys:
            return
        self._require()
        try:
            self._bucket.delete(keys, f"delete {counted(len(keys), 'file')}")
        except IngestError as error:
            with self._lock:
                self._doomed += keys
            if error.transient:
                raise
            raise RollbackFailed(str(error)) from error

    def _is_stored_later(self, file_id: int) -> bool:
        keys = (parsed(key) for key, _ in self._bucket.keys(folder_of(file_id), f"look for file {file_id}"))
        return any(found is not None and found[0] == file_id and found[1] > self._fence for found in keys)

    def _send(self, file_id: int, content: Content, notes: dict[str, str]) -> None:
        key, action = key_of(file_id, self._fence), f"store {content.name!r}"
        data = b"".join(content.chunks())
        self._require()
        self._has_written = True
        tag = self._bucket.put(key, data, notes, action, create=True)
        if tag is not None:
            self._confirm(key, content, tag, tag_of(data), action)
        elif not self._is_own(key, content, action):
            raise ArchiveError(
                f"the archive already holds {self._bucket.location(key)}, which is not {content.name!r}:"
                " does the id store belong to this archive?"
            )

    def _upload(self, file_id: int, content: Content, notes: dict[str, str]) -> None:
        key, action = key_of(file_id, self._fence), f"store {content.name!r}"
        sums = PartSums(part_bytes(content.size))
        self._has_written = self._has_uploaded = True
        try:
            tag = self._bucket.upload(key, sums.of(self._until_lost(content)), content.size, notes, action)
        except (ArchiveError, ServiceUnavailable):
            # The last answer may be the one that was lost.
            if not self._is_own(key, content, action):
                raise
        else:
            self._confirm(key, content, tag, sums.tag, action)

    def _until_lost(self, content: Content) -> Iterator[bytes]:
        """The chunks; an error, in place of their end, where the run has lost its job, so that nothing is stored."""
        yield from content.chunks()
        self._require()

    def _confirm(self, key: str, content: Content, tag: str, expected: str, action: str) -> None:
        """See that what is stored is what was sent: by its tag, else by its size."""
        if tag == expected:
            return
        is_sum = self._tags_are_sums and tag.partition("-")[2] == expected.partition("-")[2]
        found = self._bucket.find(key, action)
        if found is None or found.size != content.size or is_sum:
            self._bucket.delete([key], action)
            raise ServiceUnavailable(f"{self._bucket.location(key)} was not stored as it was sent, and was deleted")

    def _is_own(self, key: str, content: Content, action: str) -> bool:
        """Whether what is stored under the key is this content: then the answer to it was lost."""
        found = self._bucket.find(key, action)
        if found is None or found.size != content.size:
            return False
        noted = found.notes.get(HASH)
        if noted is not None:
            return noted == f"{content.hashtype}:{content.hashsum}"
        digest = hashlib.new(content.hashtype, usedforsecurity=False)
        for piece in self._bucket.get(key, 0, action) or ():
            digest.update(piece)
        return digest.hexdigest() == content.hashsum

    def _end_uploads(self) -> None:
        """Put an end to the uploads of this run and of those before it."""
        for upload in self._bucket.uploads("list unfinished uploads"):
            found = parsed(upload.key)
            if found is not None and found[0] in self._ids and found[1] <= self._fence:
                self._bucket.abort(upload, "end an upload of an earlier run")

    def _keys(self, file_id: int) -> list[str]:
        """The keys under which the file may be stored by this run or by those before it; the latest one is the last."""
        own = [key_of(file_id, self._fence)] if self._has_written else []
        return list(dict.fromkeys([*self._left_by_others(file_id), *own]))

    def _left_by_others(self, file_id: int) -> list[str]:
        """The keys under which a writer before this one has stored the file, by their fences."""
        if not self._resumed:
            return []
        folder = folder_of(file_id)
        with self._listing:
            found = self._left.get(folder)
            if found is None:
                if len(self._left) >= MOST_FOLDERS:
                    self._left.clear()
                found = self._left[folder] = self._listed(folder)
        return found.get(file_id, [])

    def _listed(self, folder: str) -> dict[int, list[str]]:
        found: dict[int, list[tuple[int, str]]] = {}
        for key, _ in self._bucket.keys(folder, "look for what earlier runs have left"):
            ours = parsed(key)
            if ours is not None and ours[0] in self._ids and ours[1] <= self._fence:
                found.setdefault(ours[0], []).append((ours[1], key))
        return {file_id: [key for _, key in sorted(keys)] for file_id, keys in found.items()}

    def _copy(self, file_id: int, source: Path, size: int) -> None:
        action = f"copy {source} to file {file_id}"
        found = self._objects.find(source, size, action)
        self._require()
        self._has_written = True
        self._has_uploaded = self._has_uploaded or found.size > self._bucket.most_copied
        self._objects.copy(source, found, key_of(file_id, self._fence), action)
        self._supersede(file_id)

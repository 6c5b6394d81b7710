"""How one run of a job changes an archive in storage that speaks S3; why it is safe stands in `archive`."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...bundle.content import CHUNK_BYTES, Content
from ...errors import IngestError, LeaseLost, RollbackFailed, StopRequested
from ..base import require_within
from .bucket import Bucket
from .file_sources import FileSources, Read, require_at
from .keys import PackKey, folder_of, key_of, parsed
from .left import Left
from .notes import HASH, MODE, MTIME
from .object_sources import ObjectSources
from .pack_format import Packed, Small, pack_of
from .packing import FilledPack, Packing
from .packs import Packs
from .sending import Sender

# So many uploads in parts are under way at once: each keeps some of its parts in memory.
LARGE_AT_ONCE = 4
# So many objects of a job that is undone are deleted with one request.
DELETED_TOGETHER = 500


class S3Writer:
    """One run's way to change the archive in ``bucket``, which has ``packs``; ``read`` gives the bytes of a file.

    Files of less than ``pack_below`` bytes are packed. Where ``tags_are_sums``, an object of another tag than the one
    computed here is not what was sent. ``resent`` is 0: obstore does not tell how often it tried.
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
        packs: Packs,
        pack_below: int,
    ) -> None:
        self._bucket, self._ids, self._fence, self._require = bucket, ids, fence, require
        self._resumed, self._packs, self._pack_below = resumed, packs, pack_below
        self._sender = Sender(bucket, require, tags_are_sums=tags_are_sums)
        self._left = Left(bucket, ids, fence, require, resumed=resumed)
        self._packing = Packing(ids, self._send_pack)
        self._files, self._objects = FileSources(bucket, ids, fence, read), ObjectSources(bucket)
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)
        self._has_uploaded = False
        if resumed and ids:
            self._end_uploads()

    def put(self, file_id: int, content: Content) -> None:
        """Send the content, hashed on its way, at once or in parts, and confirm what is stored; or pack it."""
        require_within(self._ids, file_id)
        if content.size < self._pack_below:
            hashed = f"{content.hashtype}:{content.hashsum}"
            self._packing.add(file_id, Small(b"".join(content.chunks()), hashed, content.mtime))
            return
        # No other run counts on a file that was not noted as stored.
        with self._taken_back(key_of(file_id, self._fence), lambda: True):
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
            with self._taken_back(key_of(file_id, self._fence), lambda: self._is_stored_later(file_id)):
                self._copy(file_id, source, size)
            return
        found = os.fstat(content.descriptor)
        require_at(source, found)
        # But for a moved one whose source is gone.
        with self._taken_back(
            key_of(file_id, self._fence), lambda: os.path.lexists(source) or self._is_stored_later(file_id)
        ):
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
        keys = self._left.keys(file_id)
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
        if not self._files.has_sent(file_id) and (keys := self._left.keys(file_id)):
            copied = self._objects.tag_of(keys[-1], source)
            if copied is not None:
                self._objects.release(source, copied)
                return
        self._files.release(file_id, source, hashed)

    def delete(self, file_id: int) -> None:
        """Delete what this run, and those before it, have stored of the file: of many files together, where a job is
        undone, of which the last ones go with `flush`."""
        require_within(self._ids, file_id)
        self._packing.drop(file_id)
        self._left.dismiss(file_id)
        self._left.delete(DELETED_TOGETHER if self._resumed else 1)

    def flush(self) -> None:
        """Send what is packed, delete what is to be deleted, and sync the folders of sources. What storage has answered
        for is durable."""
        self._packing.flush()
        for pack, needed in self._left.parts().items():
            self._unpack(pack, needed)
        self._left.delete()
        self._files.sync()

    def close(self) -> None:
        """End the uploads that were begun twice, since the first answer was lost."""
        if self._has_uploaded:
            with suppress(IngestError):
                self._end_uploads()
            self._has_uploaded = False

    def _put(self, file_id: int, content: Content, notes: dict[str, str]) -> None:
        require_within(self._ids, file_id)
        key = key_of(file_id, self._fence)
        notes = {HASH: f"{content.hashtype}:{content.hashsum}", MTIME: f"{content.mtime:.9f}", **notes}
        if content.size <= CHUNK_BYTES:
            data = b"".join(content.chunks())
            self._left.note_sent()
            self._sender.send(key, data, notes, repr(content.name))
        else:
            with self._large:
                self._left.note_sent()
                self._has_uploaded = True
                self._sender.upload(key, content, notes)
        self._supersede([file_id])

    def _send_pack(self, pack: FilledPack) -> None:
        """Store a pack: all of its files, or none."""
        key, data = pack.key(self._fence), pack_of(pack.files)
        notes = {HASH: f"sha256:{hashlib.sha256(data).hexdigest()}"}
        self._left.note_sent(key)
        # None of its files was noted as stored.
        with self._taken_back(str(key), lambda: True):
            self._sender.send(str(key), data, notes, f"files {key.first} to {key.last}")
            self._supersede(pack.files)
        self._packs.forget(folder_of(key.first))

    def _unpack(self, key: PackKey, needed: set[int]) -> None:
        """Store those files of a pack that are needed as objects of their own: others of it are to be deleted."""
        self._packs.forget(folder_of(key.first))
        found = [(str(key), self._bucket.find(str(key), f"look at {key}"))]
        self._packs.note(folder_of(key.first), [(text, stored.size) for text, stored in found if stored is not None])
        for file_id in sorted(needed):
            if (packed := self._packs.find(file_id)) is not None:
                self._send_unpacked(file_id, self._packs.read(*packed), packed[1])
        self._left.doom(key)
        self._packs.forget(folder_of(key.first))

    def _send_unpacked(self, file_id: int, data: bytes, packed: Packed) -> None:
        notes = {HASH: packed.hashed, MTIME: f"{packed.mtime:.9f}"}
        with self._taken_back(key_of(file_id, self._fence), lambda: True):
            self._sender.send(key_of(file_id, self._fence), data, notes, f"file {file_id}")
            self._require()

    @contextmanager
    def _taken_back(self, key: str, is_of_no_use: Callable[[], bool]) -> Iterator[None]:
        """What is stored is deleted again where the run turns out to have lost its job, and no other counts on it."""
        try:
            yield
        except (LeaseLost, StopRequested):
            with suppress(IngestError):
                if is_of_no_use():
                    self._bucket.delete([key], f"delete {key}")
            raise

    def _supersede(self, file_ids: Iterable[int]) -> None:
        """What earlier runs have stored of the files is to be deleted, now that this one has."""
        # Frozen just before it was sent, and thawed when the job was another's, it is to be gone again.
        self._require()
        self._left.supersede(file_ids)

    def _is_stored_later(self, file_id: int) -> bool:
        keys = (parsed(key) for key, _ in self._bucket.keys(folder_of(file_id), f"look for file {file_id}"))
        return any(found is not None and found[0] == file_id and found[1] > self._fence for found in keys)

    def _end_uploads(self) -> None:
        """Put an end to the uploads of this run and of those before it."""
        for upload in self._bucket.uploads("list unfinished uploads"):
            found = parsed(upload.key)
            if found is not None and found[0] in self._ids and found[1] <= self._fence:
                self._bucket.abort(upload, "end an upload of an earlier run")

    def _copy(self, file_id: int, source: Path, size: int) -> None:
        action = f"copy {source} to file {file_id}"
        found = self._objects.find(source, size, action)
        self._require()
        self._left.note_sent()
        self._has_uploaded = self._has_uploaded or found.size > self._bucket.most_copied
        self._objects.copy(source, found, key_of(file_id, self._fence), action)
        self._supersede([file_id])

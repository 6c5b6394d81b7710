"""What the runs of a job have stored of its files, and which of it is not needed any more.

A pack is deleted as a whole, when none of the files that may be in it is needed: each was stored anew, or is to be
deleted. What earlier runs have noted as stored is not stored anew, so that packs with such files stay.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ...errors import IngestError, RollbackFailed
from ...text import counted
from .bucket import Bucket
from .keys import PackKey, folder_of, key_of, parsed, parsed_pack

# So many folders are remembered.
MOST_FOLDERS = 64


@dataclass(slots=True)
class _Folder:
    """The objects in a folder, by their files and fences, and of each pack the files that are needed."""

    objects: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    packs: dict[PackKey, set[int]] = field(default_factory=dict)


class Left:
    """What this run, and those before it, have stored of the files ``ids``; ``resumed`` says that there are some.

    ``require`` raises where this run has lost its job.
    """

    def __init__(self, bucket: Bucket, ids: range, fence: int, require: Callable[[], None], *, resumed: bool) -> None:
        self._bucket, self._ids, self._fence, self._require = bucket, ids, fence, require
        self._resumed, self._has_sent, self._has_packed = resumed, False, False
        self._lock, self._listing = threading.Lock(), threading.Lock()
        self._folders: OrderedDict[str, _Folder] = OrderedDict()
        # Of packs from which some files are to be deleted: those that stay.
        self._parts: dict[PackKey, set[int]] = {}
        self._doomed: list[str] = []

    def note_sent(self, pack: PackKey | None = None) -> None:
        """This run has sent something, or is about to."""
        self._has_sent = True
        if pack is not None:
            with self._listing:
                self._has_packed = True
                if (folder := self._folders.get(folder_of(pack.first))) is not None:
                    folder.packs[pack] = set(pack.ids)

    def keys(self, file_id: int) -> list[str]:
        """The keys under which the file may be an object of its own; the latest one is the last."""
        own = [key_of(file_id, self._fence)] if self._has_sent else []
        return list(dict.fromkeys([*self._objects(file_id), *own]))

    def supersede(self, file_ids: Iterable[int]) -> None:
        """What earlier runs have stored of these files is to be deleted, now that this one has."""
        if not self._resumed:
            return
        for file_id in file_ids:
            self._doom(key for key in self._objects(file_id) if key != key_of(file_id, self._fence))
            self._let_go(file_id, self._fence - 1)

    def dismiss(self, file_id: int) -> None:
        """All that is stored of the file is to be deleted."""
        self._doom(self.keys(file_id))
        if self._resumed or self._has_packed:
            self._parts.update(self._let_go(file_id, self._fence))

    def parts(self) -> dict[PackKey, set[int]]:
        """The packs of which some files are to be deleted and others are not, and which may be these others."""
        return {pack: set(needed) for pack, needed in self._parts.items()}

    def doom(self, pack: PackKey) -> None:
        """A pack is to be deleted, since what is needed of it is stored elsewhere."""
        self._parts.pop(pack, None)
        self._doom([str(pack)])

    def delete(self, least: int = 1) -> None:
        """Delete what is to be deleted, where it is so much at least. Raises RollbackFailed where it remains."""
        with self._lock:
            if len(self._doomed) < least:
                return
            keys, self._doomed = self._doomed, []
        self._require()
        try:
            self._bucket.delete(keys, f"delete {counted(len(keys), 'object')}")
        except IngestError as error:
            with self._lock:
                self._doomed += keys
            if error.transient:
                raise
            raise RollbackFailed(str(error)) from error

    def _doom(self, keys: Iterable[str]) -> None:
        with self._lock:
            self._doomed += keys

    def _let_go(self, file_id: int, fence: int) -> dict[PackKey, set[int]]:
        """The file is not needed of packs up to this fence. Which of them hold files that are, and which these are."""
        left = {}
        with self._listing:
            packs = self._folder(file_id).packs
            for pack in [pack for pack in packs if pack.fence <= fence and file_id in pack.ids]:
                packs[pack].discard(file_id)
                if packs[pack]:
                    left[pack] = packs[pack]
                else:
                    del packs[pack]
                    self.doom(pack)
        return left

    def _objects(self, file_id: int) -> list[str]:
        if not self._resumed:
            return []
        with self._listing:
            return [key for _, key in sorted(self._folder(file_id).objects.get(file_id, []))]

    def _folder(self, file_id: int) -> _Folder:
        name = folder_of(file_id)
        found = self._folders.pop(name, None) or self._listed(name)
        self._folders[name] = found
        if len(self._folders) > MOST_FOLDERS:
            self._folders.popitem(last=False)
        return found

    def _listed(self, name: str) -> _Folder:
        found = _Folder()
        for key, _ in self._bucket.keys(name, "look for what earlier runs have left"):
            if (ours := parsed(key)) is not None and ours[0] in self._ids and ours[1] <= self._fence:
                found.objects.setdefault(ours[0], []).append((ours[1], key))
            elif (pack := parsed_pack(key)) is not None and pack.first in self._ids and pack.fence <= self._fence:
                found.packs[pack] = self._parts.get(pack) or set(pack.ids)
        return found

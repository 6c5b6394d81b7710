"""Reading files from packs, without asking storage for each of them what it has answered a moment ago.

Which packs lie in a folder of keys is believed for some seconds, and the directory of a pack for as long as it lies
there, since no object changes. Of a pack from which one small file after the other is read all is kept for a while.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable

from ...errors import ArchiveError
from .bucket import Bucket
from .keys import PackKey, folder_of, parsed_pack
from .pack_format import Damaged, Packed, directory_start, index_of

# What the directory of a pack takes at most, with the longest of hashes.
TAIL_BYTES = 64 << 10
# A pack of this size, or smaller, is read whole at once.
WHOLE_BYTES = 512 << 10
# All of a pack is read for its second file, where its files are no larger than this on average: a request costs more.
SMALL_BYTES = 128 << 10
# So much is kept of packs that were read whole. One that was let go of too often is read file by file.
KEPT_BYTES, MOST_READINGS = 64 << 20, 3
# How long it is believed what lies in a folder, and of how many it is.
LOOK_SECONDS, MOST_FOLDERS = 10.0, 64


class Gone(ArchiveError):
    """A pack is not there any more, though it was listed."""


class Packs:
    """The packs of the archive in ``bucket``, for as many threads as like to. Raises ArchiveError for a damaged one."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._lock = bucket, threading.Lock()
        self._folders: OrderedDict[str, tuple[float, list[Pack]]] = OrderedDict()
        self._kept: OrderedDict[Pack, int] = OrderedDict()

    def find(self, file_id: int, *, strict: bool = False) -> "tuple[Pack, Packed] | None":
        """The pack that holds the file, and where; None where none of those holds it that were listed just now. Only
        if ``strict``, it raises for one that may hold it and is damaged."""
        folder = folder_of(file_id)
        with self._lock:
            since, packs = self._folders.get(folder, (0.0, []))
            if packs and time.monotonic() - since > LOOK_SECONDS:
                packs = []
        for pack in packs:
            if file_id in pack.key.ids and (packed := self._index(pack, strict=strict).get(file_id)) is not None:
                return pack, packed
        return None

    def _index(self, pack: "Pack", *, strict: bool) -> dict[int, Packed]:
        try:
            return self.index(pack)
        except ArchiveError:
            if strict:
                raise
            return {}

    def note(self, folder: str, listed: Iterable[tuple[str, int]]) -> None:
        """Take note of which objects lie in a folder now, by their keys and sizes."""
        sizes = {key: size for text, size in listed if (key := parsed_pack(text)) is not None}
        with self._lock:
            _, before = self._folders.pop(folder, (0.0, []))
            for pack in before:
                self._let_go(pack)
            known = {pack.key: pack for pack in before if sizes.get(pack.key) == pack.size}
            # The latest run's first.
            keys = sorted(sizes, key=lambda key: key.fence, reverse=True)
            packs = [known.get(key) or Pack(key, size=sizes[key]) for key in keys]
            if packs:
                self._folders[folder] = time.monotonic(), packs
            while len(self._folders) > MOST_FOLDERS:
                _, (_, gone) = self._folders.popitem(last=False)
                for pack in gone:
                    self._let_go(pack)

    def listed(self, folder: str) -> "list[Pack]":
        """The packs that were noted of a folder."""
        with self._lock:
            return list(self._folders.get(folder, (0.0, []))[1])

    def forget(self, folder: str) -> None:
        """Believe nothing of a folder any more."""
        self.note(folder, ())

    def index(self, pack: "Pack") -> dict[int, Packed]:
        """Its files, by their ids."""
        with pack.lock:
            if pack.index is None:
                pack.index = self._read_index(pack)
            return pack.index

    def read(self, pack: "Pack", packed: Packed) -> bytes:
        """A file of the pack."""
        index = self.index(pack)
        with pack.lock:
            data = pack.data
            if data is None and pack.was_read and self._is_worth_keeping(pack, len(index)):
                data = self._keep(pack, self._piece(pack, 0, pack.size))
            pack.was_read = True
        try:
            if data is not None:
                return packed.content(memoryview(data)[packed.start : packed.stop])
            return packed.content(self._piece(pack, packed.start, packed.stop))
        except Damaged as error:
            raise self._damaged(pack) from error

    def _is_worth_keeping(self, pack: "Pack", files: int) -> bool:
        return pack.readings < MOST_READINGS and pack.size <= SMALL_BYTES * files

    def _read_index(self, pack: "Pack") -> dict[int, Packed]:
        start = 0 if pack.size <= WHOLE_BYTES else pack.size - TAIL_BYTES
        tail = self._piece(pack, start, pack.size)
        try:
            begin = directory_start(tail, pack.size)
            directory = tail[begin - start :] if begin >= start else self._piece(pack, begin, pack.size)
            index = index_of(directory)
            if any(file_id not in pack.key.ids for file_id in index):
                raise Damaged
        except Damaged as error:
            raise self._damaged(pack) from error
        if start == 0:
            self._keep(pack, tail)
        return index

    def _keep(self, pack: "Pack", data: bytes) -> bytes:
        pack.data = data
        pack.readings += 1
        with self._lock:
            self._kept[pack] = len(data)
            while sum(self._kept.values()) > KEPT_BYTES and len(self._kept) > 1:
                self._let_go(next(iter(self._kept)))
        return data

    def _let_go(self, pack: "Pack") -> None:
        pack.data = None
        self._kept.pop(pack, None)

    def _piece(self, pack: "Pack", start: int, stop: int) -> bytes:
        location = self._bucket.location(str(pack.key))
        found = self._bucket.piece(str(pack.key), start, stop, f"read {location}")
        if found is None:
            raise Gone(f"cannot read {location}: it is not there")
        return found

    def _damaged(self, pack: "Pack") -> ArchiveError:
        return ArchiveError(f"the pack {self._bucket.location(str(pack.key))} is damaged")


class Pack:
    """A pack of so many bytes, and what is known of it."""

    def __init__(self, key: PackKey, size: int) -> None:
        self.key, self.size, self.lock = key, size, threading.Lock()
        self.index: dict[int, Packed] | None = None
        self.data: bytes | None = None
        self.was_read, self.readings = False, 0

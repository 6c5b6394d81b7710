"""The packs that a run fills with small files: in memory, until they are full or the run has to be sure of them.

What is put is in an open pack, of which each lies in one folder of keys. It is sent by the thread that fills it, or
with `flush`, which returns only when all that was put before it is stored. A run that ends before that has stored
nothing of it.
"""

import threading
from collections.abc import Callable

from .keys import FILES_A_FOLDER, PackKey, folder_of
from .pack_format import Small

# A pack is sent when it has grown to this: to send more at once is no faster.
PACK_BYTES = 8 << 20
# So many packs are open, and so many are sent at once, and no file is taken meanwhile: this bounds the memory.
MOST_OPEN, SENT_AT_ONCE = 2, 4


class FilledPack:
    """Files of one folder on their way, which have ``size`` bytes."""

    def __init__(self) -> None:
        self.files: dict[int, Small] = {}
        self.size = 0

    def add(self, file_id: int, small: Small) -> None:
        """Take a file, in the place of what it was before."""
        self.drop(file_id)
        self.files[file_id] = small
        self.size += len(small.data)

    def drop(self, file_id: int) -> None:
        """Let go of a file, if it is there."""
        if file_id in self.files:
            self.size -= len(self.files.pop(file_id).data)

    def key(self, fence: int) -> PackKey:
        """Under which the run with this fence stores it."""
        return PackKey(min(self.files), max(self.files), fence)


class Packing:
    """Packs for the files ``ids`` of one run, which ``send`` stores whole or not at all."""

    def __init__(self, ids: range, send: Callable[[FilledPack], None]) -> None:
        self._ids, self._store = ids, send
        self._room = threading.BoundedSemaphore(SENT_AT_ONCE)
        self._changed = threading.Condition()
        self._open: dict[str, FilledPack] = {}
        self._due: list[FilledPack] = []
        self._on_their_way: set[FilledPack] = set()

    def add(self, file_id: int, small: Small) -> None:
        """Have the file be stored with the next `flush` at the latest."""
        with self._room:
            with self._changed:
                folder = folder_of(file_id)
                self._open.setdefault(folder, FilledPack()).add(file_id, small)
                full = self._taken_out(folder)
            for pack in full:
                self._send(pack)

    def drop(self, file_id: int) -> None:
        """Take the file out of the open packs again."""
        with self._changed:
            for pack in self._open.values():
                pack.drop(file_id)

    def flush(self) -> None:
        """Return when all that was added before is stored."""
        with self._changed:
            self._due += self._open.values()
            self._open.clear()
            begun = set(self._on_their_way)
        self._send_due()
        with self._changed:
            self._changed.wait_for(lambda: not begun & self._on_their_way)
        # What other threads failed to send.
        self._send_due()

    def _taken_out(self, folder: str) -> list[FilledPack]:
        """The open packs that are full, and one that nothing is added to any more, most likely."""
        full = [name for name, pack in self._open.items() if self._is_full(pack)]
        others = [name for name in self._open if name != folder and name not in full]
        if len(others) >= MOST_OPEN:
            full.append(others[0])
        packs = [self._open.pop(name) for name in full]
        # At once: a flush waits for them.
        self._on_their_way.update(packs)
        return packs

    def _is_full(self, pack: FilledPack) -> bool:
        some = next(iter(pack.files))
        first = some - some % FILES_A_FOLDER
        possible = range(max(first, self._ids.start), min(first + FILES_A_FOLDER, self._ids.stop))
        return len(pack.files) == len(possible) or pack.size >= PACK_BYTES

    def _send_due(self) -> None:
        while True:
            with self._changed:
                if not self._due:
                    return
                pack = self._due.pop()
                self._on_their_way.add(pack)
            with self._room:
                self._send(pack)

    def _send(self, pack: FilledPack) -> None:
        """Send it; where that fails, it is due with the next `flush`."""
        is_stored = False
        try:
            if pack.files:
                self._store(pack)
            is_stored = True
        finally:
            with self._changed:
                self._on_their_way.discard(pack)
                if not is_stored:
                    self._due.append(pack)
                self._changed.notify_all()

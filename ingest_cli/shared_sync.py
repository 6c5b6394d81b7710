"""Syncs of a file system that several threads share."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from .disk import sync_file_system


class SharedSync:
    """`sync_file_system`, or another ``sync``, for several threads: one syncs for all that asked before it began."""

    def __init__(self, sync: Callable[[Path], None] = sync_file_system) -> None:
        self._sync = sync
        self._queues: dict[int, _Queue] = {}
        self._lock = threading.Lock()

    def __call__(self, folder: Path) -> None:
        """Return when what was written before is on the disk of ``folder``. Raises OSError."""
        with self._lock:
            queue = self._queues.setdefault(os.stat(folder).st_dev, _Queue())
            queue.asked += 1
            own = queue.asked
        with queue.syncing:
            if queue.synced >= own:
                # The system says of an error of the disk once.
                if (error := queue.errors.pop(own, None)) is not None:
                    raise error
                return
            last = queue.asked  # one that asks from now on may still be writing
            try:
                self._sync(folder)
            except OSError as error:
                last = queue.asked  # who has asked meanwhile would not hear of it any more, though it may be of his
                queue.errors |= {number: error for number in range(queue.synced + 1, last + 1) if number != own}
                queue.synced = last
                raise
            queue.synced = last


class _Queue:
    """Who asked for a sync of a file system, by number: up to which it was ``synced``, and for whom with an error."""

    def __init__(self) -> None:
        self.asked = self.synced = 0
        self.errors: dict[int, OSError] = {}
        self.syncing = threading.Lock()

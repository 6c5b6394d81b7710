"""Limits how many requests an archive gets at once from all processes that share a job store.

The released archive interface, under its own server, mixes up files that come at the same time. That each process
sends one at a time is not enough: workers, commands and servers run side by side. Those of one machine share locked
files; those of several share a table (see `postgres_slots`).
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ..disk import explained
from ..errors import StoreError

# A small file takes a millisecond or two; who waits for a large one need not look that often.
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.001, 0.05


class Slots(Protocol):
    """So many slots, each of which one thread of one process has at a time."""

    def acquire(self) -> AbstractContextManager[None]:
        """Hold a slot, once one is free; a thread that has one needs no other.

        Raises StoreError, and ResourceUnavailable where none can be had now.
        """

    def close(self) -> None:
        """Let go of what they need."""


class FileSlots:
    """``count`` slots, each a file ``PATH-N`` whose lock the kernel frees when its process dies."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count
        self._local = threading.local()

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Hold a slot, once one is free."""
        if getattr(self._local, "has_slot", False):
            yield
            return
        descriptor = self._lock_one()
        self._local.has_slot = True
        try:
            yield
        finally:
            self._local.has_slot = False
            # Closing alone unlocks it too, but where it fails this process would wait for itself.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def close(self) -> None:
        """Nothing is kept open."""

    def _lock_one(self) -> int:
        descriptors: list[int] = []
        try:
            descriptors.extend(self._open(number) for number in range(self._count))
            locked = _lock_any(descriptors)
            descriptors.remove(locked)
        except OSError as error:
            raise explained(error, f"cannot lock {self._path}", StoreError, self._path) from error
        finally:
            for descriptor in descriptors:
                with suppress(OSError):  # nothing was written to it
                    os.close(descriptor)
        return locked

    def _open(self, number: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        return os.open(f"{self._path}-{number}", flags, 0o600)


def _lock_any(descriptors: Sequence[int]) -> int:
    """Lock whichever of the open files is free first.

    The kernel can wait for one lock, not for any of several. Whoever waits for one waits for its holder, which may be
    stopped or send a large file, while others come free.
    """
    if len(descriptors) == 1:
        fcntl.flock(descriptors[0], fcntl.LOCK_EX)
        return descriptors[0]
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        for descriptor in descriptors:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
        time.sleep(pause)
        pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)

"""Limits how many requests an archive gets at once from all processes that share a job store.

The released archive interface, under its own server, mixes up files that come at the same time. That each process
sends one at a time is not enough: workers, commands and servers run side by side.
"""

import fcntl
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StoreError


class Slots:
    """``count`` slots, each a file ``PATH-N`` whose lock the kernel frees when its process dies."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count
        self._local = threading.local()

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Hold a slot, once one is free; a thread that has one needs no other. Raises StoreError."""
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

    def _lock_one(self) -> int:
        try:
            for number in range(self._count):
                descriptor = self._open(number)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                else:
                    return descriptor
            descriptor = self._open(random.randrange(self._count))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise StoreError(f"cannot lock {self._path}: {error.strerror}") from error
        return descriptor

    def _open(self, number: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        return os.open(f"{self._path}-{number}", flags, 0o600)

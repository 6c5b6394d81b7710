"""Large bundles that are hashed while they arrive, where a run would have to read them once more to check them.

An archive on this machine is given files as they are checked, and small bundles are kept in memory: those are read once
anyway.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ..bundle.arrival import Arrival
from ..pipeline.bundle_files import KEPT_BYTES
from ..settings import Settings
from .threads import Threads


class Arrivals:
    """Those that are hashed at a time: as many as there are cores."""

    def __init__(self, settings: Settings) -> None:
        self._free = 0 if isinstance(settings.archive, Path) else os.cpu_count() or 1

    def begin(self, path: Path) -> Arrival | None:
        """The arrival of what is written to ``path``; None where there are too many."""
        if self._free < 1:
            return None
        with suppress(OSError):
            arrival = Arrival(path)
            self._free -= 1
            return arrival
        return None

    def end(self) -> None:
        """One that was begun has ended."""
        self._free += 1


class Hashing:
    """The hashing of what is written to ``path``, which begins once that is large."""

    def __init__(self, path: Path, arrivals: Arrivals, disk: Threads) -> None:
        self._path, self._arrivals, self._disk = path, arrivals, disk
        self._arrival: Arrival | None = None

    def wrote(self, length: int) -> None:
        """So many bytes are there by now."""
        if self._arrival is None and length > KEPT_BYTES:
            self._arrival = self._arrivals.begin(self._path)
        if self._arrival is not None:
            self._arrival.wrote(length)

    async def finish(self) -> None:
        """All is there: note what was found."""
        if self._arrival is not None:
            await self._disk.do(self._arrival.finish)

    async def close(self) -> None:
        """Nothing more is written."""
        if self._arrival is not None:
            self._arrivals.end()
            await self._disk.do(self._arrival.close)


@asynccontextmanager
async def hashed(path: Path, arrivals: Arrivals, disk: Threads) -> AsyncIterator[Hashing]:
    """The hashing of what is written to ``path`` within the block."""
    hashing = Hashing(path, arrivals, disk)
    try:
        yield hashing
    finally:
        await hashing.close()

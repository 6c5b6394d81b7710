"""Large bundles that are hashed while they arrive, where a run would have to read them once more to check them.

An archive on this machine is given files as they are checked, and small bundles are kept in memory: those are read once
anyway. What goes to a spool that several hosts share does not lie here.
"""

import os
from contextlib import suppress
from pathlib import Path

from ..bundle.arrival import Arrival
from ..pipeline.bundle_files import KEPT_BYTES
from ..settings import Settings
from .threads import Threads

# A bundle of which so much has come unhashed, as before a server was started anew, is left to its run.
LATEST_BYTES = 4 * KEPT_BYTES


class Arrivals:
    """The bundles that are hashed: no more at a time than there are cores."""

    def __init__(self, settings: Settings, disk: Threads) -> None:
        is_here = settings.shared_spool is None and not isinstance(settings.archive, Path)
        self._most = os.cpu_count() or 1 if is_here else 0
        self._begun: dict[str, Arrival] = {}
        self._disk = disk

    def wrote(self, source: str, length: int) -> None:
        """So many bytes of what is to be the bundle ``source`` are there by now, and stay."""
        if source not in self._begun and KEPT_BYTES < length <= LATEST_BYTES:
            self._begin(source)
        if source in self._begun:
            self._begun[source].wrote(length)

    async def finish(self, source: str) -> None:
        """All is there: what was found is noted at the file."""
        if (arrival := self._begun.pop(source, None)) is not None:
            await self._disk.do(arrival.finish)

    async def give_up(self, source: str) -> None:
        """It is not to be hashed any more, if it was."""
        if (arrival := self._begun.pop(source, None)) is not None:
            await self._disk.do(arrival.close)

    def _begin(self, source: str) -> None:
        self._begun = {other: arrival for other, arrival in self._begun.items() if arrival.goes_on}
        if len(self._begun) < self._most:
            with suppress(OSError):
                self._begun[source] = Arrival(Path(source))

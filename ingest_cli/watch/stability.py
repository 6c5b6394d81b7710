"""When a file is stable: not before its writer has surely finished.

No clock is trusted but this process's own: a share's server may be hours off. A file is stable when its size, times
and inode were seen to hold still for long enough, or at once when it was seen to be renamed into place.
"""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass

# A file that is not ready is not looked at more often than this, however soon it would count as stable.
PAUSE_SECONDS = 0.5


@dataclass(slots=True)
class Sight:
    """A file that is not stable yet, or not whole: unchanged ``since`` a moment of our clock, to be looked at when it
    is ``due``. It was ``age`` seconds old when it was first seen so.

    ``flaw`` is why its content is not whole, empty where it is, and None where that was not looked at yet; ``why_not``
    is why it was not taken when it was last due.
    """

    fingerprint: str
    since: float
    due: float
    age: float
    is_renamed: bool = False
    flaw: str | None = None
    why_not: str = ""

    @property
    def waited(self) -> float:
        """For how many seconds it has held still, seen by us or not."""
        return time.monotonic() - self.since + self.age


class Stability:
    """Remembers since when each file was seen unchanged. A renamed one counts as unchanged for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._sights: dict[str, Sight] = {}
        # Of what is due, the first in front; what was forgotten or is due later by now is left in it.
        self._dues: list[tuple[float, str]] = []

    def __getitem__(self, name: str) -> Sight:
        return self._sights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sights)

    def __len__(self) -> int:
        return len(self._sights)

    def is_known(self, name: str, fingerprint: str) -> bool:
        """Whether the file was seen with this fingerprint, and is remembered."""
        return name in self._sights and self._sights[name].fingerprint == fingerprint

    def see(self, name: str, fingerprint: str, *, renamed: bool, age: float = 0.0) -> None:
        """Note that the file has this fingerprint now."""
        now = time.monotonic()
        if not self.is_known(name, fingerprint):
            self._sights[name] = Sight(fingerprint, now, now + self.seconds, age)
            heapq.heappush(self._dues, (now + self.seconds, name))
        if renamed:
            sight = self._sights[name]
            sight.since, sight.is_renamed = min(sight.since, now - self.seconds), True
            self._look_at(name, now)

    def due(self, most: int) -> list[str]:
        """At most so many of the files that it is time to look at, those first that are due for longest."""
        now = time.monotonic()
        names: list[str] = []
        while self._dues and self._dues[0][0] <= now and len(names) < most:
            due, name = heapq.heappop(self._dues)
            if name in self._sights and self._sights[name].due == due:
                names.append(name)
        return names

    def put_off(self, name: str) -> None:
        """Have the file be due again in a while."""
        self._look_at(name, time.monotonic() + max(self.seconds, PAUSE_SECONDS))

    def forget(self, name: str) -> None:
        """Forget the file: it is gone, or has a job."""
        self._sights.pop(name, None)

    @property
    def seconds_left(self) -> float | None:
        """In how many seconds the next file is due; None where none is."""
        return max(0.0, self._dues[0][0] - time.monotonic()) if self._dues else None

    def _look_at(self, name: str, due: float) -> None:
        self._sights[name].due = due
        heapq.heappush(self._dues, (due, name))

"""When a file is stable: not before its writer has surely finished.

No clock is trusted but this process's own: a share's server may be hours off. A file is stable when its size, times
and inode were seen to hold still for long enough, or at once when it was seen to be renamed into place.
"""

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class _Sight:
    fingerprint: str
    since: float
    round: int
    checked: float = 0.0


class Stability:
    """Remembers since when each file was seen unchanged. A renamed one counts as unchanged for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sights: dict[Path, _Sight] = {}
        self._round = 0

    def begin_round(self) -> None:
        """All files are about to be looked at; those that were not in the last round are forgotten."""
        self._sights = {path: sight for path, sight in self._sights.items() if sight.round == self._round}
        self._round += 1

    def see(self, path: Path, fingerprint: str, *, renamed: bool) -> float:
        """Note that the file has this fingerprint now; for how many seconds it has held still."""
        now = time.monotonic()
        sight = self._sights.get(path)
        if sight is None or sight.fingerprint != fingerprint:
            sight = self._sights[path] = _Sight(fingerprint, now, self._round)
        if renamed:
            sight.since = min(sight.since, now - self._seconds)
        sight.round = self._round
        return now - sight.since

    def may_check(self, path: Path) -> bool:
        """Whether it is time to look into the file, which is done now and then only."""
        now, sight = time.monotonic(), self._sights[path]
        if now - sight.checked < self._seconds and sight.checked:
            return False
        sight.checked = now
        return True

    @property
    def count(self) -> int:
        """How many files were seen in this round."""
        return sum(sight.round == self._round for sight in self._sights.values())

"""A limit on how fast something is read or sent."""

import threading

# What was not used of the rate cannot be made up for later, but for this much.
BURST_SECONDS = 0.2
# A piece takes no longer than this, so that the rate is that of every moment.
PIECE_SECONDS = 0.1
SMALLEST_PIECE, LARGEST_PIECE = 1 << 10, 1 << 20


class Throttle:
    """A token bucket of ``rate`` bytes a second, for any number of threads together; no limit where it is None."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at: float | None = None
        self._lock = threading.Lock()

    @property
    def is_off(self) -> bool:
        """Whether there is no limit."""
        return self._rate is None

    @property
    def piece(self) -> int:
        """How many bytes are best read or sent at once."""
        if self._rate is None:
            return LARGEST_PIECE
        return min(LARGEST_PIECE, max(SMALLEST_PIECE, int(self._rate * PIECE_SECONDS)))

    def pause(self, length: int, now: float) -> float:
        """How many seconds to wait at the moment ``now`` before so many more bytes are read or sent."""
        if self._rate is None:
            return 0.0
        earliest = now - BURST_SECONDS
        with self._lock:
            begin = earliest if self._free_at is None else max(self._free_at, earliest)
            self._free_at = begin + length / self._rate
            return max(0.0, self._free_at - now)

"""Whether the holder of a job is dead, so that another run may lease the job."""

import time
from collections.abc import Callable

from .job import Fence, Job
from .process import Life

# Of jobs that ended long ago nothing is remembered for good. Whoever is forgotten too early is watched once more.
MOST_SEEN = 10_000


class Liveness:
    """Remembers the heartbeats it saw, each with the time on this process's own monotonic clock.

    A holder that can be seen from here is dead when the kernel says so, and never while it is merely stopped. One out
    of sight is dead when its heartbeat was seen not to change for ``stale`` seconds; times of different processes are
    never compared. What was seen before ``missed_at``, when the store could not be asked or written, does not count:
    nor could the holder say there that it lives. Where the store ``is_local``, only processes under this kernel can use
    it: whoever held a job before the last boot is dead.

    At ``heard_at`` all could write, and were given time to.
    """

    def __init__(self, stale: float, missed_at: Callable[[], float], *, is_local: bool) -> None:
        self._stale, self._missed_at, self._is_local = stale, missed_at, is_local
        self._seen: dict[int, tuple[Fence, int, float]] = {}
        self.heard_at = 0.0

    def is_dead(self, job: Job) -> bool:
        """Whether the job's holder is dead, as far as is known now."""
        if job.holder is None:
            return True
        life = job.holder.life()
        if life is not Life.OUT_OF_SIGHT:
            return life is Life.GONE
        if self._is_local and not job.holder.is_of_this_boot:
            return True
        return time.monotonic() - self._silent_since(job) >= self._stale

    def is_dead_for_sure(self, job: Job, look: Callable[[int], Job]) -> bool:
        """Whether nobody holds the job any more, having waited until it is known; ``look`` gets the job anew."""
        while not self.is_dead(job):
            if job.holder is None or job.holder.life() is not Life.OUT_OF_SIGHT:
                return False
            time.sleep(min(0.2, self._stale / 4))
            later = look(job.job_id)
            if (later.fence, later.heartbeat) != (job.fence, job.heartbeat):
                return self.is_dead(later) if later.holder is None else False
            job = later
        return True

    def is_unheard(self, job: Job) -> bool:
        """Whether the job's holder was not given time to write since it became silent, and that is all known of it."""
        if job.holder is None or job.holder.life() is not Life.OUT_OF_SIGHT:
            return False
        is_of_the_past = self._is_local and not job.holder.is_of_this_boot
        return not is_of_the_past and self._silent_since(job) > self.heard_at

    def _silent_since(self, job: Job) -> float:
        now = time.monotonic()
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        fence, heartbeat, since = self._seen.get(job.job_id, (job.fence, -1, now))
        if (fence, heartbeat) != (job.fence, job.heartbeat):
            since = now
        self._seen[job.job_id] = (job.fence, job.heartbeat, since)
        return max(since, self._missed_at())

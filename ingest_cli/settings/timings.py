"""How long anything may take, and how often it is tried."""

from dataclasses import dataclass, replace

from .options import USUAL_RETRIES


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Intervals and timeouts, in seconds; ``runs`` is the number of attempts after which a job counts as failed.

    ``retries`` is how many times a job is retried that failed for now; with 0 it is rolled back at once, as any that
    fails. Runs that are interrupted or killed are resumed all the same, until there were ``runs`` of them.
    A run sends a ``heartbeat`` this often, and counts as dead when none is seen for ``stale`` seconds. A transient
    failure is retried after ``first_backoff``, then after twice as long each time, up to ``longest_backoff``.
    ``checkpoint`` is how much work a kill or a loss of power may cost; ``grace`` is how long the current file may take
    after a first signal. ``busy`` is how long to wait for a locked database, ``poll`` how often an idle worker looks
    for a job, and ``pause`` how long it waits after the store could not be used. Where several hosts share a store, a
    process says every ``presence`` seconds that it is there, and a run waits ``away`` seconds for one that cannot be
    asked, as while its server is started anew or another one takes over.
    """

    heartbeat: float = 1.0
    stale: float = 30.0
    presence: float = 2.0
    runs: int = 20
    retries: int = USUAL_RETRIES
    first_backoff: float = 10.0
    longest_backoff: float = 600.0
    checkpoint: float = 10.0
    grace: float = 2.0
    busy: float = 60.0
    poll: float = 0.2
    pause: float = 1.0
    away: float = 90.0

    @property
    def attempts(self) -> int:
        """How many runs that fail for now a job may have."""
        return min(self.runs, self.retries + 1)

    @property
    def ending(self) -> float:
        """How long after a first signal a process that runs jobs has ended."""
        return self.grace + 0.5


def timings_of(retries: int) -> Timings:
    """The timings of a site where a job is retried so many times."""
    usual = Timings()
    return replace(usual, retries=retries, runs=usual.runs + max(0, retries - usual.retries))

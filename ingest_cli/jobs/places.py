"""Where jobs stand in the queues of several hosts, and what those wait for that nobody works on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..text import duration, quoted
from .attendance import Presence
from .job import Job, JobState


class WaitsFor(StrEnum):
    """What a job waits for, in a word."""

    HOST = "host"  # no worker gives a sign of life that can run it
    PROJECT = "project"  # as many others of its project are at work as may be
    TIME = "time"  # it is deferred
    WORKER = "worker"  # one that is free


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a job stands: in which ``queue``, of which ``priority``, and whether it waits since its ``project``
    ``is_crowded``.

    It ``is_served`` where a worker that can run it has given a sign of life lately; its host has given none for so many
    seconds that it is ``silent``, None where it never gave one. Both are by the database's clock: they are told to
    people, and decide nothing.
    """

    queue: str
    priority: int
    project: str | None
    is_crowded: bool
    is_served: bool
    silent: float | None

    @property
    def host(self) -> str:
        """The host that alone can run the job; empty where any can."""
        return host_of(self.queue)

    def waits_for(self, job: Job) -> WaitsFor | None:
        """What the job waits for, which stands here; None where somebody works on it, or it has ended."""
        if job.holder is not None or job.state not in (JobState.QUEUED, JobState.UNDOING):
            return None
        if not self.is_served:
            return WaitsFor.HOST
        if job.is_deferred:
            return WaitsFor.PROJECT if self.is_crowded else WaitsFor.TIME
        return WaitsFor.WORKER

    def explained(self, job: Job) -> str:
        """What the job waits for in words; empty where it waits for nothing."""
        disk = f" of {self.host}, on whose disk its files are" if self.host else ", on any host"
        match self.waits_for(job):
            case WaitsFor.HOST:
                return f"a worker{disk}: none runs{self._silence()}"
            case WaitsFor.PROJECT:
                return f"another job of project {quoted(self.project or '')} to end: no more may be at work at once"
            case WaitsFor.TIME:
                return f"its time, which is {job.retried_at} UTC"
            case WaitsFor.WORKER:
                return f"a worker{disk}, that is free"
        return ""

    def _silence(self) -> str:
        if not self.host:
            return ""
        if self.silent is None:
            return f", and nothing was heard of {self.host}"
        return f"; the last sign of life of {self.host} was {duration(self.silent)} ago"


def host_of(queue: str) -> str:
    """The host that alone has the queue; empty where all have it."""
    return queue.partition(":")[2]


def workers_of(queue: str, workers: Mapping[str, int]) -> int:
    """How many of the workers, which are counted by host, run jobs of the queue."""
    host = host_of(queue)
    return workers.get(host, 0) if host else sum(workers.values())


def served(queue: str, present: Iterable[Presence], patience: float) -> tuple[bool, float | None]:
    """Whether one of those who are ``present`` runs jobs of the queue, and how long ago its host was last heard of."""
    host = host_of(queue)
    there = [one for one in present if not host or one.host == host]
    is_served = any(one.is_worker and one.told < patience for one in there)
    return is_served, min((one.told for one in there), default=None)

"""Which processes of an installation are there, on whichever host, as far as it can be seen from here."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from .attendance import Presence
from .job import Job, JobState
from .process import Life, Process
from .store import JobStore

LOOK_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A process that is there, or that holds ``jobs``: then only its ``process`` and ``host`` may be known.

    ``silent`` is for how many seconds nothing was seen of it; None where something never was, in all ``watched`` ones.
    It counts as dead after ``patience``.
    """

    process: Process
    host: str
    presence: Presence | None
    jobs: tuple[int, ...]
    life: Life
    silent: float | None
    watched: float
    patience: float

    @property
    def is_worker(self) -> bool:
        """Whether it runs jobs of queues, as far as it says."""
        return self.presence is not None and self.presence.is_worker

    @property
    def quiet(self) -> float:
        """For how many seconds nothing was seen of it, as far as it was watched; 0 where it is seen to run."""
        if self.life in (Life.RUNNING, Life.STOPPED):
            return 0.0
        return self.watched if self.silent is None else self.silent

    @property
    def is_alive(self) -> bool | None:
        """Whether it lives; None where that is not known before it is watched for longer."""
        if self.life is not Life.OUT_OF_SIGHT:
            return self.life is not Life.GONE
        if self.silent is not None:
            return self.silent < self.patience
        return False if self.watched >= self.patience else None


class Sightings:
    """What a viewer has seen of processes, and when, on its own clock. One of which nothing is seen for so many seconds
    of ``patience`` counts as dead."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        # Of each: its last sign of life, since when that was the last, when the first was seen, whether another came.
        self._seen: dict[str, tuple[object, float, float, bool]] = {}

    def of(self, store: JobStore) -> list[Member]:
        """The processes of a store as they are seen now, by host."""
        attendance = store.attendance
        present = {presence.process: presence for presence in (attendance.present() if attendance is not None else [])}
        held: dict[Process, list[Job]] = {}
        for job in store.in_states({JobState.RUNNING, JobState.UNDOING}):
            if job.holder is not None:
                held.setdefault(job.holder, []).append(job)
        self._forget_all_but({process.to_text() for process in (*present, *held)})
        members = [
            self._member(process, present.get(process), held.get(process, [])) for process in {**present, **held}
        ]
        return sorted(members, key=lambda member: (member.host, member.process.pid))

    def watch(self, store: JobStore) -> list[Member]:
        """The same, once of each is known whether it lives."""
        while True:
            members = self.of(store)
            if all(member.is_alive is not None for member in members):
                return members
            time.sleep(min(LOOK_SECONDS, self._patience / 4))

    def _member(self, process: Process, presence: Presence | None, jobs: list[Job]) -> Member:
        now, key = time.monotonic(), process.to_text()
        sign = (presence.heartbeat if presence is not None else None, [(job.fence, job.heartbeat) for job in jobs])
        last, since, first, has_changed = self._seen.get(key, (sign, now, now, False))
        if sign != last:
            since, has_changed = now, True
        self._seen[key] = (sign, since, first, has_changed)
        return Member(
            process=process,
            host=presence.host if presence is not None else process.host,
            presence=presence,
            jobs=tuple(job.job_id for job in jobs),
            life=process.life(),
            silent=now - since if has_changed else None,
            watched=now - first,
            patience=self._patience,
        )

    def _forget_all_but(self, keys: Iterable[str]) -> None:
        kept = set(keys)
        self._seen = {key: seen for key, seen in self._seen.items() if key in kept}

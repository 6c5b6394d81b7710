"""Changes of jobs: each is one row of the table of transitions."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import WrongState
from ..text import story
from .database import Connection
from .history import befell, keep
from .job import Fence, Job, JobState, Override, PacificaState
from .outbox import announce, kind_of
from .sql_queries import SqlQueries
from .sql_queue import SqlQueue
from .sql_rows import listed, now_text, override_text
from .transitions import TRANSITIONS, Event


class SqlChanges(SqlQueries, SqlQueue):
    """How a job is changed."""

    def _exhaust(self, connection: Connection, job: Job, task: str, reason: str) -> None:
        to = JobState.HELD if job.reservation is not None else JobState.FAILED
        changes = {"task": task, "task_percent": 0, "exception": reason, "holder": None, "retry_at": 0}
        changes["said"] = lasting(job.override)
        self._change(connection, Event.EXHAUST, job, {**changes, "fence": job.fence_number + 1}, to=to)

    def _change(
        self,
        connection: Connection,
        event: Event,
        of: Job | Fence,
        changes: Mapping[str, Any],
        *,
        to: JobState | None = None,
    ) -> None:
        """One transition, in one statement that names the job, its fence, and the states that it may start from."""
        way = TRANSITIONS[event]
        assert to in way.targets if way.targets else to is None, f"{event} does not lead to {to}"
        fence = of if isinstance(of, Fence) else of.fence
        assigned = {**changes, "updated": now_text(), **({"state": to} if to is not None else {})}
        if "exception" in assigned:
            assigned["exception"] = story(assigned["exception"])
        changed = connection.execute(
            f"UPDATE jobs SET {', '.join(f'{column} = ?' for column in assigned)}"
            f" WHERE job_id = ? AND fence = ? AND state IN ({listed(way.sources)})",
            (*assigned.values(), fence.job_id, fence.number),
        )
        if changed.rowcount == 0:
            raise wrong(self.held(fence), event)
        if (news := befell(event, to, assigned)) is not None:
            keep(connection, fence.job_id, [news])
        kind = kind_of(event, to)
        if kind in self._notifications.kinds:
            announce(connection, self.get(fence.job_id), kind, self._notifications.receivers)


def note_mounts(connection: Connection, job_id: int, mounts: Iterable[Path]) -> None:
    """Note where the file systems of a job's files are mounted."""
    connection.executemany(
        "INSERT INTO mounts (job_id, path) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(job_id, os.fsencode(mount)) for mount in mounts],
    )


def is_to_fail(job: Job) -> bool:
    """Whether an administrator wants the job to fail."""
    return job.override is not None and job.override.state is PacificaState.FAILED


def lasting(override: Override | None) -> str | None:
    """What is kept of an administrator's override where a job fails: not that it is OK."""
    return override_text(override) if override is not None and override.state is PacificaState.FAILED else None


def wrong(job: Job, event: Event) -> WrongState:
    """The error that the job's state does not let this happen."""
    return WrongState(cannot(job, event))


def cannot(job: Job, event: Event) -> str:
    """That the job's state does not let this happen, in words."""
    state = "being rolled back" if job.state is JobState.UNDOING else job.state
    return f"job {job.job_id} cannot be {TRANSITIONS[event].request}: it is {state}"

"""The queue of a job store on PostgreSQL as Procrastinate hands it out: how a worker gets a job by its task."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..errors import JobBusy, Unavailable, WrongState
from ..settings import Cluster, Notifications, Timings
from .attendance import patience_of
from .contention import again
from .database import Connection, Database, Refused, Row, writing
from .dialect import Condition
from .history import keep
from .job import UNFINISHED, Fence, Job, JobKind, JobState
from .places import Place, served
from .queues import Queues
from .sql_changes import wrong
from .sql_queries import MOST_ASKED
from .sql_store import SqlJobStore
from .tasks import (
    ADMIT,
    BEAT,
    EXCLUSIVE,
    FETCH,
    FINISH,
    GIVE_TASKS,
    LOOK_AGAIN,
    PLACES,
    POSTPONE,
    PRUNE_TASKS,
    PRUNE_WORKERS,
    QUEUED,
    REGISTER,
    UNREGISTER,
)
from .transitions import Event

BEAT_SECONDS = 10.0
# Who changes a job that a worker is about to take has its row for milliseconds.
TRIES, PAUSE_SECONDS = 20, 0.01
# Whoever leaves a project has the next one of it wait no longer; this is for what is missed.
CROWDED_SECONDS = 60.0
# An index takes no more.
LONGEST_PROJECT = 500


ALONE = Cluster()


class _InUse(Exception):
    """Somebody is changing the job of a task."""


class TaskQueue(SqlJobStore):
    """What this host is to the others of its ``cluster``, and what its workers ask of the tasks."""

    def __init__(self, database: Database, timings: Timings, notifications: Notifications, cluster: Cluster) -> None:
        super().__init__(database, timings, notifications)
        self._cluster, self._queues = cluster, Queues.of_host(cluster)
        self._worker: int | None = None
        self._beaten = 0.0

    @property
    def channels(self) -> list[str]:
        """Where Procrastinate says that there is a task for this host."""
        return [f"procrastinate_queue_v1#{name}" for name in self._queues.names]

    def lease(self, job_id: int) -> Job:
        """Become the holder of a job. Raises JobBusy where another host has to run it."""
        for row in self._rows("SELECT queue FROM jobs WHERE job_id = ?", job_id):
            if row["queue"] not in self._queues.names:
                host = row["queue"].partition(":")[2]
                raise JobBusy(f"job {job_id} waits for a worker of {host}, on whose disk its files are")
        return super().lease(job_id)

    @again
    def lease_offered(self) -> Job | None:
        """Become the holder of the job whose task is next, in the transaction that takes the task; None where none is.

        A task whose job is held, settled or gone is ended without a word.
        """
        for _ in range(TRIES):
            try:
                found, job = self._take_task()
            except _InUse:
                time.sleep(PAUSE_SECONDS)
                continue
            if job is not None or not found:
                return job
        return None

    @again
    def admit(self, fence: Fence, project: str, most: int) -> bool:
        """Note the project of the job; whether fewer than ``most`` others of it are at work."""
        if len(project) > LONGEST_PROJECT:
            project = hashlib.sha256(project.encode()).hexdigest()
        with writing(self._database, durable=False) as connection:
            self._database.exclude("project", project)
            row = connection.execute(ADMIT, (project, most, project, fence.job_id, fence.number)).fetchone()
            if row is None:
                raise wrong(self.held(fence), Event.PROGRESS)
            return not row["is_crowded"]

    def release_dead(self) -> None:
        """Put the jobs of dead holders back into the queue, where their tasks are to do once more."""
        for job in self.in_states({JobState.RUNNING, JobState.UNDOING}):
            if job.holder is not None and self.is_dead(job):
                self._release(job)

    def mend(self) -> None:
        """Give a task to each job that waits without one, and remove what Procrastinate's tables keep of the past."""
        with writing(self._database, durable=False) as connection:
            if connection.execute(EXCLUSIVE).fetchone()["is_alone"]:
                for statement in (GIVE_TASKS, PRUNE_TASKS, PRUNE_WORKERS, LOOK_AGAIN):
                    connection.execute(statement)

    def places(self, job_ids: Sequence[int]) -> dict[int, Place]:
        """Where the jobs stand."""
        present = self.attendance.present() if self.attendance is not None else []
        patience, found = patience_of(self._timings), dict[int, Place]()
        for first in range(0, len(job_ids), MOST_ASKED):
            asked = job_ids[first : first + MOST_ASKED]
            for row in self._rows(PLACES.format(asked=", ".join("?" * len(asked))), *asked):
                is_served, silent = served(row["queue"], present, patience)
                found[row["job_id"]] = Place(
                    queue=row["queue"],
                    priority=row["priority"],
                    project=row["project"],
                    is_crowded=row["is_crowded"],
                    is_served=is_served,
                    silent=silent,
                )
        return found

    def queued(self) -> dict[str, int]:
        """How many jobs wait in each queue."""
        return dict(map(tuple, self._rows(QUEUED)))

    @again
    def prioritize(self, job_id: int, priority: int) -> Job:
        """Give an unfinished job another priority: its task follows."""
        with writing(self._database) as connection:
            job = self.get(job_id)
            if job.state not in UNFINISHED:
                raise WrongState(f"job {job_id} is {job.state}: a priority is of jobs that are to be run")
            connection.execute("UPDATE jobs SET priority = ? WHERE job_id = ?", (priority, job_id))
            keep(connection, job_id, [f"its priority was set to {priority}"])
        return job

    def unregister(self) -> None:
        """Have Procrastinate know this worker no more."""
        if self._worker is not None:
            with suppress(Unavailable), writing(self._database, durable=False) as connection:
                connection.execute(UNREGISTER, (self._worker,))
            self._worker = None

    @property
    def _here(self) -> Condition:
        names = self._queues.names
        return f" AND queue IN ({', '.join('?' * len(names))})", list(names)

    def _placed(self, kind: JobKind, source: str) -> dict[str, Any]:
        return {"queue": self._queues.queue_of(kind, source), "priority": self._cluster.priority}

    def _found_anew(self) -> dict[str, Any]:
        return {"is_crowded": False}

    def _take_task(self) -> tuple[bool, Job | None]:
        """Whether there was a task, and the job that came of it."""
        try:
            return self._take_task_as(self._registered())
        except Refused:
            # The database knows this worker no more, as where it was brought back to an earlier moment.
            self._worker = None
            return self._take_task_as(self._registered())

    def _take_task_as(self, worker: int) -> tuple[bool, Job | None]:
        names = self._queues.names
        with writing(self._database, durable=False) as connection:
            connection.execute("SAVEPOINT task")
            task = connection.execute(FETCH.format(queues=", ".join("?" * len(names))), (*names, worker)).fetchone()
            if task["id"] is None:
                return False, None
            return True, self._job_of(connection, task)

    def _job_of(self, connection: Connection, task: Row) -> Job | None:
        job_id = task["args"]["job_id"]
        # To wait for the row would be a deadlock: who has it waits for the task.
        is_free = self._database.try_lock("jobs", "job_id", job_id)
        job = next(iter(self.several([job_id])), None)
        if job is not None and not is_free:
            connection.execute("ROLLBACK TO SAVEPOINT task")
            raise _InUse
        if job is None or job.holder is not None or job.state not in (JobState.QUEUED, JobState.UNDOING):
            connection.execute(FINISH, (task["id"],))
            return None
        return None if self._is_crowded(connection, job) else self._begin(connection, job)

    def _is_crowded(self, connection: Connection, job: Job) -> bool:
        """Whether too many of the job's project are at work, where that is known: it waits, and is not run for it."""
        most = self._cluster.jobs_per_project
        if most is None or job.state is not JobState.QUEUED:
            return False
        later = time.time() + CROWDED_SECONDS
        return connection.execute(POSTPONE, (later, job.job_id, most)).rowcount > 0

    def _registered(self) -> int:
        """The number by which Procrastinate knows this worker."""
        now, worker = time.monotonic(), self._worker
        if worker is None or now - self._beaten > BEAT_SECONDS:
            with writing(self._database, durable=False) as connection:
                if worker is None:
                    worker = int(connection.execute(REGISTER).fetchone()["worker_id"])
                connection.execute(BEAT, (worker,))
            self._worker, self._beaten = worker, now
        return worker

    def _release(self, job: Job) -> None:
        with writing(self._database, durable=False) as connection:
            # One that froze in the midst of a change has it locked for a while: the others go on.
            if not self._database.try_lock("jobs", "job_id", job.job_id):
                return
            later = next(iter(self.several([job.job_id])), None)
            if later is None or (later.fence, later.heartbeat, later.holder) != (job.fence, job.heartbeat, job.holder):
                return
            if not self.is_dead(later):  # the database was slow to answer
                return
            to = JobState.UNDOING if job.state is JobState.UNDOING else JobState.QUEUED
            self._change(connection, Event.REQUEUE, job, {"holder": None, "fence": job.fence_number + 1}, to=to)

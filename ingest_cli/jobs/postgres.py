"""The job store in a database of PostgreSQL."""

from dataclasses import replace

from ..errors import ResourceUnavailable
from ..settings import Cluster, Notifications, Timings
from .database import Connection, writing
from .job import Fence, Job, JobState, Override
from .postgres_attendance import PostgresAttendance
from .postgres_connections import PostgresConnections
from .postgres_database import PostgresDatabase, open_database
from .postgres_migrations import ADDED_UP, MIGRATIONS
from .process import Process, this_process
from .sql_reading import NOBODY
from .task_queue import ALONE, TaskQueue

# After so many jobs the counts are added up.
ADDED_UP_EVERY = 100


class PostgresJobStore(TaskQueue):
    """The store in the database that ``pool`` leads to; a ``new`` one is made where it is missing.

    Raises StoreError.
    """

    _database: PostgresDatabase

    def __init__(
        self,
        pool: PostgresConnections,
        timings: Timings,
        notifications: Notifications = NOBODY,
        *,
        cluster: Cluster = ALONE,
        new: bool = True,
        urgent: bool = False,
    ) -> None:
        database = open_database(pool, MIGRATIONS, "job store", timings.busy, new=new, urgent=urgent)
        super().__init__(database, timings, notifications, cluster)
        self.attendance = PostgresAttendance(database)

    def another(self, *, busy: float | None = None) -> "PostgresJobStore":
        """A store for another thread, by the same connections."""
        pool, timings = self._database.pool, self._timings if busy is None else replace(self._timings, busy=busy)
        urgent = busy is not None
        return PostgresJobStore(pool, timings, self._notifications, cluster=self._cluster, new=False, urgent=urgent)

    def lease(self, job_id: int) -> Job:
        """Become the holder of a job, unless this process is that already without having heard of it."""
        return self._doubtful(job_id) or super().lease(job_id)

    def lease_next(self) -> Job | None:
        """Become the holder of the next job in the queue, or of one that this process holds without knowing."""
        return self._any_doubtful() or super().lease_next()

    def lease_offered(self) -> Job | None:
        """Become the holder of the job whose task is next, or of one that this process holds without knowing."""
        return self._any_doubtful() or super().lease_offered()

    def end(
        self, job_id: int, to: JobState, *, holder: Process | None, override: Override | None = None, reason: str = ""
    ) -> Job:
        """Settle a job that nobody works on, or go on with what this process has begun of that without knowing."""
        try:
            return self._begun(job_id, to) or super().end(job_id, to, holder=holder, override=override, reason=reason)
        except ResourceUnavailable:
            # Most often it is the connection that has broken, and the database can be asked.
            if (begun := self._begun(job_id, to)) is None:
                raise
            return begun

    def check_integrity(self) -> str:
        """Look whether the database can be written; whether it is whole is its server's to say."""
        with writing(self._database) as connection:
            self._add_up(connection)
        return ""

    def _note_held(self, fence: Fence) -> None:
        self._database.noted.append(fence)

    def _begun(self, job_id: int, to: JobState) -> Job | None:
        """The job, if it is in doubt whether this process undoes it to come to that end, and it does."""
        job = self._doubtful(job_id)
        if job is None or job.undo_to is to:
            return job
        self._database.doubtful.append(job.fence)
        return None

    def _any_doubtful(self) -> Job | None:
        while self._database.doubtful:
            if (job := self._doubtful(self._database.doubtful[-1].job_id)) is not None:
                return job
        return None

    def _doubtful(self, job_id: int) -> Job | None:
        """The job, if it is in doubt whether it was leased, and it was."""
        asked = [fence for fence in self._database.doubtful if fence.job_id == job_id]
        found = self.several([job_id]) if asked else []
        self._database.doubtful = [fence for fence in self._database.doubtful if fence not in asked]
        return next((job for job in found if job.fence in asked and job.holder == this_process()), None)

    def _tidy(self, connection: Connection, job_id: int) -> None:
        if job_id % ADDED_UP_EVERY == 0:
            self._add_up(connection)

    def _add_up(self, connection: Connection) -> None:
        """Add up what is counted of jobs, unless somebody else is at it."""
        if self._database.try_exclude("counts"):
            for statement in ADDED_UP:
                connection.execute(statement)

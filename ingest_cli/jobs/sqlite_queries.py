"""The queries of the job store in SQLite."""

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import IngestError, JobNotFound, LeaseLost
from ..mounts import on_network
from ..settings import Notifications, Timings
from .activity import Share
from .database import open_database, reading, writing
from .filter import ALL, JobFilter, JobOrder
from .flow import Flow, steps_of
from .imported import ImportedJob
from .job import DONE, UNFINISHED, Fence, Job, JobKind, JobState, JobStatus
from .liveness import Liveness
from .migrations import MIGRATIONS
from .outbox import Outbox
from .reasons import Failure
from .sqlite_filter import NAME, Matching, condition, ordering, selection
from .sqlite_rows import SELECT, imported_job_of, job_of, listed, time_text

QUEUE = "state IN ('queued', 'running', 'undoing')"
FINISHABLE = {*UNFINISHED, JobState.HELD}
# SQLite takes at least 999 values in a statement.
MOST_ASKED = 500
SETTLED = set(JobState) - FINISHABLE
NOBODY = Notifications()
FIRST_LINE = "substr(exception, 1, instr(exception || char(10), char(10)) - 1)"


class SqliteQueries:
    """The database at ``path``, and what `store.JobStore` says can be asked of it.

    A ``new`` one is made where it is missing. What becomes of jobs is put into the ``outbox`` as ``notifications`` say.
    Raises StoreError and ResourceUnavailable.
    """

    def __init__(
        self, path: Path, timings: Timings, notifications: Notifications = NOBODY, *, new: bool = True
    ) -> None:
        self.path, self._timings, self._notifications = path, timings, notifications
        self._database = open_database(path, MIGRATIONS, "job store", timings.busy, new=new)
        self._database.row_factory = sqlite3.Row
        self._matching = Matching()
        self._database.create_function("matches", 2, self._matching, deterministic=True)
        is_local = not on_network(path)
        self._liveness = Liveness(timings.stale, is_local=is_local)
        self.outbox = Outbox(self._database, is_local=is_local)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def get(self, job_id: int) -> Job:
        """The job, or JobNotFound."""
        job = self._one(f"{SELECT} WHERE jobs.job_id = ?", job_id)
        if job is None:
            if self.imported(job_id) is not None:
                raise JobNotFound(f"job {job_id} was imported: only its state is known here", job_id)
            raise JobNotFound(f"there is no job {job_id} in {self.path}", job_id)
        return job

    def select(
        self,
        wanted: JobFilter = ALL,
        *,
        order: JobOrder = JobOrder.JOB,
        descending: bool = True,
        limit: int | None = None,
        before: int | None = None,
    ) -> list[Job]:
        """The first jobs that are wanted."""
        ids, values = selection(wanted, order, descending=descending, limit=limit, before=before)
        return self._all(f"{SELECT} WHERE jobs.job_id IN ({ids}) {ordering(order, descending=descending)}", *values)

    def tally(self, wanted: JobFilter = ALL) -> dict[JobStatus, int]:
        """How many of the jobs that are wanted have each status."""
        where, values = condition(wanted, wanted.statuses)
        found = dict(map(tuple, self._rows(f"SELECT status, COUNT(*) FROM jobs WHERE {where} GROUP BY 1", *values)))
        return {status: found.get(status, 0) for status in JobStatus}

    def of_source(self, source: Path) -> Job | None:
        """The newest job of the file at this path."""
        return self._one(f"{SELECT} WHERE source = ? ORDER BY jobs.job_id DESC LIMIT 1", str(source))

    def of_sources(self, sources: Sequence[str]) -> dict[str, Job]:
        """The newest job of the file at each of these paths."""
        found: dict[str, Job] = {}
        for first in range(0, len(sources), MOST_ASKED):
            asked = sources[first : first + MOST_ASKED]
            marks = ", ".join("?" * len(asked))
            jobs = self._all(f"{SELECT} WHERE source IN ({marks}) ORDER BY jobs.job_id", *asked)
            found |= {job.source: job for job in jobs}
        return found

    def find(self, kind: JobKind, source: str, fingerprint: str) -> Job | None:
        """The newest job of this very file that is done, or that a run may yet finish."""
        wanted = listed({*DONE, *FINISHABLE} - {JobState.UNDOING})
        return self._one(
            f"{SELECT} WHERE source = ? AND fingerprint = ? AND kind = ? AND state IN ({wanted})"
            " ORDER BY jobs.job_id DESC LIMIT 1",
            source,
            fingerprint,
            kind,
        )

    def completed(self, kind: JobKind, source: str) -> list[Job]:
        """The jobs of what stands at this path that the catalogue has."""
        return self._all(
            f"{SELECT} WHERE source = ? AND kind = ? AND state IN ({listed(DONE)}) ORDER BY jobs.job_id", source, kind
        )

    def request(self, job_id: int) -> str:
        """What was asked for with the folder of a job."""
        row = next(self._rows("SELECT request FROM requests WHERE job_id = ?", job_id), None)
        return "" if row is None else str(row["request"])

    def last_request(self, user: str) -> str:
        """What the user asked for with the folder that was submitted last."""
        query = "SELECT request FROM requests JOIN jobs USING (job_id) WHERE user = ? ORDER BY job_id DESC LIMIT 1"
        row = next(self._rows(query, user), None)
        return "" if row is None else str(row["request"])

    def replaced(self, job: Job) -> list[Job]:
        """The jobs of the same path whose place this one takes."""
        return self._all(
            f"{SELECT} WHERE source = ? AND jobs.job_id <> ? AND (state = 'undoing'"
            f" OR fingerprint <> ? AND state IN ({listed(FINISHABLE)}))",
            job.source,
            job.job_id,
            job.fingerprint,
        )

    def in_states(self, states: Iterable[JobState]) -> list[Job]:
        """The jobs in these states, oldest first."""
        return self._all(f"{SELECT} WHERE state IN ({listed(states)}) ORDER BY created, jobs.job_id")

    def is_dead(self, job: Job) -> bool:
        """Whether the job's holder is dead, as far as is known now."""
        return self._liveness.is_dead(job)

    def sources(self, job_id: int) -> list[str] | None:
        """Where the files of a move lay."""
        row = next(self._rows("SELECT sources FROM reservations WHERE job_id = ?", job_id), None)
        if row is None or row["sources"] is None:
            return None
        sources: list[str] = json.loads(zlib.decompress(row["sources"]))
        return sources

    def mounts(self, job_id: int) -> list[Path]:
        """Where the file systems of the job's files were mounted."""
        rows = self._rows("SELECT path FROM mounts WHERE job_id = ?", job_id)
        return [Path(os.fsdecode(row["path"])) for row in rows]

    def archive(self) -> str | None:
        """The identity of the archive."""
        row = next(self._rows("SELECT identity FROM archive"), None)
        return None if row is None else str(row["identity"])

    def has_reserved(self, file_id: int) -> bool:
        """Whether a job has reserved the file's id."""
        query = "SELECT 1 FROM reservations WHERE first_file_id <= ? AND ? < first_file_id + count"
        return next(self._rows(query, file_id, file_id), None) is not None

    def recorded(self, since: int = 0) -> Iterator[int]:
        """The ids of the jobs that are complete."""
        rows = self._rows("SELECT job_id FROM jobs WHERE state = 'complete' AND job_id >= ? ORDER BY job_id", since)
        return (int(row[0]) for row in rows)

    def volume(self, since: int = 0) -> tuple[int, int]:
        """How much the jobs hold that are complete."""
        sums = "COALESCE(SUM(files), 0), COALESCE(SUM(bytes), 0)"
        rows = self._rows(f"SELECT {sums} FROM jobs WHERE state = 'complete' AND job_id >= ?", since)
        files, size = next(rows)
        return int(files), int(size)

    def stages(self, job_id: int) -> dict[str, float]:
        """How many seconds the job spent in each stage."""
        rows = self._rows("SELECT task, seconds FROM stages WHERE job_id = ?", job_id)
        return dict(tuple(row) for row in rows)

    def stage_seconds(self) -> dict[str, float]:
        """How many seconds all jobs together spent in each stage."""
        rows = self._rows("SELECT task, SUM(seconds) FROM stages GROUP BY 1")
        return dict(tuple(row) for row in rows)

    def tallies(self) -> dict[str, tuple[int, int, int]]:
        """How many jobs, files and bytes are waiting, running, complete and failed."""
        rows = self._rows(
            "SELECT CASE WHEN state IN ('complete', 'duplicate') THEN 'complete'"
            " WHEN state = 'queued' THEN 'waiting' WHEN state IN ('running', 'undoing') THEN 'running'"
            " ELSE 'failed' END, COUNT(*), SUM(files), SUM(bytes) FROM jobs GROUP BY 1"
        )
        counted = {name: (count, files, size) for name, count, files, size in map(tuple, rows)}
        return {name: counted.get(name, (0, 0, 0)) for name in ("waiting", "running", "complete", "failed")}

    def failures(self) -> list[tuple[str, str, int]]:
        """The stages and reasons of failed jobs."""
        rows = self._rows(
            f"SELECT task, {FIRST_LINE} AS reason, COUNT(*) FROM jobs"
            " WHERE state IN ('failed', 'held') GROUP BY task, reason ORDER BY COUNT(*) DESC, task, reason"
        )
        return [(str(task), str(reason), int(count)) for task, reason, count in rows]

    def failed(self) -> Iterator[Failure]:
        """The jobs that failed or are held."""
        rows = self._rows(
            f"SELECT job_id, task, {FIRST_LINE}, {NAME}, user, substr(updated, 1, 10) FROM jobs"
            " WHERE status IN ('failed', 'held') ORDER BY job_id DESC"
        )
        return (Failure(*row) for row in rows)

    def activity(self) -> list[Share]:
        """How many jobs came to their end, by day and by user."""
        # What a duplicate holds is not stored again.
        rows = self._rows(
            "SELECT substr(updated, 1, 10) AS day, user,"
            f" SUM(state IN ({listed(DONE)})) AS complete, SUM(state IN ('failed', 'held')) AS failed,"
            " SUM(files * (state = 'complete')) AS files, SUM(bytes * (state = 'complete')) AS bytes FROM jobs"
            f" WHERE state IN ({listed(DONE)}, 'failed', 'held') GROUP BY 1, 2"
        )
        return [Share(**dict(row)) for row in rows]

    def flow(self, since: datetime, step: timedelta) -> Flow:
        """How many jobs came and went in each step until now."""
        begin, length, start = int(since.timestamp()), int(step.total_seconds()), time_text(since)
        number = f"(CAST(strftime('%s', {{}}) AS INTEGER) - {begin}) / {length}"
        # No job was changed before it came: one index finds both.
        recent = f"FROM jobs WHERE status IN ({', '.join(map(repr, map(str, JobStatus)))}) AND updated >= ?"
        came = self._rows(
            f"SELECT {number.format('created')}, COUNT(*) {recent} AND created >= ? GROUP BY 1", start, start
        )
        went = self._rows(
            f"SELECT {number.format('updated')}, COUNT(*), SUM(state IN ({listed(DONE)})),"
            f" SUM(state IN ('failed', 'held')), SUM(bytes * (state = 'complete')) {recent}"
            f" AND state NOT IN ({listed(UNFINISHED)}) GROUP BY 1",
            start,
        )
        count = int((datetime.now(UTC) - since) / step) + 1
        steps = steps_of(count, dict(map(tuple, came)), {row[0]: tuple(row)[1:] for row in went})
        return Flow(since=since, step=step, steps=steps, waiting=self.count_unfinished())

    def count(self) -> int:
        """How many jobs there are."""
        return int(next(self._rows("SELECT COUNT(*) FROM jobs"))[0])

    def count_unfinished(self) -> int:
        """How many jobs wait or run."""
        return int(next(self._rows(f"SELECT COUNT(*) FROM jobs WHERE {QUEUE}"))[0])

    def settled_before(self, moment: datetime) -> list[Job]:
        """The jobs that were settled before ``moment``."""
        return self._all(
            f"{SELECT} WHERE updated < ? AND state IN ({listed(SETTLED)})"
            " AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.successor = jobs.job_id) ORDER BY jobs.job_id",
            time_text(moment),
        )

    def imported(self, job_id: int) -> ImportedJob | None:
        """The imported job of this id."""
        row = next(self._rows("SELECT * FROM imported WHERE job_id = ?", job_id), None)
        return None if row is None else imported_job_of(row)

    def check_integrity(self) -> str:
        """What SQLite finds wrong with the database, having seen that it can be written."""
        with writing(self._database) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
        return "" if found == ["ok"] else "; ".join(found)

    def held(self, fence: Fence) -> Job:
        """The job, or LeaseLost where this run no longer holds it."""
        job = self.get(fence.job_id)
        if job.fence != fence:
            by = f" to {job.holder}" if job.holder is not None else ""
            raise LeaseLost(
                f"the lease of job {job.job_id} was lost{by} while this process was silent: this process stops"
            )
        return job

    def _one(self, sql: str, *values: Any) -> Job | None:
        row = next(self._rows(sql, *values), None)
        return job_of(row) if row is not None else None

    def _all(self, sql: str, *values: Any) -> list[Job]:
        return list(map(job_of, self._rows(sql, *values)))

    def _rows(self, sql: str, *values: Any) -> Iterator[sqlite3.Row]:
        try:
            with reading(self._database) as connection:
                # Whoever leaves rows behind would have a cursor closed later than the database.
                yield from iter(connection.execute(sql, values).fetchone, None)
        except IngestError as error:
            self._matching.end(error)
            raise

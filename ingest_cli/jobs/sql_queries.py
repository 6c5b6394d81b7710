"""The queries of the job store."""

import json
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..errors import JobNotFound, LeaseLost
from .filter import ALL, DEFERRED, WAITING, JobFilter, JobOrder
from .flow import Flow, steps_of
from .history import Line
from .imported import ImportedJob
from .job import DONE, UNFINISHED, Fence, Job, JobKind, JobState, JobStatus
from .places import Place
from .sql_counts import SqlCounts
from .sql_filter import condition, ordering, selection
from .sql_rows import ALL_ROWS, IMPORTED, SELECT, imported_job_of, listed, time_text

FINISHABLE = {*UNFINISHED, JobState.HELD}
# SQLite takes at least 999 values in a statement.
MOST_ASKED = 500
SETTLED = set(JobState) - FINISHABLE


class SqlQueries(SqlCounts):
    """What `store.JobStore` says can be asked of the database."""

    def get(self, job_id: int) -> Job:
        """The job, or JobNotFound. Within a transaction that writes, nobody else changes it until its end."""
        self._database.lock("jobs", "job_id", [job_id])
        job = self._one(f"{SELECT} WHERE jobs.job_id = ?", job_id)
        if job is None:
            if self.imported(job_id) is not None:
                raise JobNotFound(f"job {job_id} was imported: only its state is known here", job_id)
            raise JobNotFound(f"there is no job {job_id} in {self._database.name}", job_id)
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
        dialect = self._database.dialect
        ids, values = selection(wanted, order, dialect, descending=descending, limit=limit, before=before)
        return self._all(f"{SELECT} WHERE jobs.job_id IN ({ids}) {ordering(order, descending=descending)}", *values)

    def ids(
        self,
        wanted: JobFilter,
        *,
        order: JobOrder = JobOrder.JOB,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[int]:
        """The ids of the first jobs that are wanted."""
        where, values = condition(wanted, wanted.statuses, self._database.dialect)
        query = f"SELECT job_id FROM jobs WHERE {where} {ordering(order, descending=descending)} LIMIT ?"
        return [int(row[0]) for row in self._rows(query, *values, ALL_ROWS if limit is None else limit)]

    def several(self, job_ids: Sequence[int]) -> list[Job]:
        """Those of the jobs that there are."""
        found: dict[int, Job] = {}
        for first in range(0, len(job_ids), MOST_ASKED):
            asked = job_ids[first : first + MOST_ASKED]
            jobs = self._all(f"{SELECT} WHERE jobs.job_id IN ({', '.join('?' * len(asked))})", *asked)
            found |= {job.job_id: job for job in jobs}
        return [found[job_id] for job_id in job_ids if job_id in found]

    def of_source(self, source: Path) -> Job | None:
        """The newest job of the file at this path."""
        return self._one(f"{SELECT} WHERE source = ? ORDER BY jobs.job_id DESC LIMIT 1", str(source))

    def of_sources(self, sources: Sequence[str]) -> dict[str, Job]:
        """The newest job of the file at each of these paths."""
        found: dict[str, Job] = {}
        for first in range(0, len(sources), MOST_ASKED):
            asked = sources[first : first + MOST_ASKED]
            # There may have been very many files of one name, one after the other.
            newest = "SELECT MAX(job_id) FROM jobs AS other WHERE other.source = asked.source"
            jobs = self._all(
                f"WITH asked(source) AS (VALUES {', '.join(['(?)'] * len(asked))})"
                f" {SELECT} WHERE jobs.job_id IN (SELECT ({newest}) FROM asked)",
                *asked,
            )
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
        # The newest requests are looked at first, not all jobs.
        of_user = 'FROM requests CROSS JOIN jobs WHERE jobs.job_id = requests.job_id AND "user" = ?'
        query = f"SELECT request {of_user} ORDER BY requests.job_id DESC LIMIT 1"
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

    def in_states(self, states: Collection[JobState]) -> list[Job]:
        """The jobs in these states, oldest first."""
        # Only the status has an index: of what is queued, it says more.
        others, queued = set(states) - {JobState.QUEUED}, WAITING | DEFERRED
        statuses = [*map(str, others), *(map(str, queued) if JobState.QUEUED in states else ())]
        if not statuses:
            return []
        marks = ", ".join("?" * len(statuses))
        return self._all(f"{SELECT} WHERE status IN ({marks}) ORDER BY created, jobs.job_id", *statuses)

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
        # No two jobs have reserved the same: the range that begins last before it is the only one that can hold it.
        begun = "FROM reservations WHERE first_file_id <= ? ORDER BY first_file_id DESC LIMIT 1"
        query = f"SELECT first_file_id + count {begun}"
        return any(file_id < row[0] for row in self._rows(query, file_id))

    def recorded(self, since: int = 0) -> Iterator[int]:
        """The ids of the jobs that are complete."""
        query = "SELECT job_id FROM jobs WHERE state = 'complete' AND job_id >= ?"
        rows = self._paged(query, [since], ["job_id"], ["job_id"])
        return (int(row[0]) for row in rows)

    def places(self, job_ids: Sequence[int]) -> dict[int, Place]:  # noqa: ARG002 - one host has one queue
        """Where the jobs stand in the queues of several hosts."""
        return {}

    def queued(self) -> dict[str, int]:
        """How many jobs wait in each queue of several hosts."""
        return {}

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

    def history(self, job_id: int) -> list[Line]:
        """What was told of the job."""
        rows = self._rows("SELECT moment, line FROM history WHERE job_id = ? ORDER BY number", job_id)
        return [Line(*row) for row in rows]

    def flow(self, since: datetime, step: timedelta) -> Flow:
        """How many jobs came and went in each step until now."""
        begin, length, start = int(since.timestamp()), int(step.total_seconds()), time_text(since)

        def number(moment: str) -> str:
            return f"({self._database.dialect.seconds(moment)} - {begin}) / {length}"

        # No job was changed before it came: one index finds both.
        recent = f"FROM jobs WHERE status IN ({', '.join(map(repr, map(str, JobStatus)))}) AND updated >= ?"
        came = self._rows(f"SELECT {number('created')}, COUNT(*) {recent} AND created >= ? GROUP BY 1", start, start)
        went = self._rows(
            f"SELECT {number('updated')}, COUNT(*), SUM(CASE WHEN state IN ({listed(DONE)}) THEN 1 ELSE 0 END),"
            " SUM(CASE WHEN state IN ('failed', 'held') THEN 1 ELSE 0 END),"
            f" SUM(CASE WHEN state = 'complete' THEN bytes ELSE 0 END) {recent}"
            f" AND state NOT IN ({listed(UNFINISHED)}) GROUP BY 1",
            start,
        )
        count = int((datetime.now(UTC) - since) / step) + 1
        steps = steps_of(count, dict(map(tuple, came)), {row[0]: tuple(row)[1:] for row in went})
        return Flow(since=since, step=step, steps=steps, waiting=self.count_unfinished())

    def settled_before(self, moment: datetime, *, after: int = 0, limit: int | None = None) -> list[Job]:
        """The first jobs that were settled before ``moment``."""
        return self._all(
            f"{SELECT} WHERE jobs.job_id > ? AND updated < ? AND state IN ({listed(SETTLED)})"
            " AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.successor = jobs.job_id)"
            " ORDER BY jobs.job_id LIMIT ?",
            *(after, time_text(moment), ALL_ROWS if limit is None else limit),
        )

    def imported(self, job_id: int) -> ImportedJob | None:
        """The imported job of this id."""
        row = next(self._rows(f"SELECT {', '.join(IMPORTED)} FROM imported WHERE job_id = ?", job_id), None)
        return None if row is None else imported_job_of(row)

    def held(self, fence: Fence) -> Job:
        """The job, or LeaseLost where this run no longer holds it."""
        job = self.get(fence.job_id)
        if job.fence != fence:
            by = f" to {job.holder}" if job.holder is not None else ""
            raise LeaseLost(
                f"the lease of job {job.job_id} was lost{by} while this process was silent: this process stops"
            )
        return job

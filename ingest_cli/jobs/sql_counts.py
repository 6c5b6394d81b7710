"""Counts of jobs, which the database keeps as jobs change: however many there were, they are told at once."""

from .activity import Activity
from .database import writing
from .filter import ALL, COMPLETE, FAILED, JobFilter
from .job import JobStatus
from .reasons import MOST_JOBS, Failure, Reason, kind_of
from .sql_filter import NAME, condition
from .sql_reading import SqlReading
from .sql_rows import ALL_ROWS

UNFINISHED = frozenset(
    {JobStatus.WAITING, JobStatus.INTERRUPTED, JobStatus.DEFERRED, JobStatus.RUNNING, JobStatus.UNDOING}
)
# As what each is counted, in the order in which that is told.
TALLIES = {
    JobStatus.WAITING: "waiting",
    JobStatus.DEFERRED: "waiting",
    JobStatus.INTERRUPTED: "waiting",
    JobStatus.RUNNING: "running",
    JobStatus.UNDOING: "running",
    JobStatus.COMPLETE: "complete",
    JobStatus.DUPLICATE: "complete",
    JobStatus.FAILED: "failed",
    JobStatus.HELD: "failed",
    JobStatus.DISCARDED: "discarded",
    JobStatus.SUPERSEDED: "discarded",
}
# A count may be kept in pieces, that of what is gone too.
SUMS = "SUM(jobs), SUM(files), SUM(bytes)"
ANY = "HAVING SUM(jobs) > 0"
# Nobody who wants to change a job waits for longer than it takes to sort so many failures.
SORTED_AT_ONCE = 500


class SqlCounts(SqlReading):
    """How many jobs there are, of which kind, when and why."""

    def tally(self, wanted: JobFilter = ALL) -> dict[JobStatus, int]:
        """How many of the jobs that are wanted have each status."""
        # By the statuses an index has the times.
        where, values = condition(wanted, wanted.statuses or frozenset(JobStatus), self._database.dialect)
        is_kept = wanted == JobFilter(statuses=wanted.statuses, user=wanted.user)
        count = "SUM(jobs) FROM counts" if is_kept else "COUNT(*) FROM jobs"
        found = dict(map(tuple, self._rows(f"SELECT status, {count} WHERE {where} GROUP BY 1", *values)))
        return {status: found.get(status, 0) for status in JobStatus}

    def tallies(self) -> dict[str, tuple[int, int, int]]:
        """How many jobs, files and bytes are waiting, running, complete, failed and discarded."""
        found = dict.fromkeys(TALLIES.values(), (0, 0, 0))
        for status, *more in self._rows("SELECT status, SUM(jobs), SUM(files), SUM(bytes) FROM counts GROUP BY 1"):
            name = TALLIES[JobStatus(status)]
            jobs, files, size = map(sum, zip(found[name], more, strict=True))
            found[name] = jobs, files, size
        return found

    def count(self) -> int:
        """How many jobs there are."""
        return sum(self.tally().values())

    def count_unfinished(self) -> int:
        """How many jobs wait or run."""
        return sum(self.tally(JobFilter(statuses=UNFINISHED)).values())

    def by_day(self) -> dict[str, Activity]:
        """What came to its end on each day."""
        return self._activity(f"SELECT day, state, {SUMS} FROM days GROUP BY 1, 2 {ANY} ORDER BY 1")

    def by_user(self) -> dict[str, Activity]:
        """What came to its end for each user."""
        found = self._activity(f'SELECT "user", status, {SUMS} FROM counts GROUP BY 1, 2 {ANY} ORDER BY 1')
        return dict(sorted(found.items(), key=lambda item: -item[1].bytes))

    def stage_seconds(self) -> dict[str, float]:
        """How many seconds all jobs together spent in each stage."""
        return dict(map(tuple, self._rows("SELECT task, SUM(seconds) FROM stage_seconds GROUP BY 1")))

    def failures(self) -> list[tuple[str, str, int]]:
        """The stages and reasons of failed jobs."""
        self._find_reasons()
        words = "FROM reasons WHERE part = 'words' GROUP BY 1, 2"
        rows = self._rows(f"SELECT stage, value, SUM(jobs) {words} {ANY} ORDER BY 3 DESC, 1, 2")
        return [(str(stage), str(words), int(count)) for stage, words, count in rows]

    def reasons(self, most: int | None = None) -> list[Reason]:
        """The reasons for failures, without what belongs to one job alone."""
        self._find_reasons()
        rows = self._rows(
            "SELECT stage, reason, SUM(jobs) AS jobs, (SELECT MAX(job_id) FROM failures"
            " WHERE failures.reason = reasons.reason AND failures.stage = reasons.stage) AS newest"
            f" FROM reasons WHERE part = 'user' GROUP BY 1, 2 {ANY} ORDER BY 3 DESC, 4 DESC LIMIT ?",
            ALL_ROWS if most is None else most,
        )
        return [self._reason(stage, reason, jobs) for stage, reason, jobs, _ in map(tuple, rows)]

    def count_reasons(self) -> int:
        """How many reasons there are."""
        reasons = f"SELECT 1 FROM reasons WHERE part = 'user' GROUP BY stage, reason {ANY}"
        rows = self._rows(f"SELECT COUNT(*) FROM ({reasons}) AS found")
        return int(next(rows)[0])

    def _reason(self, stage: str, reason: str, jobs: int) -> Reason:
        newest = self._rows(
            "SELECT job_id FROM failures WHERE reason = ? AND stage = ? ORDER BY job_id DESC LIMIT ?",
            *(reason, stage, MOST_JOBS),
        )
        words = list(self._parts("words", stage, reason, 2))
        return Reason(
            stage,
            words[0] if len(words) == 1 else reason,
            jobs,
            [row["job_id"] for row in newest],
            self._parts("day", stage, reason),
            self._parts("user", stage, reason),
        )

    def _parts(self, part: str, stage: str, reason: str, most: int = ALL_ROWS) -> dict[str, int]:
        of_reason = "FROM reasons WHERE part = ? AND stage = ? AND reason = ?"
        query = f"SELECT value, SUM(jobs) {of_reason} GROUP BY 1 {ANY} LIMIT ?"
        return dict(map(tuple, self._rows(query, part, stage, reason, most)))

    def _find_reasons(self) -> None:
        """Find out why the jobs failed that did since this was asked last."""
        unsorted = "failures JOIN jobs USING (job_id) WHERE reason IS NULL"
        # In one order, in which those who sort the same ones at the same time wait for each other.
        query = f"SELECT job_id, {NAME}, words FROM {unsorted} ORDER BY job_id LIMIT ?"
        while failures := [Failure(*row) for row in self._rows(query, SORTED_AT_ONCE)]:
            found = [(kind_of(failure), failure.job_id, failure.reason) for failure in failures]
            with writing(self._database, durable=False) as connection:
                # The job may have failed once more since, for something else.
                connection.executemany(
                    "UPDATE failures SET reason = ? WHERE job_id = ? AND words = ? AND reason IS NULL", found
                )

    def _activity(self, query: str) -> dict[str, Activity]:
        found: dict[str, Activity] = {}
        for key, status, jobs, files, size in map(tuple, self._rows(query)):
            if status in COMPLETE | FAILED:
                done = found.setdefault(key, Activity())
                done.complete += jobs * (status in COMPLETE)
                done.failed += jobs * (status in FAILED)
                # What a duplicate holds is not stored again.
                done.files += files * (status == JobStatus.COMPLETE)
                done.bytes += size * (status == JobStatus.COMPLETE)
        return found

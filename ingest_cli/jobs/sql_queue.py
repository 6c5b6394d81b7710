"""The queue of the job store: which jobs wait for a run, and in which order."""

import heapq
import time
from collections.abc import Iterator
from operator import itemgetter

from .dialect import Condition
from .job import Job
from .sql_reading import SqlReading
from .sql_rows import SELECT, job_of

QUEUE = "state IN ('queued', 'running', 'undoing')"
# One step in the index for each number of attempts, however many jobs wait.
SELECT_ATTEMPTS = f"""
    WITH RECURSIVE found(attempts) AS (
        SELECT min(attempts) FROM jobs WHERE {QUEUE}
        UNION ALL SELECT (SELECT min(attempts) FROM jobs WHERE {QUEUE} AND attempts > found.attempts) FROM found
        WHERE found.attempts IS NOT NULL)
    SELECT attempts FROM found WHERE attempts IS NOT NULL
"""
SELECT_QUEUED = f"{SELECT} WHERE {QUEUE} AND attempts = ?"


class SqlQueue(SqlReading):
    """The jobs that wait for a run. How many there are does not matter: an index has them in their order."""

    @property
    def _here(self) -> Condition:
        """That this host can run a job."""
        return "", []

    def _due(self) -> Iterator[Job]:
        """The jobs that may be run now: those with the fewest attempts first, then the oldest.

        Of those that were deferred the first is the one that was due first.
        """
        for (attempts,) in list(map(tuple, self._rows(SELECT_ATTEMPTS))):
            yield from filter(self._liveness.is_dead, self._due_after(attempts))

    def _due_after(self, attempts: int) -> Iterator[Job]:
        now, (here, values) = time.time(), self._here
        queued, values = f"{SELECT_QUEUED}{here} AND", [attempts, *values]
        by_age, by_rest = (("jobs.job_id",), ("job_id",)), (("retry_at", "jobs.job_id"), ("retry_at", "job_id"))
        fresh = self._paged(f"{queued} retry_at = 0", values, *by_age)
        rested = self._paged(f"{queued} retry_at > 0 AND retry_at <= ?", [*values, now], *by_rest)
        # A wait beyond the longest comes of a clock that was wrong.
        latest = now + self._timings.longest_backoff
        misdated = self._paged(f"{queued} retry_at > ?", [*values, latest], *by_rest)
        return map(job_of, heapq.merge(fresh, rested, misdated, key=itemgetter("job_id")))

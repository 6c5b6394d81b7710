"""The queue of the job store: which jobs wait for a run, and in which order."""

import heapq
import time
from collections.abc import Iterator
from operator import itemgetter

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
SELECT_QUEUED = f"{SELECT} WHERE {QUEUE} AND attempts = ? AND"


class SqlQueue(SqlReading):
    """The jobs that wait for a run. How many there are does not matter: an index has them in their order."""

    def _due(self) -> Iterator[Job]:
        """The jobs that may be run now: those with the fewest attempts first, then the oldest.

        Of those that were deferred the first is the one that was due first.
        """
        for (attempts,) in list(map(tuple, self._rows(SELECT_ATTEMPTS))):
            yield from filter(self._liveness.is_dead, self._due_after(attempts))

    def _due_after(self, attempts: int) -> Iterator[Job]:
        now = time.time()
        by_age, by_rest = (("jobs.job_id",), ("job_id",)), (("retry_at", "jobs.job_id"), ("retry_at", "job_id"))
        fresh = self._paged(f"{SELECT_QUEUED} retry_at = 0", [attempts], *by_age)
        rested = self._paged(f"{SELECT_QUEUED} retry_at > 0 AND retry_at <= ?", [attempts, now], *by_rest)
        # A wait beyond the longest comes of a clock that was wrong.
        latest = now + self._timings.longest_backoff
        misdated = self._paged(f"{SELECT_QUEUED} retry_at > ?", [attempts, latest], *by_rest)
        return map(job_of, heapq.merge(fresh, rested, misdated, key=itemgetter("job_id")))

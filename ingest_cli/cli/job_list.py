"""A list of jobs as lines."""

from collections.abc import Sequence

from ..jobs.filter import ALL
from ..jobs.job import Job
from ..jobs.store import JobStore
from .describe import describe
from .job_table import PlainTable, Row
from .output import say


class PlainList:
    """Every job in a line, with its times as times of UTC."""

    def __init__(self, store: JobStore) -> None:
        self._store, self._table = store, PlainTable(write=say)

    def show(self, jobs: Sequence[Job]) -> None:
        """Write the jobs."""
        self._table.show([Row.of(job, describe(job, self._store), None) for job in jobs])

    def end(self) -> None:
        """Say that there are none, where none were shown."""
        if not self._table.widths:
            say(none_of(self._store))


def none_of(store: JobStore) -> str:
    """What is said where there is nothing to list."""
    return "no jobs match" if sum(store.tally(ALL).values()) else "no jobs yet"

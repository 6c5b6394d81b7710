"""One of the two places between which a database is moved, whatever keeps it there."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from .tables import Table

Row = tuple[Any, ...]


class Standing(Enum):
    """What is at a place."""

    NOTHING = "nothing"
    EMPTY = "empty"  # a database that nothing was put into
    USED = "used"
    FILLED = "filled"  # it is being filled from elsewhere, and nobody can use it
    MOVED = "moved"  # it was there, and nobody can use it any more


@dataclass(frozen=True, slots=True)
class Found:
    """What was found at a place; ``other`` is the place that it has moved to, or is filled from."""

    standing: Standing
    other: str = ""


class Side(Protocol):
    """The database for ``what`` at a ``place``, as people are told of it, on one side of a move.

    Raises ResourceUnavailable where it cannot be used now, and StoreError where it is not such a database or damaged.
    """

    what: str
    place: str
    # Whether it is said of each job which hosts can run it.
    has_queues: bool

    def find(self) -> Found:
        """What is there."""

    def close(self) -> None:
        """Let go of it."""

    def size(self) -> int:
        """About how many bytes it has."""

    # What it is asked on either side

    def columns(self, table: Table) -> tuple[str, ...]:
        """The columns of a table, but for those that are made of others."""

    def count(self, table: Table) -> int:
        """How many rows a table has."""

    def next_key(self, table: Table, after: int | None) -> int | None:
        """The key with which a piece of the table ends that begins ``after`` this one; None where there are no rows."""

    def rows(self, table: Table, columns: Sequence[str], after: int | None, upto: int | None) -> list[Row]:
        """The rows behind the key ``after`` up to that of ``upto``, in any order; all where these are None."""

    def answer(self, query: str) -> list[Row]:
        """What a query is answered with, in any order."""

    def last_number(self) -> int:
        """The number of the last event that there ever was."""

    # What is done on the side that is left

    def still(self) -> AbstractContextManager[None]:
        """Let nobody else change it for as long as the block lasts; what is done in it is done at its end, or not at
        all. Raises ResourceUnavailable where other processes use it."""

    def require_jobs_here(self) -> None:
        """Raise JobBusy where a job has not ended that only another host than this can run, or one with a database that
        hosts share."""

    def uploads_under_way(self) -> list[str]:
        """The uploads that it knows of which are no jobs yet, for messages."""

    def mark_moved(self, place: str) -> None:
        """Mark it, in such a block, as having moved to ``place``."""

    # What is done on the side that is filled

    def begin(self, place: str) -> None:
        """Make it where it is not there, and mark it as being filled from ``place``. Raises ResourceUnavailable where
        other processes use it."""

    def put(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Put rows into a table, in place of those of the same identity."""

    def remove(self, table: Table, rows: Sequence[Row]) -> None:
        """Remove rows, of which the identities are given, from a table."""

    def pass_over(self, number: int) -> None:
        """Let the numbers of events go on behind this one."""

    def flush(self, place: str) -> None:
        """Have all that was put here from ``place`` survive a loss of power."""

    def place_jobs(self) -> None:
        """Say which hosts can run each job, none of which was another host's."""

    def end(self) -> None:
        """It is whole: take away the mark."""

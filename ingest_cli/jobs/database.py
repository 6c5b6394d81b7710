"""Databases that many processes share, whichever engine keeps them: what they are asked, and how they are written.

SQL is written once, in words that SQLite and PostgreSQL have in common, with a question mark for each value; `dialect`
has what they call differently. SQLite has one writer at a time. PostgreSQL has many: what a transaction is to find
unchanged at its end, it locks.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ..errors import SettingsError, StoreError
from .dialect import Dialect

# Whoever asks for the first of many looks at few, most often.
PAGE, LARGEST_PAGE = 16, 4096
# An answer that takes longer than this was waited for by others too, who could not say that they live.
LATE_SECONDS = 3.0


class Delays:
    """When a database last could not be asked, or was slow to answer: at ``missed_at``, on this process's monotonic
    clock; 0 where that never was."""

    def __init__(self) -> None:
        self.missed_at = 0.0

    def note(self) -> None:
        """It could not be asked, or was slow."""
        self.missed_at = time.monotonic()

    def note_late(self, begun: float) -> None:
        """It has answered by now what it was asked at ``begun``."""
        if time.monotonic() - begun > LATE_SECONDS:
            self.note()


class Refused(StoreError):
    """The tables do not take what was to be written, such as what they have already."""


class NothingThere(SettingsError):
    """There is no such database yet, and none is to be made."""


class Row(Protocol):
    """A row, whose columns are got by their names and by their places."""

    def __getitem__(self, column: Any, /) -> Any:
        """A column, or some."""

    def __iter__(self) -> Iterator[Any]:
        """The columns, in their order."""

    def __len__(self) -> int:
        """How many columns there are."""

    def keys(self) -> Sequence[str]:
        """The names of the columns."""


class Cursor(Protocol):
    """What comes of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchone(self) -> Any:
        """The next row; None behind the last."""

    def fetchall(self) -> Sequence[Any]:
        """The rows that are left."""


class Connection(Protocol):
    """The way by which statements get to a database."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor:
        """Execute a statement."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Execute a statement for each of the rows."""


class Database(Protocol):
    """An open database, of one thread. Whoever ``is_local`` is used by the processes of one machine only."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def dialect(self) -> Dialect:
        """What its SQL has words of its own for."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can use it."""

    @property
    def missed_at(self) -> float:
        """When it last could not be asked, or was slow to answer, on this process's monotonic clock; 0 where that never
        was. What others say in it cannot have been seen before."""

    def writing(self, *, durable: bool = True) -> AbstractContextManager[Connection]:
        """See `writing`."""

    def reading(self) -> AbstractContextManager[Connection]:
        """See `reading`."""

    def stream(self, sql: str, values: Sequence[Any]) -> Iterator[Any]:
        """The rows of a query, of which very many are not held at once. Whoever takes them goes on soon."""

    def lock(self, table: str, key: str, values: Iterable[int]) -> None:
        """Have nobody else change these rows until the end of the transaction; outside of one, nothing."""

    def try_lock(self, table: str, key: str, value: int) -> bool:
        """Whether nobody else is changing this row, nor can until the end of the transaction."""

    def exclude(self, *names: object) -> None:
        """Have transactions that name the same come one after the other, until each ends."""

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows, within a transaction."""

    def close(self) -> None:
        """Close it."""


def paged(
    ask: Callable[..., Iterator[Any]],
    sql: str,
    values: Sequence[Any],
    order: Sequence[str],
    columns: Sequence[Any],
) -> Iterator[Any]:
    """The rows of a query with a condition, in this order, of which there may be very many: not all are held at once.

    ``ask`` gets rows; ``columns`` are what these call those of the ``order``, which tell each row from the others.
    """
    behind, size = "", PAGE
    asked = [*values]
    while True:
        count, last = 0, None
        for last in ask(f"{sql}{behind} ORDER BY {', '.join(order)} LIMIT ?", *asked, size):
            count += 1
            yield last
        if last is None or count < size:
            return
        behind = f" AND ({', '.join(order)}) > ({', '.join('?' * len(order))})"
        asked = [*values, *(last[column] for column in columns)]
        size = min(4 * size, LARGEST_PAGE)


def writing(database: Database, *, durable: bool = True) -> AbstractContextManager[Connection]:
    """One write transaction: committed and on disk at the end, undone by an exception.

    What need not be ``durable`` survives a kill, but a loss of power only with the next commit that is: no order of
    commits is ever changed. Within another one it is a part of that.
    Raises ResourceUnavailable where the database cannot be written now, as on a full disk, Refused where its tables do
    not take it, and StoreError where it is damaged.
    """
    return database.writing(durable=durable)


def reading(database: Database) -> AbstractContextManager[Connection]:
    """Queries, of what is being written too. Raises ResourceUnavailable where the database cannot be read now, and
    StoreError where it is damaged."""
    return database.reading()

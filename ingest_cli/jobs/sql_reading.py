"""The database of the job store, and how its rows are read."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from ..settings import Notifications, Timings
from .attendance import Attendance
from .database import Database, Row, reading
from .job import Job
from .liveness import Liveness
from .outbox import Outbox
from .sql_rows import job_of

NOBODY = Notifications()
# Whoever asks for the first of many looks at few, most often.
PAGE, LARGEST_PAGE = 16, 4096


class SqlReading:
    """The store in an open ``database``, which it closes.

    What becomes of jobs is put into the ``outbox`` as ``notifications`` say. Raises StoreError and ResourceUnavailable.
    """

    def __init__(self, database: Database, timings: Timings, notifications: Notifications = NOBODY) -> None:
        self._database, self._timings, self._notifications = database, timings, notifications
        is_local = database.is_local
        self._liveness = Liveness(timings.stale, is_local=is_local)
        self.outbox = Outbox(database, is_local=is_local)
        self.attendance: Attendance | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def _one(self, sql: str, *values: Any) -> Job | None:
        row = next(self._rows(sql, *values), None)
        return job_of(row) if row is not None else None

    def _all(self, sql: str, *values: Any) -> list[Job]:
        return list(map(job_of, self._rows(sql, *values)))

    def _rows(self, sql: str, *values: Any) -> Iterator[Row]:
        with reading(self._database) as connection:
            # Whoever leaves rows behind would have a cursor closed later than the database.
            yield from iter(connection.execute(sql, values).fetchone, None)

    def _paged(self, sql: str, values: Sequence[Any], order: Sequence[str], columns: Sequence[str]) -> Iterator[Row]:
        """The rows of a query with a condition, in this order, of which there may be very many.

        ``columns`` are what the rows call those of the ``order``, which tell each row from the others.
        """
        behind, size = "", PAGE
        while True:
            rows = self._rows(f"{sql} {behind} ORDER BY {', '.join(order)} LIMIT ?", *values, size)
            count, last = 0, None
            for last in rows:
                count += 1
                yield last
            if last is None or count < size:
                return
            if not behind:
                behind = f"AND ({', '.join(order)}) > ({', '.join('?' * len(order))})"
            else:
                values = values[: -len(order)]
            values = [*values, *(last[column] for column in columns)]
            size = min(4 * size, LARGEST_PAGE)

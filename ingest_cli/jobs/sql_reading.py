"""The database of the job store, and how its rows are read."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from ..settings import Notifications, Timings
from .attendance import Attendance
from .database import Database, Row, paged, reading
from .job import Job
from .liveness import Liveness
from .outbox import Outbox
from .sql_rows import job_of

NOBODY = Notifications()


class SqlReading:
    """The store in an open ``database``, which it closes.

    What becomes of jobs is put into the ``outbox`` as ``notifications`` say. Raises StoreError and ResourceUnavailable.
    """

    def __init__(self, database: Database, timings: Timings, notifications: Notifications = NOBODY) -> None:
        self._database, self._timings, self._notifications = database, timings, notifications
        is_local = database.is_local
        self._liveness = Liveness(timings.stale, lambda: database.missed_at, is_local=is_local)
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
        return paged(self._rows, sql, values, order, columns)

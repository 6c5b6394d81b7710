"""The database of the job store, opened, and how its rows are read."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import IngestError
from ..mounts import on_network
from ..settings import Notifications, Timings
from .database import open_database, reading
from .group_commit import Shared
from .job import Job
from .liveness import Liveness
from .migrations import MIGRATIONS
from .outbox import Outbox
from .sqlite_filter import Matching
from .sqlite_rows import job_of

NOBODY = Notifications()


class SqliteReading:
    """The database at ``path``; a ``new`` one is made where it is missing.

    What becomes of jobs is put into the ``outbox`` as ``notifications`` say. Raises StoreError and ResourceUnavailable.
    """

    def __init__(
        self,
        path: Path,
        timings: Timings,
        notifications: Notifications = NOBODY,
        *,
        new: bool = True,
        shared: Shared | None = None,
    ) -> None:
        self.path, self._timings, self._notifications, self._shared = path, timings, notifications, shared
        self._database = open_database(path, MIGRATIONS, "job store", timings.busy, new=new, shared=shared)
        self._database.conn.row_factory = sqlite3.Row
        self._matching = Matching()
        self._database.conn.create_function("matches", 2, self._matching, deterministic=True)
        is_local = not on_network(path)
        self._liveness = Liveness(timings.stale, is_local=is_local)
        self.outbox = Outbox(self._database, is_local=is_local)

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

    def _rows(self, sql: str, *values: Any) -> Iterator[sqlite3.Row]:
        try:
            with reading(self._database) as connection:
                # Whoever leaves rows behind would have a cursor closed later than the database.
                yield from iter(connection.execute(sql, values).fetchone, None)
        except IngestError as error:
            self._matching.end(error)
            raise

"""The job store in an SQLite file."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import IngestError
from ..settings import Notifications, Timings
from .database import Row, writing
from .filter import matches
from .group_commit import Shared
from .job import Job
from .sql_reading import NOBODY
from .sql_store import SqlJobStore
from .sqlite_database import SqliteDatabase, open_database
from .sqlite_migrations import MIGRATIONS

LOOK_SECONDS = 0.05


class Matching:
    """`matches` as SQLite calls it. Of what ends it, as Ctrl-C may, SQLite only says that something did: `end` raises
    that again."""

    def __init__(self) -> None:
        self._ended_by: BaseException | None = None

    def __call__(self, glob: str, name: str) -> bool:
        """Whether the glob matches the name."""
        try:
            return matches(glob, name)
        except BaseException as error:
            self._ended_by = error
            raise

    def end(self, told: Exception) -> None:
        """Raise what ended it, if that is what SQLite ``told``."""
        error, self._ended_by = self._ended_by, None
        if error is None and "user-defined function" in str(told):
            # Only the handler of a signal can run before the function's own first line.
            error = KeyboardInterrupt()
        if error is not None:
            raise error from None


class SqliteJobStore(SqlJobStore):
    """The store in the file at ``path``; a ``new`` one is made where it is missing. Raises StoreError."""

    _database: SqliteDatabase

    def __init__(
        self,
        path: Path,
        timings: Timings,
        notifications: Notifications = NOBODY,
        *,
        new: bool = True,
        shared: Shared | None = None,
    ) -> None:
        self.path, self._shared = path, shared
        database = open_database(path, MIGRATIONS, "job store", timings.busy, new=new, shared=shared)
        super().__init__(database, timings, notifications)
        self._matching = Matching()
        database.conn.create_function("matches", 2, self._matching, deterministic=True)

    def another(self, *, busy: float | None = None) -> "SqliteJobStore":
        """A connection of its own to the same file, which has one writer at a time: whoever waited less for that than
        others do would be the last to write."""
        return SqliteJobStore(self.path, self._timings, self._notifications, new=False, shared=self._shared)

    def check_integrity(self) -> str:
        """What SQLite finds wrong with the file, having seen that it can be written."""
        with writing(self._database):
            pass
        # Nobody else waits while all of it is looked at.
        found = [str(row[0]) for row in self._rows("PRAGMA quick_check(3)")]
        return "" if found == ["ok"] else "; ".join(found)

    def _hear(self, job: Job) -> None:
        if not self._liveness.is_unheard(job):
            return
        # Whoever has the lock that others wait for lets go of it. This process may be the first to get it: the others
        # look for it every tenth of a second, or after a heartbeat, if they have just given up.
        with writing(self._database, durable=False):
            pass
        begun, patience = time.monotonic(), min(self._timings.stale / 4, 2 * self._timings.heartbeat)
        while time.monotonic() - begun < patience:
            time.sleep(min(LOOK_SECONDS, patience / 4))
            if not self._liveness.is_dead(self.get(job.job_id)):
                return
        self._liveness.heard_at = begun

    def _is_ours(self, job: Job) -> bool:
        # It was read in the transaction, and nobody else writes.
        return not self._liveness.is_unheard(job)

    def _rows(self, sql: str, *values: Any) -> Iterator[Row]:
        try:
            yield from super()._rows(sql, *values)
        except IngestError as error:
            self._matching.end(error)
            raise

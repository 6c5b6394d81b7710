"""Ids from a database, as Pacifica UniqueID gives them out: consecutive ranges by mode, none twice."""

from pathlib import Path

from ...errors import IngestError
from ...jobs.contention import again
from ...jobs.database import Database, writing
from ...jobs.group_commit import Shared
from ...jobs.sqlite_database import BUSY_SECONDS, open_database
from ...text import counted
from ..base import IdMode

MIGRATIONS = ("CREATE TABLE unique_index (id_mode TEXT PRIMARY KEY, next_id INTEGER NOT NULL) WITHOUT ROWID",)


class SqlUniqueId:
    """Ids kept in an open ``database``, which it closes; the first of each mode is 1."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ping(self) -> str:
        """Say which ids were reserved last, having seen that more could be."""
        with writing(self._database) as connection:
            rows = connection.execute("SELECT id_mode, next_id - 1 FROM unique_index ORDER BY id_mode").fetchall()
        last_ids = ", ".join(f"{mode} {last}" for mode, last in rows)
        return f"{self._database.name}: {f'last ids: {last_ids}' if last_ids else 'no ids reserved yet'}"

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @again
    def reserve(self, mode: IdMode, count: int) -> int:
        """Reserve ``count`` ids and return the first; safe from any number of processes."""
        if count < 1:
            raise IngestError(f"cannot reserve {counted(count, 'id')} of mode {mode!r}")
        with writing(self._database) as connection:
            row = connection.execute(
                "INSERT INTO unique_index (id_mode, next_id) VALUES (?, ?)"
                " ON CONFLICT (id_mode) DO UPDATE SET next_id = unique_index.next_id + ? RETURNING next_id",
                (mode, 1 + count, count),
            ).fetchone()
        return int(row[0]) - count

    def pass_over(self, mode: IdMode, last: int) -> None:
        """Let ids go on behind ``last``."""
        with writing(self._database) as connection:
            connection.execute(
                "INSERT INTO unique_index (id_mode, next_id) VALUES (?, ?) ON CONFLICT (id_mode)"
                " DO UPDATE SET next_id = excluded.next_id WHERE unique_index.next_id < excluded.next_id",
                (mode, 1 + last),
            )


class EmbeddedUniqueId(SqlUniqueId):
    """Ids kept in the SQLite file at ``path``, which may be ``new``."""

    def __init__(
        self, path: Path, busy: float = BUSY_SECONDS, *, new: bool = True, shared: Shared | None = None
    ) -> None:
        super().__init__(open_database(path, MIGRATIONS, "id store", busy, new=new, shared=shared))

"""Ids from SQLite, as Pacifica UniqueID gives them out: consecutive ranges by mode, none twice."""

from pathlib import Path

from ...errors import IngestError
from ...jobs.database import BUSY_SECONDS, open_database, writing
from ...jobs.group_commit import Shared
from ...text import counted
from ..base import IdMode

MIGRATIONS = ("CREATE TABLE unique_index (id_mode TEXT PRIMARY KEY, next_id INTEGER NOT NULL) WITHOUT ROWID",)


class EmbeddedUniqueId:
    """Ids kept in the database at ``path``, which may be ``new``; the first of each mode is 1."""

    def __init__(
        self, path: Path, busy: float = BUSY_SECONDS, *, new: bool = True, shared: Shared | None = None
    ) -> None:
        self._path = path
        self._database = open_database(path, MIGRATIONS, "id store", busy, new=new, shared=shared)

    def ping(self) -> str:
        """Say which ids were reserved last, having seen that more could be."""
        with writing(self._database) as connection:
            rows = connection.execute("SELECT id_mode, next_id - 1 FROM unique_index ORDER BY id_mode").fetchall()
        last_ids = ", ".join(f"{mode} {last}" for mode, last in rows)
        return f"{self._path}: {f'last ids: {last_ids}' if last_ids else 'no ids reserved yet'}"

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def reserve(self, mode: IdMode, count: int) -> int:
        """Reserve ``count`` ids and return the first; safe from any number of processes."""
        if count < 1:
            raise IngestError(f"cannot reserve {counted(count, 'id')} of mode {mode!r}")
        with writing(self._database) as connection:
            row = connection.execute(
                "INSERT INTO unique_index VALUES (:mode, 1 + :count)"
                " ON CONFLICT DO UPDATE SET next_id = next_id + :count RETURNING next_id - :count",
                {"mode": mode, "count": count},
            ).fetchone()
        return int(row[0])

    def pass_over(self, mode: IdMode, last: int) -> None:
        """Let ids go on behind ``last``."""
        with writing(self._database) as connection:
            connection.execute(
                "INSERT INTO unique_index VALUES (:mode, 1 + :last)"
                " ON CONFLICT DO UPDATE SET next_id = 1 + :last WHERE next_id <= :last",
                {"mode": mode, "last": last},
            )

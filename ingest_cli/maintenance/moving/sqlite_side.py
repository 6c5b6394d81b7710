"""A database in SQLite on one side of a move."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ...errors import ResourceUnavailable
from ...jobs import moved
from ...jobs.process import users_of
from ...jobs.sqlite_database import SqliteDatabase, connected, open_database, size_of, version_of
from ...text import listed
from .side import Found, Row, Standing
from .tables import TABLES, Table

# Others that have just looked are gone by then.
PATIENCE_SECONDS = 1.0


class SqliteSide:
    """The database for ``what`` in the file at ``path``, with these ``migrations``."""

    has_queues = False

    def __init__(self, what: str, path: Path, migrations: Sequence[str], busy: float) -> None:
        self.what, self.path, self.place = what, path, str(path)
        self._migrations, self._busy = migrations, busy
        self._opened: SqliteDatabase | None = None

    def find(self) -> Found:
        """What is there."""
        if size_of(self.path) == 0:
            return Found(Standing.NOTHING)
        version = version_of(self.path, self.what)
        if version is None or version < moved.MOVED:  # who opens it tells that it is something else
            return Found(Standing.EMPTY if self._is_empty() else Standing.USED)
        with closing(connected(self.path, self._busy)) as connection:
            other = moved.place_of(connection)
        return Found(Standing.MOVED if version < moved.FILLED else Standing.FILLED, other)

    def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def size(self) -> int:
        """How many bytes its file has."""
        return size_of(self.path)

    def columns(self, table: Table) -> tuple[str, ...]:
        """The columns of a table."""
        return tuple(row[1] for row in self.answer(f"PRAGMA table_xinfo({_quoted(table.name)})") if row[6] == 0)

    def count(self, table: Table) -> int:
        """How many rows a table has."""
        return int(self.answer(f"SELECT count(*) FROM {_quoted(table.name)}")[0][0])

    def next_key(self, table: Table, after: int | None) -> int | None:
        """The key with which the next piece of the table ends."""
        assert table.key is not None
        key, where = _quoted(table.key), table.between(after, None)
        piece = f"SELECT {key} FROM {_quoted(table.name)} {where} ORDER BY {key} LIMIT {table.at_once}"
        found = self.answer(f"SELECT max({key}) FROM ({piece})")[0][0]
        return None if found is None else int(found)

    def rows(self, table: Table, columns: Sequence[str], after: int | None, upto: int | None) -> list[Row]:
        """The rows of a piece of a table."""
        return self.answer(
            f"SELECT {_listed(columns)} FROM {_quoted(table.name)} {table.between(after, upto)}",
        )

    def answer(self, query: str) -> list[Row]:
        """What a query is answered with."""
        with self._database.reading() as connection:
            return list(map(tuple, connection.execute(query).fetchall()))

    def last_number(self) -> int:
        """The number of the last event that there ever was."""
        found = self.answer("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
        return int(found[0][0]) if found else 0

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let nobody else change it."""
        self._opened = open_database(self.path, self._migrations, self.what, self._busy, new=False)
        self._require_alone()
        with self._database.writing():
            yield

    def require_jobs_here(self) -> None:
        """All jobs are this host's."""

    def uploads_under_way(self) -> list[str]:
        """None: uploads lie in the spool folder, which stays."""
        return []

    def mark_moved(self, place: str) -> None:
        """Mark it as having moved."""
        with self._database.writing() as connection:
            moved.mark_moved(connection, f"{self.what} {self.path}", place)

    def begin(self, place: str) -> None:
        """Make it where it is not there, and mark it as being filled."""
        if self.find().standing is not Standing.FILLED:
            with closing(open_database(self.path, self._migrations, self.what, self._busy)) as database:
                self._mark_filled(database, place)
        self._opened = SqliteDatabase(self.path, connected(self.path, self._busy))
        # What others refer to may be put there after them.
        self._opened.conn.execute("PRAGMA foreign_keys=OFF")

    def put(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Put rows into a table."""
        others = [column for column in columns if column not in table.identity]
        changes = ", ".join(f"{_quoted(column)} = excluded.{_quoted(column)}" for column in others)
        conflict = f" ON CONFLICT {f'({_listed(table.identity)}) DO UPDATE SET {changes}' if others else 'DO NOTHING'}"
        marks = ", ".join("?" * len(columns))
        with self._database.writing(durable=False) as connection:
            if table.is_replaced:
                connection.execute(f"DELETE FROM {_quoted(table.name)}")
                conflict = ""
            connection.executemany(
                f"INSERT INTO {_quoted(table.name)} ({_listed(columns)}) VALUES ({marks}){conflict}", rows
            )

    def remove(self, table: Table, rows: Sequence[Row]) -> None:
        """Remove rows from a table."""
        where = " AND ".join(f"{_quoted(column)} = ?" for column in table.identity)
        with self._database.writing(durable=False) as connection:
            connection.executemany(f"DELETE FROM {_quoted(table.name)} WHERE {where}", rows)

    def pass_over(self, number: int) -> None:
        """Let the numbers of events go on behind this one."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
            connection.execute("INSERT INTO sqlite_sequence VALUES ('outbox', ?)", [number])

    def flush(self, place: str) -> None:
        """What was put here survives a loss of power."""
        with self._database.writing() as connection:
            moved.mark_filled(connection, place)

    def place_jobs(self) -> None:
        """All jobs are this host's."""

    def end(self) -> None:
        """Take away the mark."""
        if self._opened is None:
            self._opened = SqliteDatabase(self.path, connected(self.path, self._busy))
        with self._database.writing() as connection:
            moved.unmark(connection)

    @property
    def _database(self) -> SqliteDatabase:
        assert self._opened is not None
        return self._opened

    def _is_empty(self) -> bool:
        with closing(open_database(self.path, self._migrations, self.what, self._busy, new=False)) as database:
            tables = [_quoted(table.name) for table in TABLES[self.what]]
            return not any(database.conn.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables)

    def _mark_filled(self, database: SqliteDatabase, place: str) -> None:
        with database.writing() as connection:
            moved.mark_filled(connection, place)
        # From now on nobody can open it.
        try:
            self._opened = database
            self._require_alone()
        except BaseException:
            with database.writing() as connection:
                moved.unmark(connection)
            raise
        finally:
            self._opened = None

    def _require_alone(self) -> None:
        """Raise ResourceUnavailable where another process has it open."""
        connection, deadline = self._database.conn, time.monotonic() + PATIENCE_SECONDS
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal":  # there nobody holds a lock for as long as the database is open
            return
        while True:
            try:
                # That takes the file for itself.
                connection.execute("PRAGMA journal_mode=delete")
                connection.execute("PRAGMA journal_mode=wal")
                return
            except sqlite3.OperationalError as error:
                if time.monotonic() > deadline:
                    raise ResourceUnavailable(
                        f"the {self.what} {self.path} is in use{_by(self.path)}: end what uses it first"
                    ) from error
            time.sleep(0.05)


def _by(path: Path) -> str:
    users = users_of(path)
    return f" by {listed(users)}" if users else ""


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(_quoted, columns))


def _quoted(name: str) -> str:
    return f'"{name}"'

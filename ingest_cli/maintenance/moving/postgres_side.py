"""A database in PostgreSQL on one side of a move."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

from rich.filesize import decimal

from ...errors import JobBusy
from ...jobs import moved
from ...jobs import postgres_moved as marks
from ...jobs.database import Connection
from ...jobs.job import UNFINISHED, JobKind, JobState
from ...jobs.postgres_connections import PostgresConnections
from ...jobs.postgres_database import Migration, PostgresDatabase, open_database, version_of
from ...jobs.postgres_migrations import ADDED_UP
from ...jobs.queues import Queues
from ...jobs.spool import SpoolKind
from ...jobs.sql_rows import listed as names_of
from ...settings import Cluster
from ...text import quoted
from .side import Found, Row, Standing
from .tables import JOBS, TABLES, UPLOADS, Table

RUNNABLE = {*UNFINISHED, JobState.HELD, JobState.FAILED}
COLUMNS = """
    SELECT column_name, data_type FROM information_schema.columns
        WHERE table_schema = current_schema AND table_name = lower(?) AND is_generated = 'NEVER'
        ORDER BY ordinal_position
"""
IN_SHARED_SPOOL = "starts_with(source, 's3://')"
UPLOADED = TABLES[UPLOADS][0]
UNDER_WAY = """
    SELECT name, "user", arrived, length FROM uploads
        WHERE job_id IS NULL AND NOT is_used AND starts_with(name, ?) ORDER BY name
"""
SIZE = "SUM(pg_total_relation_size(to_regclass(name)))"


class PostgresSide:
    """The tables for ``what`` in the database that ``pool`` leads to, with these ``migrations``."""

    has_queues = True

    def __init__(
        self, what: str, pool: PostgresConnections, migrations: Sequence[Migration], busy: float, cluster: Cluster
    ) -> None:
        self.what, self.place = what, str(pool.url)
        self._pool, self._migrations, self._busy = pool, migrations, busy
        self._database, self._cluster = PostgresDatabase(pool, busy), cluster
        self._types = cache(self._read_types)

    def find(self) -> Found:
        """What is there."""
        version = version_of(self._pool, self.what)
        if version is None:
            return Found(Standing.NOTHING)
        if version < moved.MOVED:
            return Found(Standing.EMPTY if self._is_empty() else Standing.USED)
        with self._database.reading() as connection:
            other = marks.place_of(connection, self.what)
        return Found(Standing.MOVED if version < moved.FILLED else Standing.FILLED, other)

    def close(self) -> None:
        """Close its connections."""
        self._database.close()

    def size(self) -> int:
        """How many bytes its tables and their indexes have."""
        names = ", ".join(f"('{table.name}')" for table in TABLES[self.what])
        return int(self.answer(f"SELECT COALESCE({SIZE}, 0) FROM (VALUES {names}) AS tables (name)")[0][0])

    def columns(self, table: Table) -> tuple[str, ...]:
        """The columns of a table."""
        return tuple(self._types(table))

    def count(self, table: Table) -> int:
        """How many rows a table has."""
        return int(self.answer(f"SELECT count(*) FROM {table.name}")[0][0])

    def next_key(self, table: Table, after: int | None) -> int | None:
        """The key with which the next piece of the table ends."""
        assert table.key is not None
        key, where = _quoted(table.key), table.between(after, None)
        piece = f"SELECT {key} FROM {table.name} {where} ORDER BY {key} LIMIT {table.at_once}"
        found = self.answer(f"SELECT max({key}) FROM ({piece}) AS piece")[0][0]
        return None if found is None else int(found)

    def rows(self, table: Table, columns: Sequence[str], after: int | None, upto: int | None) -> list[Row]:
        """The rows of a piece of a table."""
        return self.answer(f"SELECT {_listed(columns)} FROM {table.name} {table.between(after, upto)}")

    def answer(self, query: str) -> list[Row]:
        """What a query is answered with."""
        with self._database.reading() as connection:
            return [tuple(map(_plain, row)) for row in connection.execute(query).fetchall()]

    def last_number(self) -> int:
        """The number of the last event that there ever was."""
        sequence = self.answer("SELECT pg_get_serial_sequence('outbox', 'number')")[0][0]
        return int(self.answer(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")[0][0])

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let nobody else change it."""
        open_database(self._pool, self._migrations, self.what, self._busy, new=False).close()
        self._prepare()
        with self._database.writing() as connection:
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.execute(f"LOCK TABLE {', '.join(table.name for table in TABLES[self.what])} IN EXCLUSIVE MODE")
            if self.what == JOBS:
                for statement in ADDED_UP:
                    connection.execute(statement)
            yield

    def require_jobs_here(self) -> None:
        """Raise JobBusy where a job has not ended whose files lie on another host's disks, or in a shared spool."""
        names = Queues.of_host(self._cluster).names
        states, marks = names_of({*UNFINISHED, JobState.HELD}), ", ".join("?" * len(names))
        with self._database.reading() as connection:
            query = f"SELECT job_id, queue FROM jobs WHERE state IN ({states}) AND queue NOT IN ({marks}) LIMIT 1"
            found = connection.execute(query, names).fetchall()
            query = (
                f"SELECT job_id, source FROM jobs WHERE state IN ({states}) AND spooled AND {IN_SHARED_SPOOL} LIMIT 1"
            )
            shared = connection.execute(query).fetchall()
        for job_id, queue in found:
            host = queue.partition(":")[2]
            raise JobBusy(f"job {job_id} waits for a worker of {host}, on whose disk its files are: let it end first")
        for job_id, source in shared:
            raise JobBusy(
                f"job {job_id} is of {source}, in a spool that only hosts with a database of PostgreSQL share: let it"
                " end first"
            )

    def uploads_under_way(self) -> list[str]:
        """The uploads in a shared spool that are no jobs yet."""
        if self._types(UPLOADED):
            with self._database.reading() as connection:
                found = connection.execute(UNDER_WAY, [SpoolKind.RESUMABLE.prefix])
                return [_said(*row) for row in found.fetchall()]
        return []

    def mark_moved(self, place: str) -> None:
        """Mark it as having moved."""
        with self._database.writing() as connection:
            marks.mark_moved(connection, self.what, self._names, f"{self.what} in {self.place}", place)

    def begin(self, place: str) -> None:
        """Make it where it is not there, and mark it as being filled."""
        if self.find().standing is not Standing.FILLED:
            open_database(self._pool, self._migrations, self.what, self._busy).close()
            self._prepare()
            with self._database.writing() as connection:
                marks.mark_filled(connection, self.what, self._names, f"{self.what} in {self.place}", place)

    def put(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Put rows into a table."""
        rows = self._typed(table, columns, rows)
        with self._filling(durable=False) as connection:
            if table.is_replaced:
                connection.execute(f"DELETE FROM {table.name}")
            if table.is_replaced or not self._has_any(table, columns, rows):
                self._database.insert(table.name, list(map(_quoted, columns)), rows)
                return
            others = [column for column in columns if column not in table.identity]
            changes = ", ".join(f"{_quoted(column)} = excluded.{_quoted(column)}" for column in others)
            conflict = f"({_listed(table.identity)}) DO UPDATE SET {changes}" if others else "DO NOTHING"
            marks = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table.name} ({_listed(columns)}) VALUES ({marks}) ON CONFLICT {conflict}", rows
            )

    def remove(self, table: Table, rows: Sequence[Row]) -> None:
        """Remove rows from a table."""
        where = " AND ".join(f"{_quoted(column)} = ?" for column in table.identity)
        with self._filling(durable=False) as connection:
            connection.executemany(f"DELETE FROM {table.name} WHERE {where}", rows)

    def pass_over(self, number: int) -> None:
        """Let the numbers of events go on behind this one."""
        with self._database.writing() as connection:
            connection.execute("SELECT setval(pg_get_serial_sequence('outbox', 'number'), ?)", [number])

    def flush(self, place: str) -> None:
        """What was put here survives a loss of power."""
        with self._database.writing() as connection:
            marks.renew(connection, self.what, place)  # once that is on the disk, so is all before it

    def place_jobs(self) -> None:
        """Say which hosts can run each job: what lies on this host's own disks only this one can."""
        queues, priority = Queues.of_host(self._cluster), self._cluster.priority
        with self._filling() as connection:
            found = connection.execute(f"SELECT job_id, kind, source FROM jobs WHERE state IN ({names_of(RUNNABLE)})")
            placed = [
                (queues.queue_of(JobKind(kind), source), priority, job_id) for job_id, kind, source in found.fetchall()
            ]
            connection.executemany("UPDATE jobs SET queue = ?, priority = ? WHERE job_id = ?", placed)

    def end(self) -> None:
        """Take away the mark."""
        with self._database.writing() as connection:
            marks.unmark(connection, self.what, self._names)

    @property
    def _names(self) -> list[str]:
        return [table.name for table in TABLES[self.what]]

    @contextmanager
    def _filling(self, *, durable: bool = True) -> Iterator[Connection]:
        with self._database.writing(durable=durable) as connection:
            marks.filling(connection)
            yield connection

    def _prepare(self) -> None:
        with self._database.writing() as connection:
            marks.prepare(connection)

    def _is_empty(self) -> bool:
        return not any(self.answer(f"SELECT 1 FROM {table.name} LIMIT 1") for table in TABLES[self.what])

    def _has_any(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> bool:
        """Whether some of the rows may be there already."""
        if table.key is None:
            return True
        place = columns.index(table.key)
        keys = [row[place] for row in rows]
        return bool(self.rows(table, [table.key], min(keys) - 1, max(keys)))

    def _read_types(self, table: Table) -> dict[str, str]:
        """The columns of a table, with their types."""
        with self._database.reading() as connection:
            return dict(map(tuple, connection.execute(COLUMNS, [table.name]).fetchall()))

    def _typed(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        """The rows, with what SQLite has numbers for."""
        types = self._types(table)
        are_switches = [types[column] == "boolean" for column in columns]
        if not any(are_switches):
            return list(rows)
        return [
            tuple(bool(value) if is_switch else value for value, is_switch in zip(row, are_switches, strict=True))
            for row in rows
        ]


def _said(name: str, user: str, arrived: int, length: int | None) -> str:
    of = f" of {decimal(length)}" if length is not None else ""
    return f"{name} ({f'by {quoted(user)}, ' if user else ''}{decimal(arrived)}{of})"


def _plain(value: Any) -> Any:
    """A value as SQLite would have it, and a time whatever the zone of the server."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return int(value) if isinstance(value, bool) else value


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(_quoted, columns))


def _quoted(name: str) -> str:
    return f'"{name}"'

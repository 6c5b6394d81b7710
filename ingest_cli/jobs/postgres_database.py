"""PostgreSQL databases that many hosts share: how they are reached, migrated and written.

Nothing is kept in a session between transactions, so that PgBouncer may stand before the server: no prepared
statement, no setting, no lock. Each transaction that writes says itself how long it waits for others, and how long it
may be silent: a process that is frozen in the midst of one must not have all others wait for it.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from ..errors import SettingsError, StoreError
from .contention import again
from .database import NothingThere
from .dialect import PostgresDialect
from .job import Fence

try:
    import psycopg

    from .postgres_connections import PostgresConnections
    from .postgres_errors import explained, is_of_the_server
except ImportError as missing:
    raise SettingsError("PostgreSQL needs: pip install 'pacifica-ingest-cli[cluster]'") from missing

BUSY_SECONDS = 60.0  # unless the caller says otherwise
# A transaction that does nothing for so long is undone. Others wait longer than that, and who could not say meanwhile
# that he lives, since his job was being changed in it, has time left for that.
SILENT_SECONDS = 20.0
# So many rows of a stream come together.
FETCHED = 1000
VERSIONS = "CREATE TABLE ingest_versions (application text PRIMARY KEY, version integer NOT NULL)"
NO_TABLE = "42P01"
# A script, or what finds one.
Migration = str | Callable[[], str]


class _Connection:
    """The connection of a transaction."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> "psycopg.Cursor[Any]":
        """Execute a statement."""
        return self._connection.execute(_translated(sql), values)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Execute a statement for each of the rows."""
        # Several are sent at once, which takes an answer more than one does, and than none.
        listed = list(rows)
        if len(listed) > 1:
            with self._connection.cursor() as cursor:
                cursor.executemany(_translated(sql), listed)
        elif listed:
            self.execute(sql, listed[0])
        return None

    def copy(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Send rows to a COPY."""
        with self._connection.cursor() as cursor, cursor.copy(sql) as copy:
            for row in rows:
                copy.write_row(row)


class _Reader:
    """For queries, each by any connection: one that was broken meanwhile is replaced."""

    def __init__(self, pool: PostgresConnections, *, urgent: bool) -> None:
        self._pool, self._is_urgent = pool, urgent

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> "psycopg.Cursor[Any]":
        """Execute a query."""
        connection, is_used = self._pool.take(urgent=self._is_urgent)
        try:
            try:
                return connection.execute(_translated(sql), values)
            except psycopg.OperationalError:
                if not (is_used and connection.closed):
                    raise
                connection = self._pool.renew(connection)
                return connection.execute(_translated(sql), values)
        finally:
            self._pool.give_back(connection, urgent=self._is_urgent)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Nothing is written here."""
        raise NotImplementedError


class PostgresDatabase:
    """A database of PostgreSQL, of one thread. Who is ``urgent`` waits for none of those who have connections already:
    to say that somebody lives must not take as long as they do.

    What is ``noted`` in a transaction is ``doubtful`` where nobody knows whether that was committed, since the
    connection broke in the midst of it.
    """

    is_local = False
    dialect = PostgresDialect()

    def __init__(self, pool: PostgresConnections, busy: float = BUSY_SECONDS, *, urgent: bool = False) -> None:
        self.pool, self._is_urgent = pool, urgent
        pool.open()
        self._reader = _Reader(pool, urgent=urgent)
        self._writer: _Connection | None = None
        self._locked: set[tuple[str, int]] = set()
        self.noted: list[Fence] = []
        self.doubtful: list[Fence] = []
        silent = f"SET LOCAL idle_in_transaction_session_timeout = {int(1000 * SILENT_SECONDS)}"
        self._begin = f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {int(1000 * busy)}; {silent}"

    @property
    def name(self) -> str:
        """Its URL without a password."""
        return str(self.pool.url)

    @property
    def missed_at(self) -> float:
        """When its server last could not be asked by any thread, or was slow to answer."""
        return self.pool.delays.missed_at

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[_Connection]:
        """A write transaction. What is not durable does not wait for the server's disk."""
        if self._writer is not None:
            yield self._writer
            return
        with self._translating("write to"):
            connection = self._begun(durable=durable)
            try:
                self._writer = _Connection(connection)
                yield self._writer
                self._commit(connection)
            except Exception:
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                raise
            finally:
                # Whoever is interrupted waits for nothing: one that is in the midst of it is closed, and so undone.
                self._writer = None
                self._locked.clear()
                self.noted.clear()
                self.pool.give_back(connection, urgent=self._is_urgent)

    @contextmanager
    def reading(self) -> Iterator[_Connection | _Reader]:
        """Queries."""
        with self._translating("read"):
            yield self._writer or self._reader

    def stream(self, sql: str, values: Sequence[Any]) -> Iterator[Any]:
        """The rows of a query, by a cursor in a transaction of its own, which lasts until the last one is taken."""
        with self._translating("read"):
            connection = self._begun(durable=False)
            try:
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                with connection.cursor("rows") as cursor:
                    cursor.itersize = FETCHED
                    yield from cursor.execute(_translated(sql), values)
                connection.execute("COMMIT")
            finally:
                # Where rows are left behind it is in a transaction still: it is closed.
                self.pool.give_back(connection, urgent=self._is_urgent)

    def lock(self, table: str, key: str, values: Iterable[int]) -> None:
        """Lock rows, in the order of their keys, in which everybody does."""
        new = sorted(value for value in {*values} if (table, value) not in self._locked)
        if self._writer is not None and new:
            self._writer.execute(f"SELECT 1 FROM {table} WHERE {key} = ANY(?) ORDER BY {key} FOR NO KEY UPDATE", [new])
            self._locked.update((table, value) for value in new)

    def try_lock(self, table: str, key: str, value: int) -> bool:
        """Lock a row, if nobody else has."""
        assert self._writer is not None
        found = self._writer.execute(
            f"SELECT 1 FROM {table} WHERE {key} = ? FOR NO KEY UPDATE SKIP LOCKED", [value]
        ).fetchone()
        if found is not None:
            self._locked.add((table, value))
        return found is not None

    def exclude(self, *names: object) -> None:
        """Lock a number that is made of the names."""
        assert self._writer is not None
        self._writer.execute("SELECT pg_advisory_xact_lock(?)", [_number_of(names)])

    def try_exclude(self, *names: object) -> bool:
        """Whether no other transaction is at what is named so, nor can be until the end of this one."""
        assert self._writer is not None
        row = self._writer.execute("SELECT pg_try_advisory_xact_lock(?)", [_number_of(names)]).fetchone()
        return row is not None and bool(row[0])

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows by COPY."""
        with self.writing() as writer:
            writer.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN", rows)

    def close(self) -> None:
        """Let its connections be closed."""
        self.pool.close()

    def _begun(self, *, durable: bool) -> "psycopg.Connection[Any]":
        """A connection in a new transaction."""
        # What says that something is durable must be, be the server's own setting what it may.
        synced = (
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
            if durable
            else "SET LOCAL synchronous_commit = off"
        )
        connection, is_used = self.pool.take(urgent=self._is_urgent)
        try:
            try:
                connection.execute(f"{self._begin}; {synced}")
            except psycopg.OperationalError:
                if not (is_used and connection.closed):
                    raise
                connection = self.pool.renew(connection)
                connection.execute(f"{self._begin}; {synced}")
        except BaseException:
            connection.close()
            self.pool.give_back(connection, urgent=self._is_urgent)
            raise
        return connection

    def _commit(self, connection: "psycopg.Connection[Any]") -> None:
        try:
            connection.execute("COMMIT")
        except BaseException:
            self.doubtful += self.noted
            raise

    @contextmanager
    def _translating(self, action: str) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            if is_of_the_server(error):
                self.pool.delays.note()
            raise explained(error, f"cannot {action} {self.name}") from error


def open_database(
    pool: PostgresConnections,
    migrations: Sequence[Migration],
    application: str,
    busy: float = BUSY_SECONDS,
    *,
    new: bool = True,
    urgent: bool = False,
) -> PostgresDatabase:
    """Open the database, brought up to date; the tables of a ``new`` one are made where there are none.

    ``application`` names what is in it. Raises SettingsError where nothing is there and none is to be made,
    ResourceUnavailable where it cannot be used now, and StoreError.
    """
    database = PostgresDatabase(pool, busy, urgent=urgent)
    if application in pool.current:
        return database
    try:
        version = _version(database, application)
        if version is None and not new:
            raise NothingThere(f"there is no {application} in {database.name}")
        if version != len(migrations):
            _migrate(database, migrations, application)
    except BaseException:
        database.close()
        raise
    pool.current.add(application)
    return database


def version_of(pool: PostgresConnections, application: str) -> int | None:
    """How many migrations the tables of the application have had; None where there are none. Nothing is changed."""
    database = PostgresDatabase(pool)
    try:
        return _version(database, application)
    finally:
        database.close()


def _version(database: PostgresDatabase, application: str) -> int | None:
    try:
        with database.reading() as connection:
            found = connection.execute("SELECT version FROM ingest_versions WHERE application = ?", [application])
            row = found.fetchone()
    except StoreError as error:
        if getattr(error.__cause__, "sqlstate", None) == NO_TABLE:
            return None
        raise
    return None if row is None else int(row[0])


@again
def _migrate(database: PostgresDatabase, migrations: Sequence[Migration], application: str) -> None:
    name = f"{application} in {database.name}"
    with database.writing() as connection:
        database.exclude("ingest", "migrations")
        encoding = connection.execute("SHOW server_encoding").fetchone()
        if encoding is None or encoding[0] != "UTF8":
            raise StoreError(f"the {name} cannot be made: the encoding of the database is not UTF8")
        # One that is there counts, in whichever schema of the search path: IF NOT EXISTS looks at the first of them.
        found = connection.execute("SELECT to_regclass('ingest_versions')").fetchone()
        if found is None or found[0] is None:
            connection.execute(VERSIONS)
        row = connection.execute("SELECT version FROM ingest_versions WHERE application = ?", [application]).fetchone()
        applied = 0 if row is None else int(row[0])
        if applied > len(migrations):
            from .moved import why_unusable
            from .postgres_moved import place_of

            raise StoreError(why_unusable(name, applied, lambda: place_of(connection, application)))
        for script in migrations[applied:]:
            connection.execute(script if isinstance(script, str) else script())
        connection.execute(
            "INSERT INTO ingest_versions (application, version) VALUES (?, ?)"
            " ON CONFLICT (application) DO UPDATE SET version = excluded.version",
            (application, len(migrations)),
        )


def _number_of(names: Iterable[object]) -> int:
    """The number of a lock."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode(errors="backslashreplace")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@lru_cache(512)
def _translated(sql: str) -> str:
    """The statement as psycopg takes it."""
    return re.sub(r" INDEXED BY \w+", "", sql).replace("%", "%%").replace("?", "%s")

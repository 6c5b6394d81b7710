"""SQLite databases that many processes share: how they are opened, migrated and written.

Every write transaction begins with BEGIN IMMEDIATE. A plain BEGIN that reads before it writes fails at once with
"database is locked" when another writer was quicker, whatever the busy timeout; taking the write lock first makes
SQLite wait instead.
"""

import errno
import fcntl
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..disk import explained, free_bytes, make_folder, sync_folder
from ..errors import IngestError, ResourceUnavailable, StoreError
from ..mounts import on_network
from .database import Delays, Refused
from .dialect import SqliteDialect
from .group_commit import GroupCommit, Shared

BUSY_SECONDS = 60.0  # unless the caller says otherwise
LASTING = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CANTOPEN_ISDIR}
OF_LOCKS = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL}
# What it needs beside a database, to read it only: its shared memory.
LEAST_ROOM = 64 << 10
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
BACKUP_PAGES = 10_000


class SqliteDatabase:
    """An open database, of one thread. With a ``group``, it is written together with those of other threads.

    ``writer`` is the connection by which something is being written to it now. The ``delays`` are those of whoever
    writes to it here.
    """

    dialect = SqliteDialect()

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self.conn = path, connection
        self.group: GroupCommit | None = None
        self.delays = Delays()
        self.writer: sqlite3.Connection | None = None
        connection.row_factory = sqlite3.Row

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def is_local(self) -> bool:
        """Whether its disk is this machine's."""
        return not on_network(self.path)

    @property
    def missed_at(self) -> float:
        """When it last could not be written, or only after a while: others had to wait for that too."""
        return self.delays.missed_at

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A write transaction. What is not durable costs no fsync."""
        if self.writer is not None:
            yield self.writer
            return
        group, begun = self.group, time.monotonic()
        transaction = group.writing(durable=durable) if group else _writing_alone(self.conn, durable=durable)
        try:
            with _translate_sqlite_errors(self.path, "write to"), transaction as connection:
                # Whoever is asked for here as living or dead is so by what could be written since.
                self.delays.note_late(begun)
                try:
                    connection.row_factory, self.writer = self.conn.row_factory, connection
                    yield connection
                finally:
                    self.writer = None
        except ResourceUnavailable:
            self.delays.note()
            raise
        finally:
            self.delays.note_late(begun)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Queries."""
        with _translate_sqlite_errors(self.path, "read"):
            yield self.writer or self.conn

    def stream(self, sql: str, values: Sequence[Any]) -> Iterator[Any]:
        """The rows of a query."""
        with self.reading() as connection:
            # Whoever leaves rows behind would have a cursor closed later than the database.
            yield from iter(connection.execute(sql, values).fetchone, None)

    def lock(self, table: str, key: str, values: Iterable[int]) -> None:
        """Nobody else writes while this one does."""

    def try_lock(self, table: str, key: str, value: int) -> bool:
        """Nobody else writes while this one does."""
        return True

    def exclude(self, *names: object) -> None:
        """Nobody else writes while this one does."""

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows."""
        marks = ", ".join("?" * len(columns))
        with self.writing() as connection:
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def close(self) -> None:
        """Close its connection."""
        self.conn.close()


def open_database(
    path: Path,
    migrations: Sequence[str],
    application: str,
    busy: float = BUSY_SECONDS,
    *,
    new: bool = True,
    shared: Shared | None = None,
) -> SqliteDatabase:
    """Open the database at ``path``, brought up to date; a ``new`` one is made, privately, where it is missing.

    ``migrations`` are SQL scripts; ``PRAGMA user_version`` counts those applied. ``application`` names the
    database in errors; ``busy`` is how many seconds another writer is waited for. It is written together with
    what other threads write, where it is ``shared``. Raises StoreError where the file is
    not such a database or cannot be opened, ResourceUnavailable where it cannot be opened now.
    """
    name = f"{application} {path}"
    try:
        if new:
            _create_privately(path)
        elif not path.is_file():
            raise ResourceUnavailable(f"the {name} is not there: is its disk mounted?")
        database = SqliteDatabase(path, connected(path, busy))
        try:
            _migrate(database, migrations, application, path)
            if shared is not None:
                database.group = group = shared.group(path, partial(connected, path, busy))
                database.delays = group.delays
        except BaseException:
            database.close()
            raise
    except sqlite3.OperationalError as error:
        raise _explained(error, f"cannot open the {name}", path) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"cannot use the {name}: {error}") from error
    except OSError as error:
        raise explained(error, f"cannot open the {name}", StoreError, path) from error
    return database


def version_of(path: Path, application: str) -> int | None:
    """How many migrations the database at ``path`` has had; None where there is none, or one for something else.

    Nothing is changed. Raises ResourceUnavailable where it cannot be read now, and StoreError.
    """
    message = f"cannot open the {application} {path}"
    try:
        if not path.is_file():
            return None
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            version, identity = (
                connection.execute(f"PRAGMA {key}").fetchone()[0] for key in ("user_version", "application_id")
            )
    except sqlite3.OperationalError as error:
        raise _explained(error, message, path) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{message}: {error}") from error
    except OSError as error:
        raise explained(error, message, StoreError, path) from error
    return int(version) if identity == _identity(application) else None


def require_usable(path: Path, application: str) -> None:
    """Raise StoreError where the database at ``path`` has moved, or is not whole yet."""
    from .moved import MOVED, place_of, why_unusable

    version = version_of(path, application)
    if version is not None and version >= MOVED:
        with closing(connected(path)) as connection:
            raise StoreError(why_unusable(f"{application} {path}", version, lambda: place_of(connection)))


def size_of(path: Path) -> int:
    """How many bytes the file of the database has; 0 where that cannot be told."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def copy_database(source: Path, target: Path, observe: Callable[[int], None] = lambda _: None) -> None:
    """Copy the database at ``source``, as it stands at one moment, to the new file ``target``, durably.

    ``observe`` is told the length of each piece.
    Other processes may write to it meanwhile (sqlite.org/backup.html). Raises StoreError, and ResourceUnavailable
    where that may pass.
    """
    message = f"cannot copy {source} to {target}"
    try:
        _create_privately(target)
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as ours,
            closing(sqlite3.connect(target)) as copy,
        ):
            # In one transaction, so that no writer has it begin anew, and in pieces: a signal ends it between two.
            ours.execute("BEGIN")
            ours.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            page = ours.execute("PRAGMA page_size").fetchone()[0]
            copied = 0

            def note(_status: int, remaining: int, total: int) -> None:
                nonlocal copied
                observe((total - remaining - copied) * page)
                copied = total - remaining

            ours.backup(copy, pages=BACKUP_PAGES, progress=note)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        raise _explained(error, message, target) from error
    except sqlite3.Error as error:
        raise StoreError(f"{message}: {error}") from error
    except OSError as error:
        raise explained(error, message, StoreError, target) from error


@contextmanager
def _writing_alone(connection: sqlite3.Connection, *, durable: bool) -> Iterator[sqlite3.Connection]:
    try:
        with _unsynced(connection) if not durable else nullcontext():
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
    except BaseException:
        # What cannot be undone now SQLite undoes when the database is opened next.
        with suppress(sqlite3.OperationalError):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


@contextmanager
def _unsynced(connection: sqlite3.Connection) -> Iterator[None]:
    # Without a WAL, a database that is not synced may be damaged by a loss of power.
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        yield
        return
    connection.execute("PRAGMA synchronous=NORMAL")
    try:
        yield
    finally:
        # SQLite does not heed this inside a transaction, which is where an exception leaves us.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA synchronous=FULL")


@contextmanager
def _translate_sqlite_errors(path: Path, action: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _explained(error, f"cannot {action} {path}", path) from error
    except sqlite3.IntegrityError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_TRIGGER:  # it has moved
            raise StoreError(str(error)) from error
        raise Refused(str(error)) from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise StoreError(f"{path} is damaged: {error}") from error


def _explained(error: sqlite3.OperationalError, message: str, path: Path) -> IngestError:
    """The error to raise for one of SQLite: what the system refuses may pass, what the database has not does not."""
    code = getattr(error, "sqlite_errorcode", None)
    if code in LASTING:
        return StoreError(f"{message}: {error}")
    return ResourceUnavailable(f"{message} now: {_reason(code, path.parent) or error}")


def _reason(code: int | None, folder: Path) -> str | None:
    """Why SQLite could not use a database in ``folder``, where it does not say so itself."""
    kind = None if code is None else code & 0xFF
    # It takes a lock that the file system cannot give for one that another process has.
    if kind in OF_LOCKS and not _gives_locks(folder):
        return "its file system gives no locks"
    with suppress(OSError):
        if kind == sqlite3.SQLITE_IOERR and free_bytes(folder) < LEAST_ROOM:
            return "its disk is full"
    return None


def _gives_locks(folder: Path) -> bool:
    """Whether files in ``folder`` can be locked, as far as that can be found out."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in NO_LOCKS
    return True


def _create_privately(path: Path) -> None:
    make_folder(path.parent)
    # Only a file that is new: closing one drops every lock that this process's other connections hold on it, and
    # another process then deletes the WAL under them (sqlite.org/howtocorrupt.html, 2.2).
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # Its neighbours remember it for good.
        sync_folder(path.parent)


def connected(path: Path, busy: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection to the database at ``path``, which is there, whatever it is for. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=busy, check_same_thread=False)
    try:
        _prepare(connection, path, busy)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, busy: float) -> None:
    # WAL needs shared memory, which network file systems do not give: there it corrupts.
    wanted = "truncate" if on_network(path) else "wal"
    deadline = time.monotonic() + busy
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
        try:
            connection.execute(f"PRAGMA journal_mode={wanted}")
        except sqlite3.OperationalError as error:
            # Changing the mode needs the file to itself, and SQLite does not wait for that.
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    # NORMAL would leave the last commits of a WAL in the page cache: not durable on power loss.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _migrate(database: SqliteDatabase, migrations: Sequence[str], application: str, path: Path) -> None:
    identity = _identity(application)
    name = f"{application} {path}"

    def pragma(key: str) -> int:
        return int(database.conn.execute(f"PRAGMA {key}").fetchone()[0])

    if pragma("application_id") == identity and pragma("user_version") == len(migrations):
        return
    with database.writing() as connection:
        applied = pragma("user_version")
        if pragma("application_id") not in (0, identity) or (applied and pragma("application_id") == 0):
            raise StoreError(f"the {name} is a database for something else; give each its own file")
        if applied > len(migrations):
            from .moved import place_of, why_unusable

            raise StoreError(why_unusable(name, applied, lambda: place_of(connection)))
        for script in migrations[applied:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute(f"PRAGMA application_id={identity}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, of which those that make triggers hold others."""
    begun = ""
    for piece in script.split(";"):
        begun += f"{piece};"
        if sqlite3.complete_statement(begun):
            yield begun
            begun = ""


def _identity(application: str) -> int:
    """The number by which a database says what it is for."""
    return zlib.crc32(application.encode()) >> 1

"""SQLite databases that many processes share: how they are opened, migrated and written.

Every write transaction begins with BEGIN IMMEDIATE. A plain BEGIN that reads before it writes fails at once with
"database is locked" when another writer was quicker, whatever the busy timeout; taking the write lock first makes
SQLite wait instead.
"""

import os
import sqlite3
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from sqlite_utils import Database

from ..errors import ServiceUnavailable, StoreError

BUSY_SECONDS = 60.0  # unless the caller says otherwise
BACKUP_PAGES = 10_000
NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
    "virtiofs",
    "gpfs",
    "beegfs",
    "vboxsf",
    "gfs2",
    "ocfs2",
}


def open_database(path: Path, migrations: Sequence[str], application: str, busy: float = BUSY_SECONDS) -> Database:
    """Open (and create, privately, where it is missing) the database at ``path``, brought up to date.

    ``migrations`` are SQL scripts; ``PRAGMA user_version`` counts those applied. ``application`` names the
    database in errors; ``busy`` is how many seconds another writer is waited for. Raises StoreError where the file is
    not such a database or cannot be opened, ServiceUnavailable where it cannot be opened now.
    """
    try:
        _create_privately(path)
        connection = sqlite3.connect(path, timeout=busy, check_same_thread=False)
        try:
            _prepare(connection, path, busy)
            database = Database(connection, execute_plugins=False)
            _migrate(database, migrations, application, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.OperationalError as error:
        raise ServiceUnavailable(f"cannot open the {application} {path} now: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"cannot use the {application} {path}: {error}") from error
    except OSError as error:
        raise StoreError(f"cannot open the {application} {path}: {error.strerror}") from error
    return database


@contextmanager
def writing(database: Database, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
    """One write transaction: committed and fsynced at the end, undone by an exception.

    What need not be ``durable`` survives a kill, but a loss of power only with the next commit that is: it costs no
    fsync, and no order of commits is ever changed.
    Raises ServiceUnavailable where the database cannot be written now, as on a full disk, and StoreError where it is
    damaged.
    """
    connection = database.conn
    with _translate_sqlite_errors(connection, "write to"):
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


def copy_database(source: Path, target: Path) -> None:
    """Copy the database at ``source``, as it stands at one moment, to the new file ``target``, durably.

    Other processes may write to it meanwhile (sqlite.org/backup.html). Raises StoreError.
    """
    try:
        _create_privately(target)
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as ours,
            closing(sqlite3.connect(target)) as copy,
        ):
            # In one transaction, so that no writer has it begin anew, and in pieces: a signal ends it between two.
            ours.execute("BEGIN")
            ours.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            ours.backup(copy, pages=BACKUP_PAGES, progress=lambda *_: None)
            copy.execute("PRAGMA journal_mode=DELETE")
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot copy {source} to {target}: {error}") from error


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
def reading(database: Database) -> Iterator[sqlite3.Connection]:
    """Queries outside a transaction. Raises ServiceUnavailable where the database cannot be read now, and StoreError
    where it is damaged."""
    with _translate_sqlite_errors(database.conn, "read"):
        yield database.conn


@contextmanager
def _translate_sqlite_errors(connection: sqlite3.Connection, action: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ServiceUnavailable(f"cannot {action} {_path_of(connection)}: {error}") from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise StoreError(f"{_path_of(connection)} is damaged: {error}") from error


def _path_of(connection: sqlite3.Connection) -> str:
    try:
        return str(connection.execute("PRAGMA database_list").fetchone()[2])
    except sqlite3.Error:
        return "a database"


def _create_privately(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Only a file that is new: closing one drops every lock that this process's other connections hold on it, and
    # another process then deletes the WAL under them (sqlite.org/howtocorrupt.html, 2.2).
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


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


def _migrate(database: Database, migrations: Sequence[str], application: str, path: Path) -> None:
    identity = zlib.crc32(application.encode()) >> 1
    name = f"{application} {path}"

    def pragma(key: str) -> int:
        return int(database.conn.execute(f"PRAGMA {key}").fetchone()[0])

    if pragma("application_id") == identity and pragma("user_version") == len(migrations):
        return
    with writing(database) as connection:
        applied = pragma("user_version")
        if pragma("application_id") not in (0, identity) or (applied and pragma("application_id") == 0):
            raise StoreError(f"the {name} is a database for something else; give each its own file")
        if applied > len(migrations):
            raise StoreError(f"the {name} was written by a newer version of ingest; please upgrade")
        for script in migrations[applied:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute(f"PRAGMA application_id={identity}")


def on_network(path: Path) -> bool:
    """Whether ``path`` lies on a network file system (known on Linux only; False elsewhere)."""
    if not sys.platform.startswith("linux"):
        return False
    resolved, best, kind = path.resolve(), Path("/"), ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        mount = Path(fields.split(" ")[4].encode().decode("unicode_escape"))
        if resolved.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, tail.split(" ")[0]
    return kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse.")

"""Reads the job database of Pacifica Ingest: the table ``ingeststate``, which peewee has made in one of three systems.

It is only read, and page by page, so that the service can be at work meanwhile: on SQLite, nobody can write while
somebody reads. What is read is what the service would answer with, to the digit.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from configparser import ConfigParser, InterpolationError
from configparser import Error as ConfigError
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..errors import IngestError, ServiceUnavailable, SettingsError, SourceError
from ..jobs.imported import ImportedJob
from ..jobs.stages import INGEST_METADATA
from ..text import listed, quoted

PAGE = 1000
BUSY_SECONDS = 60.0
CONNECT_SECONDS = 30
SQLITE_MAGIC = b"SQLite format 3\0"
KEYS = ("state", "task", "task_percent", "exception", "created", "updated")
# By the first of these that is installed.
POSTGRESQL_DRIVERS, MYSQL_DRIVERS = ("psycopg", "psycopg2"), ("pymysql", "MySQLdb")
DRIVERS = (*POSTGRESQL_DRIVERS, *MYSQL_DRIVERS)
# What peewee takes in a URL for itself, and for its pools.
PEEWEES = {"max_connections", "stale_timeout", "timeout", "autocommit", "autoconnect", "autorollback", "thread_safe"}
PEEWEES |= {"pragmas", "register_hstore", "server_side_cursors", "sql_mode", "prefer_psycopg3"}
USUAL_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{6})?", re.ASCII)
TIME_FORMATS = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
# An id beyond would leave none to go on with.
MAX_ID = 1 << 62
Connect = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is: its ``name`` holds no password. ``mark`` stands for a value in its SQL, and ``usable`` says
    which ids are numbers."""

    name: str
    connect: Connect
    mark: str = "%s"
    usable: str = "{} IS NOT NULL"
    secret: str = ""


class IngestState:
    """The table, in a database that is open."""

    def __init__(self, place: Place, connection: Any) -> None:
        self._place, self._connection = place, connection
        columns = self._columns()
        self._id = "id" if "id" in columns else "job_id"
        self._has_complete = "complete" in columns
        missing = [key for key in (self._id, *KEYS) if key not in columns]
        if missing:
            raise SourceError(f"the table ingeststate of {place.name} has no column {listed(missing)}")

    def pages(self) -> Iterator[list[dict[str, Any]]]:
        """The rows whose ids are numbers, lowest first, as they are stored."""
        keys = [self._id, *KEYS, *(["complete"] if self._has_complete else [])]
        select = f"SELECT {', '.join(keys)} FROM ingeststate WHERE {self._place.usable.format(self._id)}"
        order = f" ORDER BY {self._id} LIMIT {PAGE}"
        rows = self._ask(f"{select}{order}")
        while rows:
            yield [dict(zip(["job_id", *keys[1:]], row, strict=True)) for row in rows]
            rows = self._ask(f"{select} AND {self._id} > {self._place.mark}{order}", rows[-1][0])

    def count_without_id(self) -> int:
        """How many rows have no number for an id."""
        usable = self._place.usable.format(self._id)
        return int(self._ask(f"SELECT count(*) FROM ingeststate WHERE NOT ({usable})")[0][0])

    def _columns(self) -> set[str]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("SELECT * FROM ingeststate WHERE 1 = 0")
            return {column[0].lower() for column in cursor.description}

    def _ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())


@contextmanager
def opened(source: str) -> Iterator[IngestState]:
    """The table in the database that ``source`` is or names: its URL, as peewee has it, the file of an SQLite one, or
    a configuration file of Pacifica Ingest.

    Raises SettingsError where no database is named or its driver is missing, SourceError where it cannot be read, and
    ServiceUnavailable where that may pass.
    """
    place = _place(source)
    try:
        with closing(place.connect()) as connection:
            yield IngestState(place, connection)
    except IngestError:
        raise
    except sqlite3.Error as error:
        raise _of_sqlite(error, place.name) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in DRIVERS:
            raise
        text = str(error).replace(place.secret, "(hidden)") if place.secret else str(error)
        kind = ServiceUnavailable if _named(error, "OperationalError", "InterfaceError") else SourceError
        # Not its cause: drivers quote what they were given.
        raise kind(f"cannot read {place.name}: {text.strip()}") from None


def job_of(row: dict[str, Any]) -> ImportedJob:
    """The job of a row as its service answers with it. Raises ValueError where a row of that service is never so."""
    job_id, state, task = row["job_id"], _text(row, "state"), _text(row, "task")
    if isinstance(job_id, bool) or not isinstance(job_id, int) or not 0 < job_id <= MAX_ID:
        raise ValueError(f"its id is {quoted(job_id)}")
    percent = _percent(row["task_percent"])
    # An earlier version of the table had no such column; this is what a later one noted in it.
    complete = row.get("complete", state == "FAILED" or (task == INGEST_METADATA and percent == 100))
    return ImportedJob(
        job_id=job_id,
        state=state,
        task=task,
        task_percent=str(percent),
        complete=bool(complete),
        updated=_moment(row, "updated"),
        created=_moment(row, "created"),
        exception=_text(row, "exception"),
    )


def _text(row: dict[str, Any], key: str) -> str:
    value = row[key]
    try:
        value = value.decode() if isinstance(value, bytes) else value
        if isinstance(value, str):
            value.encode()
            return value
    except UnicodeError:
        raise ValueError(f"its {key} is not valid UTF-8") from None
    raise ValueError(f"its {key} is {'missing' if value is None else quoted(value)}")


def _percent(value: Any) -> Decimal:
    try:
        percent = value if isinstance(value, Decimal) else Decimal(str(value))
        if percent.is_finite():
            return percent
    except InvalidOperation:
        pass
    raise ValueError(f"its task_percent is {'missing' if value is None else quoted(value)}")


def _moment(row: dict[str, Any], key: str) -> str:
    """A time as peewee gives it back: what SQLite keeps as text is read, and shown again."""
    if isinstance(row[key], datetime):
        return str(row[key])
    text = _text(row, key)
    with suppress(ValueError):
        if USUAL_TIME.fullmatch(text):  # which is read ten times as fast
            return str(datetime.fromisoformat(text))
    for form in TIME_FORMATS:
        try:
            return str(datetime.strptime(text, form))  # noqa: DTZ007
        except ValueError:
            continue
    return text


def _place(source: str) -> Place:
    if "://" in source:
        return _of_url(source)
    path = Path(source)
    try:
        if not path.is_file():
            raise SourceError(f"there is no file {path}")
        with path.open("rb") as file:
            head = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    return _of_file(path) if head in (b"", SQLITE_MAGIC) else _of_url(_url_in(path))


def _url_in(path: Path) -> str:
    """The URL of the database in a configuration file of Pacifica Ingest."""
    parser = ConfigParser()
    try:
        parser.read_string(path.read_text("utf-8-sig"))
        url = parser.get("database", "peewee_url", fallback="")
    except InterpolationError:  # whose text quotes the URL, as those of the others quote lines
        raise SettingsError(f"{path}: [database] peewee_url: write a % as %%") from None
    except (ConfigError, UnicodeDecodeError):
        raise SettingsError(f"{path} is neither an SQLite database nor a configuration file") from None
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    if "://" not in url:
        raise SettingsError(f"{path} has no URL as peewee_url in [database]: give the URL of the database itself")
    return url


def _of_url(url: str) -> Place:
    """The database at a URL that peewee takes: it reads a path without its first slash, and no percent signs."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may quote the URL
        raise SettingsError("the URL of the database is malformed") from None
    system, database = parts.scheme.lower().partition("+")[0].removesuffix("ext"), parts.path[1:]
    if system in ("sqlite", "csqlite", "apsw"):
        return _of_file(Path(database))
    given = {"host": host, "port": port, "user": parts.username, "password": parts.password}
    given = {key: value for key, value in given.items() if value is not None} | _more(parts)
    name = f"{parts.scheme}://{host or ''}{f':{port}' if port else ''}/{database}"
    if system in ("postgres", "postgresql"):
        connect = _by(POSTGRESQL_DRIVERS, "postgresql", {**given, "dbname": database})
        begin = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
    elif system in ("mysql", "mariadb"):
        connect = _by(MYSQL_DRIVERS, "mysql", {"charset": "utf8mb4", **given, "database": database})
        begin = "SET SESSION TRANSACTION READ ONLY"
    else:
        raise SettingsError(f"{quoted(parts.scheme)} is no database that can be read: SQLite, PostgreSQL or MySQL is")
    return Place(name, lambda: _reading(connect(), begin), secret=parts.password or "")


def _more(parts: SplitResult) -> dict[str, Any]:
    """What else a URL says to a driver, such as ``sslmode``."""
    given = {"connect_timeout": CONNECT_SECONDS}
    more = {key: value for key, value in parse_qsl(parts.query) if key not in PEEWEES}
    return given | {key: int(value) if value.isdigit() else value for key, value in more.items()}


def _by(drivers: tuple[str, ...], extra: str, given: dict[str, Any]) -> Connect:
    """What connects by the first of the drivers that is installed. Raises SettingsError where none is."""
    for name in drivers:
        try:
            driver = import_module(name)
        except ImportError:
            continue
        return lambda: _connected(driver, given)
    raise SettingsError(f"{' or '.join(drivers)} is needed for this database: install pacifica-ingest-cli[{extra}]")


def _connected(driver: Any, given: dict[str, Any]) -> Any:
    try:
        return driver.connect(**given)
    except TypeError as error:  # which quotes the name of a parameter only
        raise SettingsError(f"{driver.__name__} does not take what the URL says: {error}") from error


def _reading(connection: Any, begin: str) -> Any:
    """The connection, which cannot write, and has no transaction that outlasts a query."""
    set_autocommit = connection.autocommit
    if callable(set_autocommit):  # those for MySQL
        set_autocommit(True)
    else:
        connection.autocommit = True
    with closing(connection.cursor()) as cursor:
        cursor.execute(begin)
    return connection


def _of_file(path: Path) -> Place:
    def connect() -> sqlite3.Connection:
        if not path.is_file():
            relative = "" if path.is_absolute() else " in this folder; with four slashes a path is absolute"
            raise SourceError(f"there is no database {path}{relative}")
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        return connection

    return Place(str(path), connect, mark="?", usable="typeof({}) = 'integer'")


def _of_sqlite(error: sqlite3.Error, name: str) -> IngestError:
    lasting = not isinstance(error, sqlite3.OperationalError) or error.sqlite_errorcode == sqlite3.SQLITE_ERROR
    return (SourceError if lasting else ServiceUnavailable)(f"cannot read {name}: {error}")


def _named(error: Exception, *names: str) -> bool:
    """Whether it is of a class of one of these names, which is all that the drivers share (PEP 249)."""
    return any(kind.__name__ in names for kind in type(error).__mro__)

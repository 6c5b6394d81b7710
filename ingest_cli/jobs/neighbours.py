"""The databases of a site know each other, so that one whose disk is not mounted is not made anew in its place.

That is of files: a database on a server is there or is away, and nobody makes another in its place.

Job store, ids and catalogue note in each other by which paths they were used together. One that is missing, and that
another one knows, is waited for. That a site's only disk is away, nobody is left to tell.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path

from ..errors import ResourceUnavailable, SettingsError
from ..settings import Option, Settings
from ..settings.options import CATALOG_URL, DATABASE, UNIQUEID_URL
from .group_commit import Shared

NAMES = {DATABASE: "job store", UNIQUEID_URL: "id store", CATALOG_URL: "catalogue"}
# Whoever writes to a neighbour for longer is not waited for: the next process tells it.
BUSY_SECONDS = 0.2
MAKE = "CREATE TABLE IF NOT EXISTS neighbours (path TEXT PRIMARY KEY) WITHOUT ROWID"


def is_to_be_made(settings: Settings, option: Option, *, new: bool, shared: Shared | None = None) -> bool:
    """Whether the database that ``option`` names is not there yet, where a ``new`` one may be made. One that another
    thread has introduced, with which it is ``shared``, is there.

    Raises SettingsError where none may be made, ResourceUnavailable where it was there and is not any more.
    """
    path = databases(settings)[option]
    if shared is not None and path in shared.introduced:
        return False
    # Asked before the file is looked for: another process may make it meanwhile.
    knows = next((other for other in _others(settings, path) if _knows(other, path)), None)
    if not _is_missing(path):
        return False
    if knows is not None:
        raise ResourceUnavailable(
            f"the {NAMES[option]} {path} is not there, though {knows} was used with it: is its disk mounted?"
            " An empty file in its place begins a new one"
        )
    if not new:
        raise SettingsError(f"there is no {NAMES[option]} {path} ({settings.where(option)})")
    return True


def introduce(settings: Settings, option: Option, shared: Shared | None = None) -> None:
    """Have the database that ``option`` names and the site's others know each other, as far as they are there."""
    path = databases(settings)[option]
    if shared is not None:
        if path in shared.introduced:
            return
        shared.introduced.add(path)
    for other in _others(settings, path):
        with suppress(sqlite3.Error, OSError):
            if other.is_file() and not _knows(path, other):
                # In this order: what is noted here is noted there too.
                _note(other, path)
                _note(path, other)


def databases(settings: Settings) -> dict[Option, Path]:
    """The site's databases on this machine, by the settings that name them."""
    named = {DATABASE: settings.database, UNIQUEID_URL: settings.unique_id, CATALOG_URL: settings.catalog}
    return {option: path for option, path in named.items() if isinstance(path, Path)}


def known_to(database: Path) -> list[Path]:
    """The databases that were used together with this one, as far as it is known and can be read."""
    with suppress(sqlite3.Error), _opened(database) as connection:
        return [Path(os.fsdecode(path)) for (path,) in connection.execute("SELECT path FROM neighbours ORDER BY path")]
    return []


def _others(settings: Settings, path: Path) -> Iterator[Path]:
    return (other for other in databases(settings).values() if other != path)


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # who opens it will tell
        return False
    return False


def _knows(database: Path, other: Path) -> bool:
    try:
        with _opened(database) as connection:
            found = connection.execute("SELECT 1 FROM neighbours WHERE path = ?", [os.fsencode(other)])
            return found.fetchone() is not None
    except sqlite3.Error:  # it is not there, or knows none yet, or who opens it will tell what is wrong with it
        return False


def _note(database: Path, other: Path) -> None:
    with _opened(database) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(MAKE)
        connection.execute("INSERT OR IGNORE INTO neighbours VALUES (?)", [os.fsencode(other)])
        connection.execute("COMMIT")


def _opened(database: Path) -> AbstractContextManager[sqlite3.Connection]:
    # Not read-only, which would leave a write-ahead log behind; but never made.
    uri = f"{database.as_uri()}?mode=rw"
    return closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None))

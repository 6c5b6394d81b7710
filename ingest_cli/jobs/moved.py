"""What is left where a database was that has moved, and what says of a new one that it is not complete yet.

Either is a mark beyond the versions that a program knows: those of any version leave the database alone. Who has had it
open since before it moved finds that every change to it is refused.
"""

import sqlite3
from collections.abc import Callable

# Added to the version of a database.
MOVED, FILLED = 1_000_000, 2_000_000
MARKS = "neighbours", "moved"
MAKE = "CREATE TABLE IF NOT EXISTS moved (place TEXT NOT NULL)"


def why_unusable(name: str, version: int, place: Callable[[], str]) -> str:
    """Why the database cannot be used, whose version is above those that this program knows. ``place`` says what its
    mark does."""
    if version < MOVED:
        return f"the {name} was written by a newer version of ingest; please upgrade"
    if version < FILLED:
        return moved_to(name, place())
    return filled_from(name, place())


def moved_to(name: str, place: str) -> str:
    """What is said of a database that has moved to ``place``."""
    return f"the {name} has moved to {place}: have the configuration name that"


def filled_from(name: str, place: str) -> str:
    """What is said of a database that is being filled from ``place``."""
    return f"the {name} is not complete: it is being filled from {place}; 'ingest migrate-store' resumes that"


def mark_moved(connection: sqlite3.Connection, name: str, place: str) -> None:
    """Mark the database as one that has moved to ``place``: nobody can change it any more, nor use it."""
    said = moved_to(name, place).replace("'", "''")
    for table in tables_of(connection):
        for change in ("INSERT", "UPDATE", "DELETE"):
            connection.execute(
                f'CREATE TRIGGER "moved {table} {change}" BEFORE {change} ON "{table}"'
                f" BEGIN SELECT RAISE(ABORT, '{said}'); END"
            )
    _mark(connection, MOVED, place)


def mark_filled(connection: sqlite3.Connection, place: str) -> None:
    """Mark the database as one that is being filled from ``place``: until it is whole nobody can use it."""
    _mark(connection, FILLED, place)


def unmark(connection: sqlite3.Connection) -> None:
    """The database is whole: it can be used."""
    connection.execute("DROP TABLE moved")
    connection.execute(f"PRAGMA user_version={version_of(connection) % MOVED}")


def place_of(connection: sqlite3.Connection) -> str:
    """Where a database has moved to, or is filled from."""
    return str(connection.execute("SELECT place FROM moved").fetchone()[0])


def version_of(connection: sqlite3.Connection) -> int:
    """How many migrations a database has had, and its mark."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def tables_of(connection: sqlite3.Connection) -> list[str]:
    """The tables that a database has but for those that say where it, or another, is."""
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in map(tuple, found) if name not in MARKS]


def _mark(connection: sqlite3.Connection, mark: int, place: str) -> None:
    connection.execute(MAKE)
    connection.execute("DELETE FROM moved")
    connection.execute("INSERT INTO moved VALUES (?)", [place])
    connection.execute(f"PRAGMA user_version={version_of(connection) % MOVED + mark}")

"""The marks of `moved` in PostgreSQL, where one database may have the tables of several applications."""

from collections.abc import Iterable

from .database import Connection
from .moved import FILLED, MOVED, moved_to

MAKE = "CREATE TABLE IF NOT EXISTS ingest_moved (application text PRIMARY KEY, place text NOT NULL)"
PLACE = "SELECT place FROM ingest_moved WHERE application = ?"
FUNCTION = """
    CREATE OR REPLACE FUNCTION ingest_has_moved() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING MESSAGE = TG_ARGV[0];
    END $$
"""


def prepare(connection: Connection) -> None:
    """Make what marks need, in a transaction by itself: those that mark several applications wait for one another."""
    connection.execute(MAKE)
    connection.execute(FUNCTION)


def place_of(connection: Connection, application: str) -> str:
    """Where the application has moved to, or is filled from."""
    return str(connection.execute(PLACE, [application]).fetchone()[0])


def mark_moved(connection: Connection, application: str, tables: Iterable[str], name: str, place: str) -> None:
    """Mark the ``tables`` of the application as having moved to ``place``: nobody can change them, nor use them."""
    said = moved_to(name, place).replace("'", "''").replace("?", "...")
    for table in tables:
        connection.execute(
            f"CREATE TRIGGER ingest_moved BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION ingest_has_moved('{said}')"
        )
    _mark(connection, application, MOVED, place)


def mark_filled(connection: Connection, application: str, place: str) -> None:
    """Mark the application as being filled from ``place``: until it is whole nobody can use it."""
    _mark(connection, application, FILLED, place)


def unmark(connection: Connection, application: str) -> None:
    """The application is whole: it can be used."""
    connection.execute("DELETE FROM ingest_moved WHERE application = ?", [application])
    _set_mark(connection, application, 0)


def _mark(connection: Connection, application: str, mark: int, place: str) -> None:
    connection.execute(
        "INSERT INTO ingest_moved (application, place) VALUES (?, ?)"
        " ON CONFLICT (application) DO UPDATE SET place = excluded.place",
        (application, place),
    )
    _set_mark(connection, application, mark)


def _set_mark(connection: Connection, application: str, mark: int) -> None:
    connection.execute(
        f"UPDATE ingest_versions SET version = version % {MOVED} + ? WHERE application = ?", (mark, application)
    )

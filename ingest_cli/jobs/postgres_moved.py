"""The marks of `moved` in PostgreSQL, where one database may have the tables of several applications."""

from collections.abc import Iterable

from .database import Connection
from .moved import FILLED, MOVED, filled_from, moved_to

MAKE = "CREATE TABLE IF NOT EXISTS ingest_moved (application text PRIMARY KEY, place text NOT NULL)"
PLACE = "SELECT place FROM ingest_moved WHERE application = ?"
FUNCTION = """
    CREATE OR REPLACE FUNCTION ingest_has_moved() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING MESSAGE = TG_ARGV[0];
    END $$
"""
# Who has had open what is filled now is kept from it too.
FILLING = "ingest.filling"
KEEPER = f"""
    CREATE OR REPLACE FUNCTION ingest_is_filled() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('{FILLING}', true) IS DISTINCT FROM 'on' THEN
            RAISE EXCEPTION USING MESSAGE = TG_ARGV[0];
        END IF;
        RETURN NULL;
    END $$
"""


def prepare(connection: Connection) -> None:
    """Make what marks need, in a transaction by itself: those that mark several applications wait for one another."""
    connection.execute(MAKE)
    connection.execute(FUNCTION)
    connection.execute(KEEPER)


def place_of(connection: Connection, application: str) -> str:
    """Where the application has moved to, or is filled from."""
    return str(connection.execute(PLACE, [application]).fetchone()[0])


def mark_moved(connection: Connection, application: str, tables: Iterable[str], name: str, place: str) -> None:
    """Mark the ``tables`` of the application as having moved to ``place``: nobody can change them, nor use them."""
    _refuse_changes(connection, "ingest_moved", tables, "ingest_has_moved", moved_to(name, place))
    _mark(connection, application, MOVED, place)


def mark_filled(connection: Connection, application: str, tables: Iterable[str], name: str, place: str) -> None:
    """Mark the ``tables`` of the application as being filled from ``place``: until it is whole nobody can use them, nor
    change them but who is `filling` them."""
    _refuse_changes(connection, "ingest_filled", tables, "ingest_is_filled", filled_from(name, place))
    _mark(connection, application, FILLED, place)


def renew(connection: Connection, application: str, place: str) -> None:
    """Mark once more what is filled from ``place``."""
    _mark(connection, application, FILLED, place)


def filling(connection: Connection) -> None:
    """Have this transaction change what is being filled."""
    connection.execute("SELECT set_config(?, 'on', true)", [FILLING])


def unmark(connection: Connection, application: str, tables: Iterable[str]) -> None:
    """The application is whole: it can be used."""
    for table in tables:
        connection.execute(f"DROP TRIGGER IF EXISTS ingest_filled ON {table}")
    connection.execute("DELETE FROM ingest_moved WHERE application = ?", [application])
    _set_mark(connection, application, 0)


def _refuse_changes(connection: Connection, name: str, tables: Iterable[str], function: str, said: str) -> None:
    """Have the ``function`` refuse changes of these tables, which it explains so."""
    text = said.replace("'", "''").replace("?", "...")
    for table in tables:
        connection.execute(
            f"CREATE TRIGGER {name} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {function}('{text}')"
        )


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

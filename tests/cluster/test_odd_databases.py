"""Databases that their administrators have set up otherwise: what is written there means the same."""

from pathlib import Path

import pytest

from ingest_cli.jobs.store import open_store
from ingest_cli.settings import load_settings

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.postgres import PostgresServer

pytestmark = pytest.mark.cluster
ODD = (
    "default_transaction_isolation = serializable",
    "default_transaction_deferrable = on",
    "standard_conforming_strings = off",
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = sql_standard",
    "TimeZone = 'Asia/Kathmandu'",
    "bytea_output = escape",
    "client_encoding = LATIN1",
    "transform_null_equals = on",
    "statement_timeout = '30s'",
    "idle_in_transaction_session_timeout = '5s'",
    "search_path = before, public",
)


@pytest.fixture
def database(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    url = postgres_server.new_database().text
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, url)
    return url.rpartition("/")[2]


def test_no_setting_of_the_server_changes_what_a_job_is(
    postgres_server: PostgresServer, database: str, command: Command, tmp_path: Path
) -> None:
    postgres_server.execute("CREATE SCHEMA before", database)
    for setting in ODD:
        postgres_server.execute(f"ALTER DATABASE {database} SET {setting}")
    first, second = (write_bundle(tmp_path / f"{number}.tar", {"data/ü\\%": bytes([number])}) for number in (1, 2))
    for words in ((first,), ("--queue", second), ("worker", "--until-empty"), ("verify", "--all")):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    assert len(command("find", "--name", "ü*").stdout.splitlines()) == 2
    assert "complete" in command("state", "2").stdout


def test_tables_that_are_there_are_not_made_anew_in_another_schema(
    postgres_server: PostgresServer, database: str, command: Command, tmp_path: Path
) -> None:
    """A schema of the user's own comes to be, which stands before that of the tables; then they are to be upgraded."""
    assert command(write_bundle(tmp_path / "b.tar")).returncode == 0
    postgres_server.execute("DROP TABLE processes; UPDATE ingest_versions SET version = 3 WHERE version = 4", database)
    postgres_server.execute("CREATE SCHEMA postgres", database)
    with open_store(load_settings()) as store:
        assert store.count() == 1

"""While hosts are upgraded one after the other, those of the version before go on with what they are at."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode

from ..support.bundles import write_bundles
from ..support.command import Command
from ..support.postgres import PostgresServer
from ..support.serving import Server
from ..support.shown import is_stored

pytestmark = pytest.mark.cluster
# As each part of a newer version could leave the database: with one change more, which adds.
NEWER = """
    UPDATE ingest_versions SET version = version + 1;
    ALTER TABLE jobs ADD COLUMN mood text NOT NULL DEFAULT 'good';
    ALTER TABLE Files ADD COLUMN colour text;
    CREATE TABLE novelties (job_id bigint PRIMARY KEY)
"""


@pytest.fixture
def database(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    url = postgres_server.new_database().text
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, url)
    return url.rpartition("/")[2]


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[Server]:
    with ExitStack() as stack:
        yield stack.enter_context(Server(tmp_path))


def test_what_runs_goes_on_and_what_starts_says_why_it_cannot(
    server: Server, database: str, postgres_server: PostgresServer, command: Command, tmp_path: Path
) -> None:
    before, after, later = write_bundles(tmp_path, 3)
    assert is_stored(server.settled(server.upload(before)["job_id"]))
    postgres_server.execute(NEWER, database)
    assert is_stored(server.settled(server.upload(after)["job_id"]))
    postgres_server.restart()
    assert is_stored(server.settled(server.upload(later)["job_id"]))
    for words in (("state",), ("worker", "--until-empty")):
        done = command(*words)
        assert done.returncode == ExitCode.FAILED
        assert "was written by a newer version of ingest; please upgrade" in done.stderr

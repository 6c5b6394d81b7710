"""While hosts are upgraded one after the other, those of the version before go on with what they are at."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode

from ..support.bundles import write_bundles
from ..support.command import Command
from ..support.forks import Running
from ..support.postgres import PostgresServer
from ..support.serving import Server
from ..support.shown import is_stored

pytestmark = pytest.mark.cluster
# As each part of a newer version could leave the database: with one change more, which adds.
NEWER = """
    UPDATE ingest_versions SET version = version + 1;
    ALTER TABLE jobs ADD COLUMN mood{number} text NOT NULL DEFAULT 'good';
    CREATE INDEX jobs_mood{number} ON jobs (mood{number});
    ALTER TABLE Files ADD COLUMN colour{number} text;
    ALTER TABLE stages ADD COLUMN taste{number} text;
    CREATE TABLE novelties{number} (job_id bigint PRIMARY KEY)
"""
AT_ONCE = 40


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
    postgres_server.execute(NEWER.format(number=1), database)
    assert is_stored(server.settled(server.upload(after)["job_id"]))
    postgres_server.restart()
    assert is_stored(server.settled(server.upload(later)["job_id"]))
    for words in (("state",), ("worker", "--until-empty")):
        done = command(*words)
        assert done.returncode == ExitCode.FAILED
        assert "was written by a newer version of ingest; please upgrade" in done.stderr


def test_each_change_comes_while_jobs_are_at_work(
    starting: Callable[..., Running], database: str, postgres_server: PostgresServer, command: Command, tmp_path: Path
) -> None:
    assert command("-q", "--queue", *write_bundles(tmp_path, AT_ONCE)).returncode == 0
    workers = [starting("worker", "--until-empty") for _ in range(2)]

    def count(condition: str) -> int:
        return int(postgres_server.execute(f"SELECT count(*) FROM jobs WHERE {condition}", database)[0][0])

    changes = 0
    while count("state IN ('queued', 'running')"):
        if count("state = 'running'") and changes < 20:
            changes += 1
            postgres_server.execute(NEWER.format(number=changes), database)
    assert changes > 1
    for worker in workers:
        assert worker.wait() == 0
    assert count("state = 'complete'") == AT_ONCE

"""While hosts are upgraded one after the other, those of the version before go on with what they are at."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.jobs.postgres_connections import pool_of
from ingest_cli.jobs.postgres_database import open_database
from ingest_cli.jobs.postgres_migrations import MIGRATIONS
from ingest_cli.settings import PostgresUrl

from ..support.bundles import write_bundles
from ..support.command import Command
from ..support.forks import Running
from ..support.postgres import PostgresServer, held_catalog
from ..support.serving import Server
from ..support.shown import is_stored
from ..support.waiting import until

pytestmark = pytest.mark.cluster
# What a newer version could change, in each part: it adds.
NEWER = """
    UPDATE ingest_versions SET version = version + 1 WHERE application <> 'job store';
    ALTER TABLE jobs ADD COLUMN mood{number} text NOT NULL DEFAULT 'good';
    CREATE INDEX jobs_mood{number} ON jobs (mood{number});
    ALTER TABLE Files ADD COLUMN colour{number} text;
    ALTER TABLE stages ADD COLUMN taste{number} text;
    CREATE TABLE novelties{number} (job_id bigint PRIMARY KEY)
"""
AT_ONCE = 40


def upgrade(database: PostgresUrl, changes: int = 1) -> None:
    """Bring the tables up to date, as the first process of a version does that has so many changes more."""
    newer = [NEWER.format(number=number) for number in range(1, changes + 1)]
    open_database(pool_of(database), [*MIGRATIONS, *newer], "job store").close()


@pytest.fixture
def database(postgres: PostgresUrl, monkeypatch: pytest.MonkeyPatch) -> PostgresUrl:
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, postgres.text)
    return postgres


@pytest.fixture
def server(database: PostgresUrl, tmp_path: Path) -> Iterator[Server]:
    with ExitStack() as stack:
        yield stack.enter_context(Server(tmp_path))


def test_what_runs_goes_on_and_what_starts_says_why_it_cannot(
    server: Server, database: PostgresUrl, postgres_server: PostgresServer, command: Command, tmp_path: Path
) -> None:
    before, after, later = write_bundles(tmp_path, 3)
    assert is_stored(server.settled(server.upload(before)["job_id"]))
    upgrade(database)
    assert is_stored(server.settled(server.upload(after)["job_id"]))
    postgres_server.restart()
    assert is_stored(server.settled(server.upload(later)["job_id"]))
    for words in (("state",), ("worker", "--until-empty")):
        done = command(*words)
        assert done.returncode == ExitCode.FAILED
        assert "was written by a newer version of ingest; please upgrade" in done.stderr


def test_each_change_comes_while_jobs_are_at_work(
    starting: Callable[..., Running],
    database: PostgresUrl,
    postgres_server: PostgresServer,
    command: Command,
    tmp_path: Path,
) -> None:
    name = database.text.rpartition("/")[2]

    def count(condition: str, what: str = "*") -> int:
        return int(postgres_server.execute(f"SELECT count({what}) FROM jobs WHERE {condition}", name)[0][0])

    assert command("-q", "--queue", *write_bundles(tmp_path, AT_ONCE)).returncode == 0
    with held_catalog(database):
        workers = [starting("worker", "--until-empty") for _ in range(2)]
        until(lambda: count("state = 'running'", "DISTINCT holder") == len(workers))
    changes = 0
    while count("state IN ('queued', 'running')"):
        if count("state = 'running'") and changes < 20:
            changes += 1
            upgrade(database, changes)
    assert changes > 1
    for worker in workers:
        assert worker.wait() == 0
    assert count("state = 'complete'") == AT_ONCE

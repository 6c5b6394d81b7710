"""``ingest doctor`` where several hosts share a database and storage: it finds what is wrong, and changes nothing."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.jobs.postgres_migrations import MIGRATIONS
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.settings import PostgresUrl, load_settings

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.holders import ELSEWHERE
from ..support.object_stores import REFUSED, Between, ObjectServer
from ..support.postgres import PostgresServer

pytestmark = pytest.mark.cluster
Findings = Callable[[int], dict[str, str]]


@pytest.fixture
def database(postgres: PostgresUrl, monkeypatch: pytest.MonkeyPatch) -> str:
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, postgres.text)
    monkeypatch.setenv("INGEST_HOST", "here")
    return postgres.text.rpartition("/")[2]


@pytest.fixture
def store(database: str) -> Iterator[JobStore]:
    with open_store(load_settings()) as opened:
        yield opened


@pytest.fixture
def findings(command: Command) -> Findings:
    """What is found, by its name; with a mark, where that is wrong."""

    def find(status: int) -> dict[str, str]:
        done = command("doctor", "--json")
        assert done.returncode == status, done.stdout + done.stderr
        return {f"{'' if row['ok'] else 'FAIL '}{row['name']}": row["detail"] for row in json.loads(done.stdout)}

    return find


def test_tables_of_an_older_version_are_not_changed(
    store: JobStore, database: str, findings: Findings, postgres_server: PostgresServer
) -> None:
    known = len(MIGRATIONS)
    # What is put into the table instead would be noticed by whoever brings it up to date.
    postgres_server.execute(f"UPDATE ingest_versions SET version = {known - 1}", database)
    found = findings(ExitCode.SUCCESS)
    said = f"of version {known - 1}, which the next command, worker or server brings to {known}"
    assert found["job store"].endswith(said)
    assert {row["version"] for row in postgres_server.rows("ingest_versions", load_settings().database)} == {known - 1}  # type: ignore[arg-type]
    postgres_server.execute(f"UPDATE ingest_versions SET version = {known + 1}", database)
    newer = findings(ExitCode.FAILED)["FAIL job store"]
    assert newer.endswith("was written by a newer version of ingest; please upgrade")


def test_a_queue_without_workers(store: JobStore, findings: Findings, command: Command, tmp_path: Path) -> None:
    assert command("ingest", "-q", "--queue", write_bundle(tmp_path / "b.tar")).returncode == 0
    assert findings(ExitCode.FAILED)["FAIL queue"] == "local:here: 1 job waiting, and no worker runs on here"
    assert command("worker", "-q", "--until-empty").returncode == 0
    assert "queue" not in findings(ExitCode.SUCCESS)


def test_a_host_that_is_silent_for_hours(
    store: JobStore, database: str, command: Command, postgres_server: PostgresServer
) -> None:
    assert store.attendance is not None
    store.attendance.enter(ELSEWHERE, "there", "worker")
    postgres_server.execute("UPDATE processes SET told = told - 7200, clock = clock - 7200", database)
    said = command("doctor")
    assert said.returncode == ExitCode.FAILED
    assert "FAIL host         there: nothing runs, 0 jobs at work, no sign of life of 1 process for 2 h 0 min" in (
        said.stdout
    )
    assert f"look after {ELSEWHERE.pid} there; others resume the jobs that they can read" in said.stdout


def test_a_database_with_few_connections_left(
    store: JobStore, database: str, command: Command, postgres_server: PostgresServer
) -> None:
    import psycopg

    with ExitStack() as stack:
        for _ in range(245):
            stack.enter_context(psycopg.connect(postgres_server.url(database).text))
        said = command("doctor")
    assert said.returncode == ExitCode.UNREACHABLE
    assert " of 297 connections in use: workers that start may find none\n" in said.stdout
    assert "raise max_connections, or let PgBouncer share them" in said.stdout


def test_a_shared_spool_that_cannot_be_written(
    store: JobStore, findings: Findings, strict_storage: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = strict_storage.new_bucket()
    with Between(strict_storage) as between:
        for name, value in between.server.variables(bucket).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("INGEST_SHARED_SPOOL", f"s3://{bucket}/spool")
        assert findings(ExitCode.SUCCESS)["shared spool"] == f"s3://{bucket}/spool at {between.url}"
        between.decide = lambda method, target: REFUSED if method == "PUT" and "/spool/" in target else None
        assert "the access key may not do that" in findings(ExitCode.UNREACHABLE)["FAIL shared spool"]
    assert strict_storage.keys(bucket) == set()

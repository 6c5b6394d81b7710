"""Where a job stands in the queues of several hosts, why it waits there, and who runs before it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ingest_cli.errors import SettingsError, WrongState
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.places import WaitsFor
from ingest_cli.jobs.process import Process, this_process
from ingest_cli.jobs.stages import LOAD_METADATA
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.settings import PostgresUrl, load_settings

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.holders import ELSEWHERE
from ..support.postgres import PostgresServer
from ..support.serving import Server
from ..support.site import Site

pytestmark = pytest.mark.cluster


@pytest.fixture
def store(postgres: PostgresUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """A store of several hosts, of which this one is ``here``; any can read what lies in ``shared``."""
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, postgres.text)
    monkeypatch.setenv("INGEST_HOST", "here")
    monkeypatch.setenv("INGEST_SHARED", str(tmp_path / "shared"))
    monkeypatch.setenv("INGEST_JOBS_PER_PROJECT", "1")
    with open_store(load_settings()) as opened:
        yield opened


def submitted(store: JobStore, job_id: int, *, folder: str = "/own", holder: Process | None = None) -> int:
    store.submit(
        job_id, kind=JobKind.BUNDLE, source=f"{folder}/{job_id}", fingerprint="1", user="u", holder=holder
    )  # fmt: skip
    return job_id


def waits_for(store: JobStore, job_id: int) -> WaitsFor | None:
    return store.places([job_id])[job_id].waits_for(store.get(job_id))


def explained(store: JobStore, job_id: int) -> str:
    return store.places([job_id])[job_id].explained(store.get(job_id))


def attend(store: JobStore, process: Process, host: str, role: str = "worker") -> None:
    assert store.attendance is not None
    store.attendance.enter(process, host, role)


def test_a_job_waits_for_a_worker_of_its_host(store: JobStore, postgres_server: PostgresServer) -> None:
    submitted(store, 1)
    silent = "a worker of here, on whose disk its files are: none runs"
    assert explained(store, 1) == f"{silent}, and nothing was heard of here"
    attend(store, ELSEWHERE, "there")
    attend(store, this_process(), "here", "server")
    assert waits_for(store, 1) is WaitsFor.HOST
    attend(store, this_process(), "here")
    assert explained(store, 1) == "a worker of here, on whose disk its files are, that is free"
    database = load_settings().database
    assert isinstance(database, PostgresUrl)
    postgres_server.execute("UPDATE processes SET told = told - 7200", database.text.rpartition("/")[2])
    assert explained(store, 1) == f"{silent}; the last sign of life of here was 2 h 0 min ago"


def test_a_job_that_all_can_read_waits_for_any_worker(store: JobStore, tmp_path: Path) -> None:
    submitted(store, 1, folder=str(tmp_path / "shared"))
    assert explained(store, 1) == "a worker, on any host: none runs"
    attend(store, ELSEWHERE, "there")
    assert explained(store, 1) == "a worker, on any host, that is free"


def test_a_job_waits_for_its_time_or_its_project(store: JobStore) -> None:
    attend(store, this_process(), "here")
    deferred, first, crowded = (store.lease(submitted(store, job_id)) for job_id in (1, 2, 3))
    store.defer(deferred.fence, LOAD_METADATA, "the storage is away", 60)
    assert explained(store, 1) == f"its time, which is {store.get(1).retried_at} UTC"
    assert (store.admit(first.fence, "1234a", 1), store.admit(crowded.fence, "1234a", 1)) == (True, False)
    assert waits_for(store, 3) is None
    store.defer(crowded.fence, LOAD_METADATA, "crowded", 60, is_attempt=False)
    assert explained(store, 3) == "another job of project '1234a' to end: no more may be at work at once"
    store.defer(store.lease(3).fence, LOAD_METADATA, "the storage is away", 60)
    assert explained(store, 3) == f"its time, which is {store.get(3).retried_at} UTC"
    store.record(first.fence)
    assert store.get(3).is_deferred, "no other job's end has it retried sooner"


def test_everybody_is_told_where_a_job_stands(
    store: JobStore, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    assert command("ingest", "-q", "--queue", "--priority", 70, bundle).returncode == 0
    told = {"queue": "local:here", "priority": 70, "waits_for": "host"}
    for words in (["state", "--json"], ["state", 1, "--json"]):
        found: Any = json.loads(command(*words).stdout)
        assert told.items() <= (found[0] if isinstance(found, list) else found).items()
    waits = "a worker of here, on whose disk its files are: none runs, and nothing was heard of here"
    assert f"\nqueue     local:here, with priority 70\nwaits for {waits}\n" in command("state", 1).stdout
    assert re.search(r"ingest retry 1 +runs it now, on here\n", command("state", 1).stdout)
    monkeypatch.setenv("INGEST_HOST", "there")
    with Server(tmp_path) as server:
        (listed,), shown = (requests.get(f"{server.url}/{path}", timeout=60).json() for path in ("jobs", "jobs/1"))
        assert told.items() <= listed.items()
        assert told.items() <= shown.items()
        page = requests.get(f"{server.url}/jobs/1", headers={"Accept": "text/html"}, timeout=60).text
        assert re.search(r"<dt>Queue</dt><dd>local:here, with priority 70</dd><dt>Waits for</dt><dd>a worker of", page)
        metrics = requests.get(f"{server.url}/metrics", timeout=60).text
        assert '\ningest_queue_jobs{queue="local:here"} 1\n' in metrics
        assert '\ningest_queue_workers{queue="local:here"} 0\n' in metrics
        assert_is_of_prometheus(metrics)
    monkeypatch.setenv("INGEST_HOST", "here")
    assert command("worker", "-q", "--until-empty").returncode == 0
    assert json.loads(command("state", 1, "--json").stdout)["waits_for"] is None
    assert "queue" not in command("state", 1).stdout


def assert_is_of_prometheus(text: str) -> None:
    program = shutil.which("promtool")
    if program is not None:
        done = subprocess.run([program, "check", "metrics"], input=text, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_administrator_has_a_job_run_next(store: JobStore, command: Command) -> None:
    for job_id in (1, 2, 3):
        submitted(store, job_id)
    assert command("job", "--job-id", 2, "--priority", 90).stdout == "job 2: priority 90\n"
    assert "its priority was set to 90" in command("state", 2).stdout
    assert [store.lease_offered().job_id for _ in range(3)] == [2, 1, 3]  # type: ignore[attr-defined]
    store.undo(store.get(1).fence, JobState.FAILED, LOAD_METADATA, "no")
    with pytest.raises(WrongState, match="job 1 is failed: a priority is of jobs that are to be run"):
        store.prioritize(1, 50)


def test_one_host_knows_no_priorities(site: Site, command: Command, tmp_path: Path) -> None:
    with open_store(site.settings) as store:
        submitted(store, 1)
        assert store.places([1]) == {}
        with pytest.raises(SettingsError, match="runs the oldest job first"):
            store.prioritize(1, 90)
    for words in (["ingest", "--priority", 1, tmp_path / "b.tar"], ["watch", "--once", "--priority", 1, tmp_path]):
        done = command(*words)
        assert (done.returncode, "--priority needs a job store on PostgreSQL" in done.stderr) == (2, True)
    assert command("job", "--job-id", 1, "--priority", 9, "--state", "OK").returncode == 2

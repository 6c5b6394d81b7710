"""Several small jobs at once in one worker, where the jobs, the ids and the catalogue are in PostgreSQL."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.jobs.job import Job, JobState
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.pipeline.small import THREADS
from ingest_cli.settings import PostgresUrl, load_settings

from ..support.bundles import write_bundle
from ..support.cluster import Cluster, cluster
from ..support.command import Command
from ..support.forks import Running
from ..support.links import LOOPBACK, Link
from ..support.postgres import PostgresServer, held_catalog
from ..support.site import Site
from ..support.waiting import PATIENCE, until

pytestmark = pytest.mark.cluster
Starting = Callable[..., Running]
COUNT, STALE_SECONDS = 25, 4.0


@pytest.fixture
def store(postgres: PostgresUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """That of a site with all of it in the database."""
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, postgres.text)
    monkeypatch.setenv("INGEST_SHARED", str(tmp_path))
    with open_store(load_settings()) as store:
        yield store


@pytest.fixture
def queued(store: JobStore, command: Command, tmp_path: Path) -> list[Path]:
    """Bundles of which one is stored, and the others wait."""
    paths = [write_bundle(tmp_path / f"{number}.tar", {f"data/{number}": b"%d" % number}) for number in range(COUNT)]
    assert command(paths[0]).returncode == 0  # which makes the tables
    assert command("--queue", "--quiet", *paths[1:]).returncode == 0
    return paths


def running(store: JobStore) -> list[Job]:
    return list(store.in_states({JobState.RUNNING}))


def require_each_stored_once(site: Site, server: PostgresServer, postgres: PostgresUrl) -> None:
    """And nothing is there besides."""
    with open_store(load_settings()) as store:
        assert {job.state for job in store.select()} == {JobState.COMPLETE}
    files = {row["id"]: row["name"] for row in server.rows("Files", postgres)}
    assert len(server.rows("Transactions", postgres)) == len(files) == COUNT
    assert {number: content.decode() for number, content in site.archived().items()} == files


def test_one_worker_runs_many_at_once(
    store: JobStore, queued: list[Path], postgres: PostgresUrl, starting: Starting
) -> None:
    with held_catalog(postgres):
        worker = starting("worker", "--until-empty", "--quiet")
        until(lambda: len(running(store)) == THREADS)
        assert len({job.holder for job in running(store)}) == 1
    assert worker.wait(PATIENCE) == 0
    assert all(job.attempts == 1 for job in store.select())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_that_a_worker_leaves_are_resumed(
    store: JobStore,
    queued: list[Path],
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
    starting: Starting,
    command: Command,
    site: Site,
    number: int,
) -> None:
    with held_catalog(postgres):
        worker = starting("worker", "--quiet")
        until(lambda: len(running(store)) == THREADS)
        begun = time.monotonic()
        worker.send_signal(number)
        assert worker.wait(PATIENCE) == (ExitCode.INTERRUPTED if number != signal.SIGKILL else -number)
        assert time.monotonic() - begun < site.settings.timings.ending + 10
    left = {job.job_id for job in store.select() if job.attempts and not job.is_done}
    assert len(left) == THREADS
    assert command("worker", "--until-empty", "--quiet").returncode == 0
    assert {job.job_id for job in store.select() if job.attempts == 2} == left
    require_each_stored_once(site, postgres_server, postgres)


def test_a_lease_that_is_lost_stops_its_run_and_none_beside_it(
    store: JobStore,
    queued: list[Path],
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
    starting: Starting,
    site: Site,
) -> None:
    with held_catalog(postgres):
        first = starting("worker", "--until-empty", "--quiet")
        # One that is not there yet would notice, and the same worker have the job again.
        until(lambda: postgres_server.waiting_for_locks(postgres) == THREADS)
        lost = running(store)[3]
        name = postgres.text.rpartition("/")[2]
        taken = "fence = fence + 1, holder = NULL, state = 'queued', attempts = 0"
        postgres_server.execute(f"UPDATE jobs SET {taken} WHERE job_id = {lost.job_id}", name)
        second = starting("worker", "--until-empty", "--quiet")
        until(lambda: store.get(lost.job_id).holder not in (None, lost.holder))
    assert [worker.wait(PATIENCE) for worker in (first, second)] == [0, 0]
    assert store.get(lost.job_id).fence_number == lost.fence_number + 2
    assert {job.attempts for job in store.select()} == {1}
    require_each_stored_once(site, postgres_server, postgres)


def test_a_job_that_somebody_else_is_changing_does_not_keep_the_others_from_being_alive(
    store: JobStore, queued: list[Path], postgres: PostgresUrl, starting: Starting
) -> None:
    timings = {"heartbeat": 0.2}
    with held_catalog(postgres), psycopg.connect(postgres.text) as other:
        worker = starting("worker", "--until-empty", "--quiet", timings=timings)
        until(lambda: len(running(store)) == THREADS)
        changing, *others = [job.job_id for job in running(store)]
        other.execute("SELECT FROM jobs WHERE job_id = %s FOR UPDATE", [changing])
        before = {job.job_id: job.heartbeat for job in running(store)}
        until(lambda: all(store.get(job_id).heartbeat > before[job_id] + 2 for job_id in others))
        assert store.get(changing).heartbeat <= before[changing] + 1
    assert worker.wait(PATIENCE) == 0


def test_several_bundles_of_one_command_wait_together(
    store: JobStore,
    queued: list[Path],
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
    starting: Starting,
    site: Site,
) -> None:
    with held_catalog(postgres):
        running_all = starting("-q", *queued[1:])
        until(lambda: len(running(store)) >= THREADS)
    assert running_all.wait(PATIENCE) == 0
    require_each_stored_once(site, postgres_server, postgres)


@pytest.fixture
def two(tmp_path: Path, postgres: PostgresUrl, postgres_server: PostgresServer) -> Iterator[Cluster]:
    """Two hosts that share a database and a disk, whose dead are found out soon."""
    name = postgres.text.rpartition("/")[2]

    def variables(links: Mapping[str, Link]) -> dict[str, str]:
        url = f"postgresql://postgres@{links['database']}/{name}"
        shared = dict.fromkeys(("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"), url)
        archive = (tmp_path / "data" / "pacifica-ingest-cli" / "archive").as_uri()
        return {**shared, "ARCHIVEINTERFACE_URL": archive, "INGEST_SHARED": str(tmp_path)}

    with cluster(tmp_path, ["east", "west"], {"database": (LOOPBACK, postgres_server.port)}, variables) as hosts:
        for place in hosts.hosts.values():
            place.timings = {"heartbeat": 0.2, "stale": STALE_SECONDS, "presence": 0.2, "poll": 0.05, "pause": 0.1}
        yield hosts


def test_a_host_that_is_cut_off_loses_all_that_it_has_at_work_and_no_other_does(
    two: Cluster,
    store: JobStore,
    queued: list[Path],
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
    site: Site,
) -> None:
    east, west = two["east"], two["west"]
    with held_catalog(postgres):
        east.start("worker", "--quiet")
        until(lambda: len(running(store)) == THREADS)
        theirs = {job.job_id for job in running(store)}
        west.start("worker", "--quiet")
        until(lambda: len(running(store)) == COUNT - 1)
        begun = time.monotonic()
        # Though all its connections wait for the catalogue, each of its jobs is said to live.
        until(lambda: time.monotonic() - begun > 2 * STALE_SECONDS)
        assert all(job.fence_number == 1 for job in running(store))
        east.cut()
        until(lambda: any(store.get(job_id).fence_number > 1 for job_id in theirs))
    # The server notices within half a minute that nobody is at the other end; here it is told.
    silent = "state LIKE 'idle in transaction%' AND state_change < now() - interval '2 s'"
    until(lambda: postgres_server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {silent}"))
    # One that was run before runs alone: the others have their turn when it has ended.
    until(lambda: not store.count_unfinished())
    assert all(store.get(job_id).fence_number > 1 for job_id in theirs)
    east.mend()
    require_each_stored_once(site, postgres_server, postgres)


@pytest.mark.parametrize("away", ["stopped", "frozen"])
def test_a_run_waits_for_a_database_that_is_away_and_nobody_is_taken_for_dead(
    two: Cluster,
    store: JobStore,
    queued: list[Path],
    postgres_server: PostgresServer,
    tmp_path: Path,
    away: str,
) -> None:
    """When it is back, those who hold jobs say so, and no other host is quicker; the run goes on where it was."""
    path = write_bundle(tmp_path / "slow.tar", {f"data/{number}": bytes(12_000) for number in range(10)})
    two["west"].start("worker", "--quiet")
    until(lambda: not store.count_unfinished())
    slow = two["east"].start("--quiet", "--limit-rate", "30kB", path)
    until(lambda: any(job.source == str(path) and job.heartbeat > 2 for job in running(store)))
    job_id = running(store)[0].job_id
    begun = time.monotonic()
    if away == "stopped":
        postgres_server.stop()
    else:
        postgres_server.freeze()
    until(lambda: time.monotonic() - begun > 2 * STALE_SECONDS)
    if away == "stopped":
        postgres_server.start()
    else:
        postgres_server.thaw()
    until(lambda: store.get(job_id).is_done)
    assert (store.get(job_id).fence_number, store.get(job_id).attempts) == (1, 1), slow.log.read_text()

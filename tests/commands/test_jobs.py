"""The job store: Pacifica's answers, an administrator's word, many processes, and processes that die."""

import json
import multiprocessing
import os
import re
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from ingest_cli.errors import JobBusy, JobNotFound, LeaseLost, StoreError
from ingest_cli.jobs.job import Job, JobKind, JobState, Override, PacificaState
from ingest_cli.jobs.process import Process, this_process
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.jobs.store import JobStore
from ingest_cli.pipeline.settlement import settle_by_hand
from ingest_cli.services.embedded.uniqueid import EmbeddedUniqueId
from ingest_cli.services.factory import connect
from ingest_cli.settings import Timings

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.holders import DEAD, ELSEWHERE
from ..support.pacifica_double import PacificaSite
from ..support.site import Site
from ..support.waiting import PATIENCE, until

ADMIN = ["--task", "ingest files", "--task-percent", "0.0", "--exception", "Failed by administrator"]


def test_state_as_pacificas_clients_know_it(command: Command, tmp_path: Path) -> None:
    """The eight fields that they know come first."""
    bundle = write_bundle(tmp_path / "b.tar")
    command(bundle)
    told = json.loads(command("state", "1", "--json").stdout)
    assert {told["source"], told["origin"]} == {str(bundle)}
    assert (told["status"], told["files"], told["bytes"]) == ("complete", len(FILES), sum(map(len, FILES.values())))
    state = dict(list(told.items())[:8])
    assert {key: type(value) for key, value in state.items()} == {
        "job_id": int,
        "state": str,
        "task": str,
        "task_percent": str,
        "complete": bool,
        "updated": str,
        "created": str,
        "exception": str,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", state.pop("created"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", state.pop("updated"))
    assert state == {
        "job_id": 1,
        "state": "OK",
        "task": "ingest metadata",
        "task_percent": "100.00000",
        "complete": True,
        "exception": "",
    }


def test_the_newest_jobs_as_a_table(command: Command, tmp_path: Path) -> None:
    command("worker", "--until-empty")
    assert command("state").stdout == "no jobs yet\n"
    command(write_bundle(tmp_path / "b.tar"))
    header, line = command("state").stdout.splitlines()
    assert header.split()[:3] == ["job", "state", "name"]
    assert line.split()[:2] == ["1", "complete"]
    assert json.loads(command("state", "--json").stdout)[0]["job_id"] == 1


def test_an_unknown_job(command: Command) -> None:
    command("worker", "--until-empty")
    done = command("state", "1234")
    assert done.returncode == 1
    assert "there is no job 1234" in done.stderr


def test_an_administrator_fails_a_job(command: Command, tmp_path: Path) -> None:
    command(write_bundle(tmp_path / "b.tar"))
    assert command("job", "--job-id", 1, "--state", "FAILED", *ADMIN).returncode == 0
    state = json.loads(command("state", "1", "--json").stdout)
    assert (state["state"], state["task"], state["exception"]) == ("FAILED", "ingest files", "Failed by administrator")


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--job-id", "99", "--state", "FAILED", *ADMIN], 1),
        (["--job-id", "1", "--state", "LOST", *ADMIN], 2),
        (["--job-id", "1", "--state", "OK", "--task", "no stage", "--task-percent", "0"], 2),
        (["--job-id", "1", "--state", "OK", "--task", "ingest files", "--task-percent", "101"], 2),
        (["--job-id", "1", "--state", "OK", "--task", "ingest files", "--task-percent", "-1"], 2),
        (["--job-id", "1", "--state", "OK", "--task", "ingest files", "--task-percent", "nan"], 2),
    ],
)
def test_an_administrator_is_refused_nonsense(command: Command, tmp_path: Path, words: list[str], code: int) -> None:
    command("worker", "--until-empty")
    assert command("job", *words).returncode == code


def test_the_store_is_private(site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    for path in (site.database, site.catalog):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_databases_that_are_not_ours(tmp_path: Path, site: Site) -> None:
    (tmp_path / "text").write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="cannot use the job store"):
        opened(tmp_path / "text")
    with closing(sqlite3.connect(tmp_path / "other")) as connection:
        connection.execute("CREATE TABLE other (x)")
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreError, match="for something else"):
        opened(tmp_path / "other")
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with pytest.raises(StoreError, match="for something else"):
        opened(site.catalog)
    with closing(sqlite3.connect(site.database)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer version of ingest"):
        opened(site.database)


def opened(path: Path, timings: Timings | None = None) -> JobStore:
    return SqliteJobStore(path, timings or Timings())


def submit(store: JobStore, job_id: int, holder: Process | None = None) -> Job:
    return store.submit(job_id, kind=JobKind.BUNDLE, source="/b.tar", fingerprint="1:2:3", user="u", holder=holder)


def _take_ids(path: Path) -> list[tuple[int, int]]:
    with closing(EmbeddedUniqueId(path)) as ids:
        return [(ids.reserve("file", count), count) for count in range(1, 51)]


def test_ids_are_never_given_twice(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        given = pool.map(_take_ids, [tmp_path / "ids"] * 4)
    taken = [first + offset for ranges in given for first, count in ranges for offset in range(count)]
    assert sorted(taken) == list(range(1, len(taken) + 1))


def _submit_and_settle(numbered: tuple[Path, int]) -> None:
    path, number = numbered
    with opened(path) as store:
        for job_id in range(number * 50, number * 50 + 50):
            submit(store, job_id)
            fence = store.lease(job_id).fence
            store.enter(fence, INGEST_FILES)
            store.record(fence)


def test_many_processes_write_one_store(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(_submit_and_settle, [(tmp_path / "jobs", number) for number in range(4)])
    with opened(tmp_path / "jobs") as store:
        jobs = store.select(limit=1000)
    assert len(jobs) == 200
    assert all(job.is_done for job in jobs)
    with closing(sqlite3.connect(tmp_path / "jobs")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


_together: threading.Barrier


def _share(barrier: threading.Barrier) -> None:
    global _together
    _together = barrier


def _claim(path: Path) -> bool:
    with opened(path) as store:
        _together.wait(PATIENCE)
        try:
            store.lease(1)
        except JobBusy:
            return False
        else:
            return True
        finally:
            _together.wait(PATIENCE)  # alive while the others try


def test_one_process_wins_a_job(tmp_path: Path) -> None:
    with opened(tmp_path / "jobs") as store:
        submit(store, 1)
    spawning = multiprocessing.get_context("spawn")
    with spawning.Pool(4, _share, [spawning.Barrier(4)]) as pool:
        claims = pool.map(_claim, [tmp_path / "jobs"] * 4, chunksize=1)
    assert claims.count(True) == 1


def test_a_settled_job_is_no_longer_its_workers(site: Site) -> None:
    """It was settled when its worker was dead, as far as anyone could know."""
    word = Override(PacificaState.FAILED, INGEST_FILES, 0, "by hand")

    def settle(store: JobStore, job_id: int) -> Job:
        return settle_by_hand(store, job_id, word, Timings(), lambda: connect(site.settings))

    with opened(site.database) as store:
        job = submit(store, 1, DEAD)
        assert settle(store, 1).state is JobState.FAILED
        with pytest.raises(LeaseLost):
            store.checkpoint(job.fence, 5)
        assert store.get(1).exception == "by hand"
        with pytest.raises(JobNotFound):
            settle(store, 2)


def test_what_is_said_of_a_job_at_work_is_a_wish(site: Site) -> None:
    word = Override(PacificaState.FAILED, INGEST_FILES, 0, "by hand")
    with opened(site.database) as store:
        job = submit(store, 1, this_process())
        told = settle_by_hand(store, 1, word, Timings(), lambda: connect(site.settings))
        assert (told.state, told.as_state()["state"]) == (JobState.RUNNING, "FAILED")
        assert store.heartbeat(job.fence, 1.0) == word


# So many that a slow archive has most of them to come when the first is stored.
MANY = {f"data/{number:03}": b"x" * number for number in range(300)}


def big_bundle(path: Path) -> tuple[Path, dict[str, bytes]]:
    files = {f"data/{number:04}": os.urandom(2000) for number in range(4000)}
    return write_bundle(path, files), files


def wait_for(site: Site) -> None:
    """Until the running job has begun to store files."""
    until(lambda: site.archive.is_dir() and any(site.archive.rglob("file.*")), every=0.005)


def test_a_killed_process_is_finished_by_the_next_under_the_same_id(
    command: Command,
    site: Site,
    tmp_path: Path,
    starting: Callable[..., Running],
) -> None:
    bundle, files = big_bundle(tmp_path / "b.tar")
    running = starting("-q", "--limit-rate", "4MB", bundle)
    wait_for(site)
    running.kill()
    running.wait()
    left = site.jobs()[0]
    assert (left.job_id, left.is_done) == (1, False)
    assert command("-q", bundle).returncode == 0
    (job,) = site.jobs()
    assert (job.job_id, job.is_done) == (1, True)
    assert site.contents() == files
    assert len(site.archived()) == len(files)
    assert len(site.rows("Transactions")) == 1


def test_a_file_cut_off_in_the_middle_is_stored_whole_by_the_next_run(
    command: Command,
    site: Site,
    tmp_path: Path,
    starting: Callable[..., Running],
) -> None:
    files = {"data/first": b"1", "data/large": os.urandom(1 << 20) * 150}
    bundle = write_bundle(tmp_path / "b.tar", files)
    running = starting("-q", "--limit-rate", "50MB", bundle)
    wait_for(site)
    running.kill()
    running.wait()
    assert not site.jobs()[0].is_done
    assert command("-q", bundle).returncode == 0
    (job,) = site.jobs()
    assert (job.job_id, job.is_done) == (1, True)
    assert site.contents() == files
    assert len(site.archived()) == 2
    assert len(site.rows("Transactions")) == 1


def _open_and_close(path: Path) -> None:
    with opened(path):
        pass


def test_a_second_connection_of_a_process_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "jobs"
    with opened(path) as first:
        submit(first, 1)
        _open_and_close(path)
        # A process that closes the store last takes the WAL away; it must see that it is not the last.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.map(_open_and_close, [path])
        assert Path(f"{path}-wal").exists()
        submit(first, 2)
        assert [job.job_id for job in first.select(limit=9)] == [2, 1]
    with opened(path) as store:
        assert [job.job_id for job in store.select(limit=9)] == [2, 1]


def test_many_commands_at_once_share_one_store(command: Command, site: Site, tmp_path: Path) -> None:
    bundles = [write_bundle(tmp_path / f"{n}.tar", {f"data/{n}": b"%d" % n}) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(partial(command, "-q"), bundles))
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 6
    assert site.contents() == {f"data/{n}": b"%d" % n for n in range(6)}
    assert {job.job_id for job in site.jobs()} == {row["id"] for row in site.rows("Transactions")} == set(range(1, 7))


def test_the_same_bundle_by_several_commands_at_once_is_stored_once(
    command: Command, site: Site, tmp_path: Path
) -> None:
    files = {f"data/{n}": os.urandom(1000) for n in range(500)}
    bundles = [write_bundle(tmp_path / f"{n}.tar", files) for n in range(2)] * 2
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(partial(command, "-q"), bundles))
    codes = [one.returncode for one in done]
    assert 0 in codes
    assert set(codes) <= {0, 4}, done
    assert len(site.rows("Transactions")) == 1
    assert site.contents() == files
    assert len(site.archived()) == len(files)


@pytest.mark.parametrize("silent", [False, True])
def test_a_worker_on_another_machine_lives_as_long_as_it_beats(tmp_path: Path, silent: bool) -> None:
    # Who beats is seen as soon as it does, and who does not only after the time that makes it stale.
    timings = Timings(heartbeat=0.02, stale=0.5 if silent else PATIENCE)
    with opened(tmp_path / "jobs", timings) as store, opened(tmp_path / "jobs", timings) as elsewhere:
        job = submit(store, 1, ELSEWHERE)
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(timings.heartbeat):
                elsewhere.heartbeat(job.fence, 1.0)

        beating = threading.Thread(target=beat)
        if silent:
            assert store.lease(1).holder == this_process()
        else:
            beating.start()
            try:
                with pytest.raises(JobBusy, match="elsewhere:1"):
                    store.lease(1)
            finally:
                ended.set()
                beating.join()


def test_ids_behind_the_store_are_told_from_a_fault(site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with closing(sqlite3.connect(site.database.with_name("ids.sqlite3"))) as connection, connection:
        connection.execute("DELETE FROM unique_index")
    with pytest.raises(StoreError, match="already holds a job 1"):
        site.ingest(write_bundle(tmp_path / "c.tar", {"data/c": b"c"}))
    assert len(site.rows("Transactions")) == 1


def test_an_administrator_stops_a_running_job(
    command: Command, site: Site, pacific: PacificaSite, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    pacific.seconds_a_file = 0.05
    running = starting("-q", write_bundle(tmp_path / "b.tar", MANY))
    until(lambda: pacific.files)
    command("job", "--job-id", 1, "--state", "FAILED", *ADMIN)
    assert running.wait(PATIENCE) == 1
    assert site.job(1).exception == "Failed by administrator"
    assert not pacific.files
    assert not pacific.transactions


def test_an_administrator_fails_a_job_that_nobody_works_on(command: Command, site: Site, half_stored: Path) -> None:
    assert len(site.archived()) == site.job(1).stored == len(FILES)
    done = command("job", "--job-id", 1, "--state", "FAILED", *ADMIN)
    assert (done.returncode, done.stderr) == (0, "")
    assert site.holds_nothing()
    job = site.job(1)
    assert (job.state, job.reservation, job.holder) == (JobState.FAILED, None, None)
    assert job.as_state()["exception"] == "Failed by administrator"
    assert "metadata" in job.exception, "the first reason is kept"


def test_what_an_administrator_failed_is_rolled_back_when_the_catalog_is_back(
    command: Command, site: Site, half_stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be known before whether the catalog has the job."""
    with monkeypatch.context() as patch:
        patch.setenv("METADATA_INGEST_URL", "http://127.0.0.1:9/ingest")
        assert command("job", "--job-id", 1, "--state", "FAILED", *ADMIN).returncode == 4
    job = site.job(1)
    assert (job.state, job.holder, job.is_deferred) == (JobState.UNDOING, None, True)
    assert job.as_state()["state"] == "FAILED"
    assert len(site.archived()) == len(FILES)
    assert command("job", "--job-id", 1, "--state", "FAILED", *ADMIN).returncode == 0
    assert site.job(1).state is JobState.FAILED
    assert site.holds_nothing()


def test_no_one_can_call_complete_what_is_not_stored(command: Command, tmp_path: Path) -> None:
    command(write_bundle(tmp_path / "bad.tar", metadata=b"{}"))
    done = command("job", "--job-id", 1, "--state", "OK", "--task", "ingest metadata", "--task-percent", "100")
    assert done.returncode == 1
    assert "cannot be set to complete" in done.stderr
    assert json.loads(command("state", "1", "--json").stdout)["state"] == "FAILED"
    command(write_bundle(tmp_path / "good.tar"))
    command("job", "--job-id", 2, "--state", "FAILED", *ADMIN)
    words = ["--state", "OK", "--task", "ingest metadata", "--task-percent", "100"]
    assert command("job", "--job-id", 2, *words).returncode == 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_stream_is_resumed(
    command: Command, site: Site, pacific: PacificaSite, tmp_path: Path, starting: Callable[..., Running], stop: int
) -> None:
    bundle = write_bundle(tmp_path / "b.tar", MANY)
    pacific.seconds_a_file = 0.05
    with (tmp_path / "said").open("wb") as said, bundle.open("rb") as stream:
        running = starting("-q", "-", stdin=stream, output=said)
        until(lambda: pacific.files)
        running.send_signal(stop)
        assert running.wait(PATIENCE) == 130
    pacific.seconds_a_file = 0.0
    (kept,) = site.settings.spool.iterdir()
    assert (tmp_path / "said").read_text().splitlines() == [
        "ingest: interrupted; the same command resumes from here",
        f"ingest: the bundle is kept in {kept}",
    ]
    assert command("-q", "-", stdin=bundle.read_bytes()).returncode == 0
    assert pacific.files == dict(enumerate(MANY.values(), 1))
    assert len(pacific.transactions) == 1
    assert command("-q", kept).returncode == 0
    assert len(pacific.transactions) == 1


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_first_signal_lets_the_file_at_hand_end(
    command: Command, site: Site, pacific: PacificaSite, tmp_path: Path, starting: Callable[..., Running], stop: int
) -> None:
    bundle = write_bundle(tmp_path / "b.tar", MANY)
    pacific.seconds_a_file = 0.05
    running = starting("-q", bundle)
    until(lambda: pacific.files)
    running.send_signal(stop)
    assert running.wait(PATIENCE) == 130
    (job,) = site.jobs()
    assert 0 < job.stored < len(MANY)
    assert job.stored == len(pacific.files), "what is stored is known to be stored"
    assert (job.state, job.holder) == (JobState.QUEUED, None)
    pacific.seconds_a_file = 0.0
    assert command("-q", bundle).returncode == 0
    assert pacific.files == dict(enumerate(MANY.values(), 1))
    assert [job.job_id for job in site.jobs()] == [1]


@pytest.mark.sweep
def test_a_file_that_takes_long_is_not_waited_for(
    site: Site,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    starting: Callable[..., Running],
) -> None:
    with PacificaSite() as archive:
        archive.seconds_a_file = 10 * PATIENCE
        monkeypatch.setenv("ARCHIVEINTERFACE_URL", archive.url)
        bundle = write_bundle(tmp_path / "b.tar")
        # The file would never be stored: a process that ends has not waited for it, and after the second signal it
        # has not waited for the first one's grace either.
        for signals, grace in [(1, 0.5), (2, 3600.0)]:
            running = starting("-q", bundle, timings={"grace": grace})
            until(lambda: archive.at_work)
            for _ in range(signals):
                running.send_signal(signal.SIGTERM)
                time.sleep(0.3)
            assert running.wait(PATIENCE) == 130
            archive.at_work = 0
            assert site.job(1).is_interrupted
        archive.seconds_a_file = 0.0
        assert command("-q", bundle).returncode == 0
    assert site.job(1).is_done


def test_a_store_that_cannot_be_written_is_a_sentence(command: Command, site: Site, tmp_path: Path) -> None:
    command(write_bundle(tmp_path / "b.tar"))
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("CREATE TRIGGER broken BEFORE INSERT ON jobs BEGIN SELECT nonsense(); END")
    done = command(write_bundle(tmp_path / "other.tar", {"data/x": b"x"}))
    assert done.returncode == 1
    assert f"cannot write to {site.database}" in done.stderr
    assert "Traceback" not in done.stderr

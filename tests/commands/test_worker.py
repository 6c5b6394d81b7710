"""The store is the queue: workers take jobs in a fair order, finish those of dead ones, and leave when told."""

import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_cli.cli.display import screens_of_queue
from ingest_cli.cli.output import record
from ingest_cli.errors import ExitCode, Interrupted, StopRequested
from ingest_cli.jobs.group_commit import Shared
from ingest_cli.jobs.job import Job, JobKind, JobState, Override, PacificaState
from ingest_cli.jobs.process import Process, this_process
from ingest_cli.jobs.stages import INGEST_FILES, INGEST_METADATA, STAGES, UPLOADING
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.pipeline.observer import Observer
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.settlement import settle_by_hand
from ingest_cli.pipeline.small import SMALL_BYTES, THREADS
from ingest_cli.pipeline.small_jobs import SmallJobs
from ingest_cli.pipeline.spooled import Spooled
from ingest_cli.pipeline.submission import submit
from ingest_cli.pipeline.worker_pool import WorkerPool
from ingest_cli.services.base import Services
from ingest_cli.services.factory import connect
from ingest_cli.services.pacifica import http
from ingest_cli.settings import Timings, load_settings

from ..support.bundles import FILES, write_bundle, write_bundles
from ..support.command import Command, untimed
from ..support.forks import Running
from ..support.holders import DEAD
from ..support.http_faults import dropped
from ..support.pacifica_double import Handler, PacificaSite
from ..support.shown import is_stored
from ..support.site import Leaver, Site, Witness
from ..support.waiting import PATIENCE, until


def test_queued_bundles_wait_for_a_worker(command: Command, site: Site, tmp_path: Path) -> None:
    paths = write_bundles(tmp_path, 3)
    done = command("--queue", *paths)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"job {number}: {path} is queued" for number, path in enumerate(paths, 1)]
    assert {(job.state, job.task, job.attempts) for job in site.jobs()} == {(JobState.QUEUED, UPLOADING, 0)}
    done = command("worker", "--until-empty")
    assert (done.returncode, done.stderr) == (0, "")
    assert untimed(done.stdout) == [f"job {number}: {path} is complete, 1 file" for number, path in enumerate(paths, 1)]
    assert site.contents() == {f"data/{number}": bytes([number]) for number in range(3)}


def test_a_document_to_move_waits_too(command: Command, site: Site, tmp_path: Path) -> None:
    (tmp_path / "move.json").write_text("[]")
    assert command("move", "--queue", tmp_path / "move.json").returncode == 0
    done = command("worker", "--until-empty", "--quiet")
    assert done.returncode == 0
    assert "job 1 failed at 'load metadata'" in done.stderr
    assert site.job(1).kind is JobKind.MOVE


@pytest.mark.parametrize("words", [("-",), ("b.tar", "--again")])
def test_what_cannot_wait(command: Command, site: Site, tmp_path: Path, words: tuple[str, ...]) -> None:
    write_bundle(tmp_path / "b.tar")
    assert command("--queue", *words).returncode == ExitCode.USAGE
    assert site.jobs() == []


def test_a_failure_holds_up_no_one(command: Command, site: Site, tmp_path: Path) -> None:
    good = write_bundles(tmp_path, 2)
    write_bundle(tmp_path / "bad.tar", metadata=b"{}")
    assert command("--queue", good[0], tmp_path / "bad.tar", good[1]).returncode == 0
    done = command("worker", "--until-empty", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    states = [event for event in events if event["event"] == "settled"]
    assert [(state["job_id"], is_stored(state)) for state in states] == [(1, True), (2, False), (3, True)]
    assert command("worker", "--until-empty").stdout == "", "what failed for good is not run again"


def test_several_processes_share_the_queue(command: Command, site: Site, tmp_path: Path) -> None:
    paths = write_bundles(tmp_path, 40)
    assert command("--queue", "--quiet", *paths).returncode == 0
    done = command("worker", "--workers", 3, "--until-empty")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(paths)
    assert all(job.is_done and job.attempts == 1 for job in site.jobs())
    assert len(site.rows("Transactions")) == len(paths)


class Hold:
    """Keeps an archive from storing a file, the ``number``-th, until it is let go."""

    def __init__(self, number: int) -> None:
        self._left, self._go, self.holds = number, threading.Event(), threading.Event()

    def let_go(self) -> None:
        self._go.set()

    def __call__(self, handler: Handler) -> bool:
        if handler.command == "PUT":
            self._left -= 1
            if self._left == 0:
                self.holds.set()
                self._go.wait(PATIENCE)
        return False


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def worker_pid(site: Site) -> int | None:
    holder = site.job(1).holder
    return holder.pid if holder is not None else None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="sees child processes by /proc")
def test_a_killed_worker_is_replaced_and_its_job_finished(
    command: Command, site: Site, pacific: PacificaSite, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    files = {f"data/{number}": bytes([number]) for number in range(10)}
    pacific.guard = hold = Hold(5)
    command("--queue", write_bundle(tmp_path / "b.tar", files))
    pool = starting("worker", "--workers", 2, "--quiet")
    assert hold.holds.wait(PATIENCE)
    first = worker_pid(site)
    assert first in children(pool.pid)
    os.kill(first, signal.SIGKILL)
    hold.let_go()
    until(lambda: site.job(1).is_done)
    assert site.job(1).attempts == 2
    assert sorted(pacific.files.values()) == sorted(files.values())
    until(lambda: len(set(children(pool.pid)) - {first}) >= 2)
    pool.terminate()
    assert pool.wait(PATIENCE) == 0


@pytest.mark.sweep
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="sees child processes by /proc")
def test_workers_do_not_outlive_their_parent(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    command("--queue", *write_bundles(tmp_path, 1))
    pool = starting("worker", "--workers", 2, "--quiet")
    until(lambda: site.job(1).is_done)
    left = children(pool.pid)
    assert len(left) >= 2
    pool.kill()
    pool.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_told_to_leave_keeps_its_job_in_the_queue(
    command: Command,
    site: Site,
    pacific: PacificaSite,
    tmp_path: Path,
    starting: Callable[..., Running],
    workers: int,
) -> None:
    many = {f"data/{number:03}": bytes([number]) for number in range(250)}
    pacific.seconds_a_file = 0.1  # with which the job takes longer than a signal
    command("--queue", write_bundle(tmp_path / "b.tar", many))
    process = starting("worker", "--workers", workers)
    until(lambda: pacific.files)
    process.terminate()
    assert process.wait(PATIENCE) == ExitCode.INTERRUPTED
    job = site.job(1)
    assert (job.state, job.holder, job.is_interrupted) == (JobState.QUEUED, None, True)
    pacific.seconds_a_file = 0.0
    assert command("worker", "--until-empty").returncode == 0
    assert (site.job(1).is_done, site.job(1).attempts) == (True, 2)
    assert pacific.files == dict(enumerate(many.values(), 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_worker_leaves_at_once(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., Running], number: int
) -> None:
    command("--queue", *write_bundles(tmp_path, 1))
    process = starting("worker")
    until(lambda: site.job(1).is_done)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0


def test_a_bundle_that_is_queued_and_given_is_done_once(command: Command, site: Site, tmp_path: Path) -> None:
    (path,) = write_bundles(tmp_path, 1)
    command("--queue", path)
    assert command(path).stdout == f"job 1: {path} is complete, 1 file\n"
    assert command("--queue", path).stdout == f"job 1: {path} was ingested before\n"
    assert command("worker", "--until-empty").stdout == ""
    assert len(site.rows("Transactions")) == 1


class Queue:
    """A worker in this process."""

    def __init__(self, site: Site) -> None:
        self.site = site

    @contextmanager
    def runner(self) -> Iterator[tuple[Runner, JobStore]]:
        settings = self.site.settings
        with connect(settings) as services, open_store(settings) as store:
            yield Runner(settings, services, store), store

    def submit(self, path: Path, holder: Process | None = None) -> Job:
        with connect(self.site.settings) as services, open_store(self.site.settings) as store:
            return submit(store, services.unique_id, JobKind.BUNDLE, path, user="u", holder=holder)

    def run_next(self) -> Job | None:
        with self.runner() as (runner, _):
            job = runner.lease_next()
            return None if job is None else runner.run_leased(job, self.site.witness)

    def cut_off(self, job_id: int, times: int) -> None:
        """A run of the job is broken off, so often."""
        with open_store(self.site.settings) as store:
            for _ in range(times):
                store.requeue(store.lease(job_id).fence)


@pytest.fixture
def queue(site: Site) -> Queue:
    return Queue(site)


def with_timings(site: Site, timings: Timings) -> None:
    site.settings = replace(site.settings, timings=timings)


def test_a_service_that_is_down_defers_a_job(
    queue: Queue, site: Site, pacific: PacificaSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    site.settings = load_settings()
    with_timings(site, Timings(first_backoff=3600.0))
    queue.submit(write_bundle(tmp_path / "b.tar"))
    pacific.guard = lambda handler: handler.command == "POST" and dropped(handler)
    job = queue.run_next()
    assert job is not None
    assert (job.state, job.task, job.is_deferred) == (JobState.QUEUED, "Policy Validation", True)
    assert "the policy service at" in job.exception
    assert job.as_state()["state"] == "FAILED", "until it is retried"
    assert job.retry_at > time.time()
    assert queue.run_next() is None, "it rests"
    pacific.guard = None
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("UPDATE jobs SET retry_at = retry_at - 3600")
    job = queue.run_next()
    assert job is not None
    assert (job.is_done, job.attempts, job.exception) == (True, 2, "")


def test_a_command_whose_service_is_down_leaves_its_job_to_the_queue(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with monkeypatch.context() as patch:
        patch.setenv("METADATA_INGEST_URL", "http://127.0.0.1:9/ingest")
        assert command(bundle).returncode == ExitCode.UNREACHABLE
    job = site.job(1)
    assert (job.state, job.holder, job.is_deferred) == (JobState.QUEUED, None, True)
    assert job.retry_at > time.time()
    assert job.stored == len(FILES), "what is stored is kept"
    assert command("worker", "--until-empty").stdout == "", "it rests"
    assert command(bundle).returncode == 0, "but not where a person asks for it"
    assert (site.job(1).is_done, site.job(1).attempts) == (True, 2)


def test_a_service_that_stays_down_fails_the_job(
    queue: Queue, site: Site, pacific: PacificaSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    site.settings = load_settings()
    with_timings(site, Timings(runs=2, first_backoff=0.0))
    bundle = write_bundle(tmp_path / "b.tar")
    queue.submit(bundle)
    pacific.guard = dropped
    states = []
    for _ in range(2):
        job = queue.run_next()
        assert job is not None
        states.append(job.state)
    assert states == [JobState.QUEUED, JobState.FAILED]
    assert queue.run_next() is None
    pacific.guard = None
    with open_store(site.settings) as store:
        store.retry(1)
    job = queue.run_next()
    assert job is not None
    assert job.is_done


def test_a_job_whose_runs_are_cut_off_again_and_again_fails(queue: Queue, site: Site, tmp_path: Path) -> None:
    with_timings(site, Timings(runs=3))
    queue.submit(write_bundle(tmp_path / "b.tar"))
    queue.cut_off(1, 3)
    assert queue.run_next() is None
    assert site.job(1).state is JobState.FAILED
    assert "run 3 times without finishing; 'ingest retry 1'" in site.job(1).exception
    assert site.ingest(tmp_path / "b.tar").is_done


def test_the_oldest_job_comes_first_but_one_that_was_run_comes_last(queue: Queue, site: Site, tmp_path: Path) -> None:
    for path in write_bundles(tmp_path, 3):
        queue.submit(path)
    queue.cut_off(1, 1)
    ran = [queue.run_next() for _ in range(3)]
    assert [job.job_id for job in ran if job is not None] == [2, 3, 1]


class Administrator(Witness):
    """Fails the job as it enters a stage."""

    def __init__(self, site: Site, stage: str) -> None:
        super().__init__()
        self.site, self.at = site, stage

    def stage(self, task: str) -> None:
        super().stage(task)
        if task == self.at:
            word = Override(PacificaState.FAILED, task, 0.0, "by hand")
            with open_store(self.site.settings) as store:
                settle_by_hand(store, 1, word, self.site.settings.timings, lambda: connect(self.site.settings))


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "move files"])
def test_an_administrators_word_at_any_stage(site: Site, tmp_path: Path, stage: str) -> None:
    """What he fails leaves nothing: the run is told of it before it has the catalog record the job."""
    site.witness = Administrator(site, stage)
    with pytest.raises(StopRequested, match="by hand"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    job = site.job(1)
    assert (job.state, job.task, job.exception) == (JobState.FAILED, stage, "by hand")
    assert site.holds_nothing()
    site.witness = Witness()
    assert site.ingest(tmp_path / "b.tar").is_done
    assert len(site.rows("Transactions")) == 1
    assert site.contents() == FILES
    assert len(site.archived()) == len(FILES)


def test_what_an_administrator_undoes_is_said_to_live_while_services_are_waited_for(
    queue: Queue, site: Site, tmp_path: Path
) -> None:
    job = queue.submit(write_bundle(tmp_path / "b.tar"), this_process())
    with queue.runner() as (runner, _), pytest.raises(Interrupted):
        runner.run(job, Leaver(runner, after=1))

    @contextmanager
    def slow() -> Iterator[Services]:
        until(lambda: site.job(1).heartbeat > 1)
        with connect(site.settings) as services:
            yield services

    word, timings = Override(PacificaState.FAILED, INGEST_FILES, 0.0, "by hand"), replace(Timings(), heartbeat=0.1)
    with open_store(site.settings) as store:
        assert settle_by_hand(store, 1, word, timings, slow).state is JobState.FAILED
    assert site.holds_nothing()


def test_an_administrators_word_of_what_is_recorded_is_only_shown(site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    Administrator(site, INGEST_METADATA).stage(INGEST_METADATA)
    job = site.job(1)
    assert (job.state, job.as_state()["state"], job.as_state()["exception"]) == ("complete", "FAILED", "by hand")
    assert site.ingest(tmp_path / "b.tar").job_id == 1
    assert site.contents() == FILES


class AnotherWorker(Witness):
    """Takes the job over as it enters a stage, since its holder is dead as far as it can see."""

    def __init__(self, site: Site, stage: str) -> None:
        super().__init__()
        self.site, self.at = site, stage

    def stage(self, task: str) -> None:
        super().stage(task)
        if task == self.at:
            with open_store(self.site.settings) as store:
                store.lease(1)


@pytest.mark.parametrize("stage", [INGEST_FILES, INGEST_METADATA])
def test_what_another_worker_resumes_is_not_rolled_back(queue: Queue, site: Site, tmp_path: Path, stage: str) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    lost = queue.submit(bundle, DEAD)
    site.witness = AnotherWorker(site, stage)
    with queue.runner() as (runner, _):
        heir = runner.run_leased(lost, site.witness)
    assert site.witness.warnings == [
        f"the lease of job 1 was lost to {this_process()} while this process was silent: this process stops"
    ]
    assert (heir.state, heir.holder, heir.fence_number) == (JobState.RUNNING, this_process(), 2)
    assert len(site.archived()) == (0 if stage == INGEST_FILES else len(FILES))
    site.witness = Witness()
    with queue.runner() as (runner, _):
        assert runner.run(heir, site.witness).is_done
    assert site.contents() == FILES
    assert len(site.archived()) == len(FILES)
    assert len(site.rows("Transactions")) == 1


def test_what_is_not_stored_again_is_counted_as_done(queue: Queue, site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    job = queue.submit(bundle, this_process())
    with queue.runner() as (runner, _), pytest.raises(Interrupted):
        runner.run(job, Leaver(runner, after=1))
    assert site.job(1).stored == 1
    assert site.ingest(bundle).is_done
    witness = site.witness
    assert witness.bytes_checked == witness.bytes_stored == witness.planned
    assert witness.files_checked == witness.files_stored == len(FILES)


def held_catalog(site: Site) -> "closing[sqlite3.Connection]":
    """Nobody can write to the catalogue until it is closed: every job comes to a halt before its end."""
    connection = sqlite3.connect(site.catalog, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return closing(connection)


def running(site: Site) -> list[Job]:
    return [job for job in site.jobs() if job.state is JobState.RUNNING]


def test_one_worker_runs_many_small_jobs_at_once(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    paths = write_bundles(tmp_path, 2 * THREADS)
    command(paths[0])  # which makes the catalogue
    command("--queue", "--quiet", *paths[1:])
    with held_catalog(site):
        worker = starting("worker", "--until-empty")
        until(lambda: len(running(site)) == THREADS)
        assert len({job.holder for job in running(site)}) == 1
    assert worker.wait(PATIENCE) == 0
    assert all(job.is_done and job.attempts == 1 for job in site.jobs())
    assert len(site.rows("Transactions")) == len(paths)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_small_jobs_that_a_worker_leaves_are_resumed(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., Running], number: int
) -> None:
    """However it ends, it is soon, and leaves no more than it had begun."""
    paths = write_bundles(tmp_path, 2 * THREADS)
    command(paths[0])
    command("--queue", "--quiet", *paths[1:])
    with held_catalog(site):
        worker = starting("worker", "--quiet")
        until(lambda: len(running(site)) == THREADS)
        begun = time.monotonic()
        worker.send_signal(number)
        assert worker.wait(PATIENCE) == (ExitCode.INTERRUPTED if number != signal.SIGKILL else -number)
        assert time.monotonic() - begun < site.settings.timings.ending + 10
    left = {job.job_id for job in site.jobs() if job.attempts and not job.is_done}
    assert len(left) == THREADS
    assert command("worker", "--until-empty", "--quiet").returncode == 0
    assert all(job.is_done for job in site.jobs())
    assert {job.job_id for job in site.jobs() if job.attempts == 2} == left
    assert len(site.archived()) == len(site.rows("Files")) == len(paths)


def test_a_job_is_said_to_live_while_its_disk_does_not_answer_and_holds_up_none_beside_it(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it lies as on a mount that hangs: its size is not known before it is leased."""
    first, second = write_bundles(tmp_path, 2)
    command("--queue", "--quiet", first, second)
    hanging = tmp_path / "hanging"
    hanging.touch()
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "def look(event, given):\n"
        f"    while event == 'open' and str(given[0]) == {str(second)!r} and os.path.exists({str(hanging)!r}):\n"
        "        time.sleep(0.05)\n"
        "sys.addaudithook(look)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    settings = replace(site.settings, timings=replace(site.settings.timings, heartbeat=0.1))
    observe = screens_of_queue(json=False, quiet=True, verbose=0)
    with WorkerPool(settings, 1, observe, record, until_empty=True) as pool:
        try:
            until(lambda: site.job(1).is_done)
            until(lambda: site.job(2).heartbeat > 2)
        finally:
            hanging.unlink()
        pool.wait()
    assert [(job.is_done, job.attempts) for job in site.jobs()] == [(True, 1), (True, 1)]


def test_a_job_that_kills_its_process_is_blamed_alone(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_bundles(tmp_path, 12)
    poison = paths[5].rename(tmp_path / "poison.tar")
    paths[5] = poison
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys, traceback\n"
        "def look(event, given):\n"
        f"    if event == 'open' and str(given[0]) == {str(poison)!r}:\n"
        "        if any(frame.name == 'run_leased' for frame in traceback.extract_stack()):\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(look)\n"
    )
    command("--queue", "--quiet", *paths)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    timings = Timings(runs=3, pause=0.01)
    observe = screens_of_queue(json=False, quiet=True, verbose=0)
    with WorkerPool(replace(site.settings, timings=timings), 1, observe, record, until_empty=True) as pool:
        pool.wait()
    jobs = {Path(job.source): job for job in site.jobs()}
    assert jobs.pop(poison).state is JobState.FAILED
    assert all(job.is_done and job.attempts <= 2 for job in jobs.values())


def test_what_ran_before_or_may_take_much_runs_alone(queue: Queue, site: Site, tmp_path: Path) -> None:
    small, large = write_bundles(tmp_path, 2), write_bundle(tmp_path / "large.tar", {"data/x": bytes(SMALL_BYTES)})
    (tmp_path / "packed.tar.gz").write_bytes(gzip.compress(small[0].read_bytes()))
    for path in (*small, large, tmp_path / "packed.tar.gz"):
        queue.submit(path)
    queue.cut_off(2, 1)
    with queue.runner() as (runner, store), Shared() as shared:
        jobs = SmallJobs(site.settings, shared, runner, Spooled(site.settings), lambda _: Observer())
        assert [jobs.may_take(store.lease(number)) for number in (1, 2, 3, 4)] == [True, False, False, False]


def test_of_two_of_the_same_in_the_queue_the_later_is_the_duplicate(
    command: Command, site: Site, tmp_path: Path
) -> None:
    """Though they are begun at once, none waits to be tried again."""
    paths = [
        write_bundle(tmp_path / f"{number}{name}.tar", {"data/x": bytes([number])})
        for number in range(10)
        for name in "ab"
    ]
    command("--queue", "--quiet", *paths)
    assert command("worker", "--until-empty", "--quiet").returncode == 0
    jobs = {job.job_id: job for job in site.jobs()}
    for number in range(1, 21, 2):
        assert jobs[number].state is JobState.COMPLETE
        assert jobs[number + 1].duplicate_of == number


def test_what_goes_wrong_with_one_stops_none_beside_it(command: Command, site: Site, tmp_path: Path) -> None:
    paths = write_bundles(tmp_path, 12)
    gone = write_bundle(tmp_path / "gone.tar", {"data/x": b"gone"})
    command("--queue", "--quiet", *paths[:4], gone, *paths[4:])
    gone.unlink()
    done = command("worker", "--until-empty")
    assert done.returncode == 0
    told = [int(line.split()[1].rstrip(":")) for line in untimed(done.stdout)]
    assert told == [number for number in range(1, 14) if number != 5], "in the order of the queue"
    assert "job 5 failed" in done.stderr
    assert [job.job_id for job in site.jobs() if not job.is_done] == [5]


def test_a_worker_that_may_open_few_files_runs_fewer_jobs_at_once(command: Command, site: Site, tmp_path: Path) -> None:
    command("--queue", "--quiet", *write_bundles(tmp_path, 20))
    limited = ["sh", "-c", 'ulimit -n 120 && exec "$@"', "sh", *command.line("worker", "--until-empty", "-q")]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(site.rows("Transactions")) == 20


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_queued_and_whenever_workers_end(seed: int, tmp_path: Path, command: Command, site: Site) -> None:
    """Small and large ones, some of one content, broken and missing ones: each content ends up stored once."""
    chance = random.Random(seed)
    paths, contents = [], set()
    for number in range(40):
        path, kind = tmp_path / f"{number}.tar", chance.choice(["small", "small", "same", "large", "broken", "gone"])
        if kind == "broken":
            paths.append(write_bundle(path, {"data/x": bytes([number])}, metadata=b"{}"))
            continue
        content = b"same" if kind == "same" else bytes([number]) * (SMALL_BYTES if kind == "large" else 1)
        if kind != "gone":
            contents.add(content)
        paths.append(write_bundle(path, {"data/x": content}))
        if kind == "gone":
            command("--queue", "--quiet", path)
            path.unlink()
    command("--queue", "--quiet", *filter(Path.exists, paths))
    for _ in range(chance.randint(1, 4)):
        process = command.start("worker", "--quiet", "--until-empty", "--workers", chance.choice([1, 1, 2]))
        time.sleep(chance.random() * 0.5)  # at any moment
        ends = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
        process.send_signal(chance.choice(ends))
        # Before it has begun, a signal does what it does to any process.
        assert process.wait(PATIENCE) in (*ExitCode, *(-end for end in ends))
    assert command("worker", "--until-empty", "--quiet").returncode == 0
    for job in site.jobs():
        if job.is_deferred:  # another worker was at work on the same content
            assert command("retry", job.job_id).returncode == 0
    # One whose run was killed with ids reserved may have left them to another of the same content.
    states = {JobState.COMPLETE, JobState.DUPLICATE, JobState.SUPERSEDED, JobState.FAILED}
    assert {job.state for job in site.jobs()} <= states
    assert sorted(site.archived().values()) == sorted(contents)
    assert {row["id"] for row in site.rows("Files")} == set(site.archived())

"""The store is the queue: workers take jobs in a fair order, finish those of dead ones, and leave when told."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ingest_cli.journal import INGEST_FILES, STAGES, UPLOADING
from ingest_cli.worker import Worker

from ingest_cli.errors import ExitCode, Interrupted, JobStopped, JobTakenOver
from ingest_cli.jobs import MAX_RUNS, Job, JobKind, JobState, JobStore
from ingest_cli.services import connect, http
from ingest_cli.settings import load_settings

from .bundles import FILES, write_bundle
from .conftest import Command
from .pacifica_double import PacificaSite
from .site import Site, Witness
from .test_http_services import dropped

PATIENCE = 60.0


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def bundles(folder: Path, count: int) -> list[Path]:
    return [write_bundle(folder / f"{number}.tar", {f"data/{number}": bytes([number])}) for number in range(count)]


@pytest.fixture
def starting(command: Command) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command; whatever still runs at the end of the test is killed."""
    started = []

    def start(*words: object) -> subprocess.Popen[bytes]:
        started.append(command.start(*words))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_queued_bundles_wait_for_a_worker(command: Command, site: Site, tmp_path: Path) -> None:
    paths = bundles(tmp_path, 3)
    done = command("--queue", *paths)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"job {number}: {path} waits" for number, path in enumerate(paths, 1)]
    assert {(job.state, job.task, job.attempts) for job in site.jobs()} == {("OK", UPLOADING, 0)}
    done = command("worker", "--until-empty")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"job {number}: {path} is complete, 1 file" for number, path in enumerate(paths, 1)
    ]
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
    good = bundles(tmp_path, 2)
    (tmp_path / "bad.tar").write_text("no tar")
    assert command("--queue", good[0], tmp_path / "bad.tar", good[1]).returncode == 0
    done = command("worker", "--until-empty", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    states = [event for event in events if event["event"] == "settled"]
    assert [(state["job_id"], state["complete"]) for state in states] == [(1, True), (2, False), (3, True)]
    assert command("worker", "--until-empty").stdout == "", "what failed for good is not run again"


def test_several_processes_share_the_queue(command: Command, site: Site, tmp_path: Path) -> None:
    paths = bundles(tmp_path, 40)
    assert command("--queue", "--quiet", *paths).returncode == 0
    done = command("worker", "--workers", 3, "--until-empty")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(paths)
    assert all(job.complete and job.attempts == 1 for job in site.jobs())
    assert len(site.rows("Transactions")) == len(paths)


LARGE = {f"data/{number:04}": bytes(2000) for number in range(1500)}


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def worker_pid(site: Site) -> int | None:
    worker = site.job(1).worker
    return int(worker.rpartition(":")[2]) if worker else None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="sees child processes by /proc")
def test_a_killed_worker_is_replaced_and_its_job_finished(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., subprocess.Popen[bytes]]
) -> None:
    command("--queue", write_bundle(tmp_path / "b.tar", LARGE))
    crew = starting("worker", "--workers", 2, "--quiet")
    until(lambda: site.job(1).task == INGEST_FILES)
    first = worker_pid(site)
    assert first in children(crew.pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: site.job(1).complete)
    assert site.job(1).attempts == 2
    assert site.contents() == LARGE
    until(lambda: len(set(children(crew.pid)) - {first}) >= 2)
    crew.terminate()
    assert crew.wait(10) == 0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="sees child processes by /proc")
def test_workers_do_not_outlive_their_parent(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., subprocess.Popen[bytes]]
) -> None:
    command("--queue", *bundles(tmp_path, 1))
    crew = starting("worker", "--workers", 2, "--quiet")
    until(lambda: site.job(1).complete)
    left = children(crew.pid)
    assert len(left) >= 2
    crew.kill()
    crew.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_told_to_leave_keeps_its_job_in_the_queue(
    command: Command,
    site: Site,
    tmp_path: Path,
    starting: Callable[..., subprocess.Popen[bytes]],
    workers: int,
) -> None:
    many = {f"data/{number:05}": bytes(1000) for number in range(10_000)}  # that take longer than a signal
    command("--queue", write_bundle(tmp_path / "b.tar", many))
    process = starting("worker", "--workers", workers)
    until(lambda: site.job(1).task == INGEST_FILES)
    process.terminate()
    assert process.wait(10) == ExitCode.INTERRUPTED
    job = site.job(1)
    assert (job.state, job.worker, job.complete) == ("OK", None, False)
    assert command("worker", "--until-empty").returncode == 0
    assert (site.job(1).complete, site.job(1).attempts) == (True, 2)
    assert site.contents() == many


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_worker_leaves_at_once(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., subprocess.Popen[bytes]], number: int
) -> None:
    command("--queue", *bundles(tmp_path, 1))
    process = starting("worker")
    until(lambda: site.job(1).complete)
    process.send_signal(number)
    assert process.wait(5) == 0


def test_a_bundle_that_is_queued_and_given_is_done_once(command: Command, site: Site, tmp_path: Path) -> None:
    (path,) = bundles(tmp_path, 1)
    command("--queue", path)
    assert command(path).stdout == f"job 1: {path} is complete, 1 file\n"
    assert command("--queue", path).stdout == f"job 1: {path} was ingested before\n"
    assert command("worker", "--until-empty").stdout == ""
    assert len(site.rows("Transactions")) == 1


class Queue:
    """A worker in this process."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def submit(self, path: Path) -> Job:
        with connect(self.site.settings) as services, Worker(self.site.settings, services) as worker:
            return worker.submit(JobKind.BUNDLE, path, queued=True)

    def run_next(self) -> Job | None:
        with connect(self.site.settings) as services, Worker(self.site.settings, services) as worker:
            job = worker.claim_next()
            return None if job is None else worker.run_claimed(job, self.site.witness)


@pytest.fixture
def queue(site: Site) -> Queue:
    return Queue(site)


def test_a_service_that_is_down_puts_a_job_off(
    queue: Queue, site: Site, pacific: PacificaSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    site.settings = load_settings()
    queue.submit(write_bundle(tmp_path / "b.tar"))
    pacific.guard = lambda handler: handler.command == "POST" and dropped(handler)
    job = queue.run_next()
    assert job is not None
    assert (job.state, job.task, job.complete) == ("OK", "Policy Validation", False)
    assert "the policy service at" in job.exception
    assert job.not_before > time.time()
    assert queue.run_next() is None, "it rests"
    pacific.guard = None
    rested = job.not_before + 1
    monkeypatch.setattr(time, "time", lambda: rested)
    job = queue.run_next()
    assert job is not None
    assert (job.complete, job.attempts, job.exception) == (True, 2, "")


def test_a_job_is_put_off_longer_each_time_and_fails_in_the_end(site: Site, tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    job = store.submit(1, kind=JobKind.BUNDLE, source="/b.tar", stamp="s", user="u", queued=True)
    rests = []
    with store:
        for _ in range(8):
            job = store.claim(1)
            store.put_off(job, INGEST_FILES, "why")
            rests.append(store.get(1).not_before - time.time())
    assert [round(rest, -1) for rest in rests] == [10, 20, 40, 80, 160, 320, 600, 600]


def test_a_service_that_stays_down_fails_the_job(
    queue: Queue, site: Site, pacific: PacificaSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    site.settings = load_settings()
    queue.submit(write_bundle(tmp_path / "b.tar"))
    pacific.guard = dropped
    set_attempts(site, MAX_RUNS - 1)
    job = queue.run_next()
    assert job is not None
    assert (job.state, job.resumable) == ("FAILED", True)


def set_attempts(site: Site, count: int) -> None:
    with closing(sqlite3.connect(site.settings.database)) as connection, connection:
        connection.execute("UPDATE jobs SET attempts = ? WHERE job_id = 1", [count])


def test_a_job_whose_runs_are_cut_off_again_and_again_fails(queue: Queue, site: Site, tmp_path: Path) -> None:
    queue.submit(write_bundle(tmp_path / "b.tar"))
    set_attempts(site, MAX_RUNS)
    assert queue.run_next() is None
    assert (site.job(1).state, site.job(1).resumable) == ("FAILED", True)
    assert f"{MAX_RUNS} runs were cut off; 'ingest retry 1'" in site.job(1).exception
    assert site.ingest(tmp_path / "b.tar").complete


def test_the_oldest_job_comes_first_but_one_that_was_run_comes_last(queue: Queue, site: Site, tmp_path: Path) -> None:
    for path in bundles(tmp_path, 3):
        queue.submit(path)
    set_attempts(site, 1)
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
            with JobStore(self.site.settings.database) as store:
                store.set_state(1, JobState.FAILED, task, 0.0, "by hand")


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "move files"])
def test_an_administrators_word_at_any_stage(site: Site, tmp_path: Path, stage: str) -> None:
    """What he fails leaves nothing, or is known to be recorded: no second run stores it twice."""
    site.witness = Administrator(site, stage)
    with pytest.raises(JobStopped):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    job = site.job(1)
    assert (job.state, job.exception) == ("FAILED", "by hand")
    assert job.recorded == (stage == "ingest metadata")
    if not job.recorded:
        assert site.archived() == {}
    site.witness = Witness()
    again = site.ingest(tmp_path / "b.tar")
    assert len(site.rows("Transactions")) == 1
    assert site.contents() == FILES
    assert len(site.archived()) == len(FILES)
    assert again.complete or again.recorded


class AnotherWorker(Witness):
    """Takes the job over as it enters a stage: this process was silent for too long, as one that was suspended is."""

    def __init__(self, site: Site, stage: str) -> None:
        super().__init__()
        self.site, self.at = site, stage

    def stage(self, task: str) -> None:
        super().stage(task)
        if task == self.at:
            with closing(sqlite3.connect(self.site.settings.database)) as connection, connection:
                connection.execute("UPDATE jobs SET worker = 'elsewhere:1', beat = ?", [time.time()])


@pytest.mark.parametrize("stage", ["ingest files", "ingest metadata"])
def test_what_another_worker_goes_on_with_is_not_taken_back(site: Site, tmp_path: Path, stage: str) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    site.witness = AnotherWorker(site, stage)
    with pytest.raises(JobTakenOver, match="was taken over by elsewhere:1"):
        site.ingest(bundle)
    assert len(site.archived()) == (0 if stage == "ingest files" else len(FILES))
    with closing(sqlite3.connect(site.settings.database)) as connection, connection:
        connection.execute("UPDATE jobs SET beat = 0")
    site.witness = Witness()
    assert site.ingest(bundle).job_id == 1
    assert site.contents() == FILES
    assert len(site.archived()) == len(FILES)


class Leaver(Witness):
    """Has the worker leave as soon as the first file is stored."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def file_done(self) -> None:
        super().file_done()
        if self.files_done > len(FILES):
            self._worker.interrupt()


def test_what_is_not_stored_again_is_counted_as_done(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with connect(site.settings) as services, Worker(site.settings, services) as worker, pytest.raises(Interrupted):
        worker.run(worker.submit(JobKind.BUNDLE, bundle), Leaver(worker))
    assert site.job(1).stored == 1
    assert site.ingest(bundle).complete
    assert (site.witness.read, site.witness.files_done) == (site.witness.planned, 2 * len(FILES))

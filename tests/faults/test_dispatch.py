"""Procrastinate's queue beside a job store on PostgreSQL: the task of a job follows it, and whoever dies, it is run."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ingest_cli.errors import JobBusy, JobNotFound, LeaseLost, WrongState
from ingest_cli.jobs.dispatch import Dispatch, dispatching
from ingest_cli.jobs.interruption import Interruption
from ingest_cli.jobs.job import UNFINISHED, Job, JobKind, JobState, JobStatus
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.settings import PostgresUrl, Settings, load_settings

from ..support.bundles import file_record, transaction, write_bundle, write_bundles
from ..support.command import Command
from ..support.hosts import host, new_boot, skip_unless_possible
from ..support.pacifica_double import PacificaSite
from ..support.postgres import PostgresServer, bouncing
from ..support.waiting import until

pytestmark = pytest.mark.cluster

# Who is not told of a job looks for one after five seconds.
TOLD_SECONDS = 4.5
QUICK: dict[str, Any] = {"heartbeat": 0.3, "stale": 4.0, "poll": 0.05, "pause": 0.1, "first_backoff": 0.5}
HOLD = """
import json, sys, time
from dataclasses import replace
from ingest_cli.errors import LeaseLost
from ingest_cli.jobs.dispatch import dispatching
from ingest_cli.jobs.interruption import Interruption
from ingest_cli.jobs.lease import Lease
from ingest_cli.jobs.store import open_store
from ingest_cli.settings import load_settings
settings = load_settings()
settings = replace(settings, timings=replace(settings.timings, **json.loads(sys.argv[1])))
with open_store(settings) as store, dispatching(settings, store) as dispatch:
    job = dispatch.lease_next()
    with Lease(store, job, settings.timings, Interruption()).kept_alive():
        print(job.job_id, flush=True)
        sys.stdin.readline()
    try:
        store.record(job.fence)
    except LeaseLost:
        print("lost", flush=True)
    else:
        print("recorded", flush=True)
"""
DIE = """
import os, signal
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.store import open_store
from ingest_cli.settings import load_settings
with open_store(load_settings()) as store, store.together():
    store.submit(2, kind=JobKind.BUNDLE, source="/b", fingerprint="f", user="u", holder=None)
    store.end(1, "discarded", holder=None)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def settings(environment: Path, postgres: PostgresUrl, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("INGEST_DATABASE_URL", postgres.text)
    monkeypatch.setenv("INGEST_HOST", "here")
    return as_set_up()


def as_set_up() -> Settings:
    settings = load_settings()
    return replace(settings, timings=replace(settings.timings, **QUICK))


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    with open_store(settings) as store:
        yield store


@pytest.fixture
def dispatch(settings: Settings, store: JobStore) -> Iterator[Dispatch]:
    with dispatching(settings, store) as dispatch:
        yield dispatch


@pytest.fixture
def tasks(postgres_server: PostgresServer, postgres: PostgresUrl) -> Callable[[], list[tuple[Any, ...]]]:
    """What Procrastinate has: job, status, queue, priority and whether it is scheduled for later."""

    def tasks() -> list[tuple[Any, ...]]:
        database = postgres.text.rpartition("/")[2]
        return postgres_server.execute(
            "SELECT (args ->> 'job_id')::bigint, status::text, queue_name, priority, scheduled_at IS NOT NULL"
            " FROM procrastinate_jobs ORDER BY id",
            database,
        )

    return tasks


Tasks = Callable[[], list[tuple[Any, ...]]]
Execute = Callable[[str], object]


@pytest.fixture
def execute(postgres_server: PostgresServer, postgres: PostgresUrl) -> Execute:
    """Have the database execute a statement."""
    return lambda sql: postgres_server.execute(sql, postgres.text.rpartition("/")[2])


def submit(store: JobStore, job_id: int, source: str = "/bundle.tar") -> Job:
    return store.submit(job_id, kind=JobKind.BUNDLE, source=source, fingerprint="f", user="u", holder=None)


def leased(dispatch: Dispatch) -> int | None:
    job = dispatch.lease_next()
    return None if job is None else job.job_id


@contextmanager
def holding(*place: str) -> Iterator["subprocess.Popen[str]"]:
    """A worker that has taken the next job, and works on it until it is sent a line."""
    line = [*place, sys.executable, "-c", HOLD, json.dumps(QUICK)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Sequence[str]:
    """What runs a command on another host."""
    place = host("elsewhere", processes=False, boot=new_boot(tmp_path / "boot"))
    skip_unless_possible(place)
    return place


class Changes:
    """Random changes of a few jobs, by whoever may make them."""

    def __init__(self, store: JobStore, dispatch: Dispatch, seed: int) -> None:
        self._store, self._dispatch, self._chance = store, dispatch, random.Random(seed)
        self._last = 0
        self._held: list[Job] = []

    def make(self) -> None:
        """Make one that may be made."""
        with suppress(WrongState, JobBusy, LeaseLost, JobNotFound):
            self._chance.choice([self._submit, self._take, self._leave, self._leave, self._administer])()

    def _submit(self) -> None:
        self._last += 1
        me = this_process() if self._chance.random() < 0.3 else None
        kind = self._chance.choice([JobKind.BUNDLE, JobKind.MOVE])
        job = self._store.submit(self._last, kind=kind, source=f"/{self._last}", fingerprint="f", user="u", holder=me)
        self._held += [job] if me is not None else []

    def _take(self) -> None:
        job = self._dispatch.lease_next() if self._chance.random() < 0.7 else self._store.lease(self._any())
        self._held += [job] if job is not None else []

    def _leave(self) -> None:
        if not self._held:
            return
        fence = self._held.pop(self._chance.randrange(len(self._held))).fence
        store, chance = self._store, self._chance
        if chance.random() < 0.3 and store.held(fence).reservation is None:
            store.reserve(fence, range(100 * fence.job_id, 100 * fence.job_id + 3), None)
        match chance.choice(["requeue", "defer", "exhaust", "undo", "record"]):
            case "requeue":
                store.requeue(fence)
            case "defer":
                store.defer(fence, "task", "reason", chance.choice([0.0, 1000.0]), is_attempt=chance.random() < 0.5)
            case "exhaust":
                store.exhaust(fence, "task", "reason")
            case "undo":
                if store.undo(fence, JobState.FAILED, "task", "reason").state is JobState.UNDOING:
                    chance.choice([store.rolled_back, store.requeue])(fence)
            case "record":
                store.record(fence)

    def _administer(self) -> None:
        job_id, store = self._any(), self._store
        match self._chance.choice(["retry", "hasten", "end", "forget"]):
            case "retry":
                store.retry(job_id)
            case "hasten":
                store.hasten(job_id)
            case "end":
                store.end(job_id, JobState.DISCARDED, holder=None)
            case "forget":
                store.forget([job_id])

    def _any(self) -> int:
        return self._chance.randint(1, max(1, self._last))


def wanted(jobs: Sequence[Job]) -> list[tuple[Any, ...]]:
    """The tasks that there are to be."""
    return sorted(
        (job.job_id, "todo", "local:here", 50, job.retry_at > 0)
        for job in jobs
        if job.state in UNFINISHED and job.holder is None
    )


@pytest.mark.parametrize("seed", range(3))
def test_whatever_becomes_of_a_job_its_task_follows(
    store: JobStore, dispatch: Dispatch, tasks: Tasks, seed: int
) -> None:
    changes = Changes(store, dispatch, seed)
    for _ in range(60):
        changes.make()
        found, jobs = tasks(), store.select()
        assert sorted(task for task in found if task[1] == "todo") == wanted(jobs)
        held = {job.job_id for job in jobs if job.holder is not None}
        doing = [task[0] for task in found if task[1] == "doing"]
        assert len(set(doing)) == len(doing)
        assert set(doing) <= held
        assert {task[1] for task in found} <= {"todo", "doing"}


def test_job_and_task_are_there_together_or_not_at_all(store: JobStore, tasks: Tasks) -> None:
    submit(store, 1)
    died = subprocess.run([sys.executable, "-c", DIE], check=False)
    assert died.returncode == -signal.SIGKILL
    until(lambda: [job.job_id for job in store.select()] == [1])
    assert [task[:2] for task in tasks()] == [(1, "todo")]


def test_a_worker_that_dies_as_it_takes_a_task_leaves_it(
    store: JobStore, dispatch: Dispatch, tasks: Tasks, execute: Execute
) -> None:
    """Procrastinate's own workers take a task first, and leave it in their hands."""
    submit(store, 1)
    assert leased(dispatch) == 1
    store.requeue(store.get(1).fence)
    with suppress(ZeroDivisionError), store.together():
        assert leased(dispatch) == 1
        raise ZeroDivisionError
    assert [task[:2] for task in tasks()] == [(1, "todo")]
    execute("UPDATE procrastinate_jobs SET status = 'doing'")
    assert leased(dispatch) == 1


def test_each_job_is_given_to_one_worker(settings: Settings, store: JobStore) -> None:
    for job_id in range(1, 101):
        submit(store, job_id)
    taken: Counter[int] = Counter()

    def work() -> None:
        with open_store(settings) as mine, dispatching(settings, mine) as dispatch:
            while (job := dispatch.lease_next()) is not None:
                taken[job.job_id] += 1
                mine.record(job.fence)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert taken == Counter(range(1, 101))


def test_the_job_of_a_worker_that_is_killed_is_run_again(store: JobStore, dispatch: Dispatch, tasks: Tasks) -> None:
    submit(store, 1)
    with holding() as worker:
        assert [task[:2] for task in tasks()] == [(1, "doing")]
        assert leased(dispatch) is None
        worker.kill()
        worker.wait()
        until(lambda: leased(dispatch) == 1)
    assert [task[:2] for task in tasks()] == [(1, "doing")]
    store.record(store.get(1).fence)
    assert tasks() == []


def test_the_job_of_a_worker_that_freezes_is_run_again_and_it_wakes_up_in_vain(
    store: JobStore, dispatch: Dispatch, tasks: Tasks, elsewhere: Sequence[str]
) -> None:
    submit(store, 1, "s3://spool/1")
    with holding(*elsewhere) as worker:
        until(lambda: store.get(1).heartbeat > 0)
        for _ in range(3):
            time.sleep(QUICK["stale"] / 2)
            assert leased(dispatch) is None  # it lives
        worker.send_signal(signal.SIGSTOP)
        until(lambda: leased(dispatch) == 1)
        worker.send_signal(signal.SIGCONT)
        assert worker.communicate("\n")[0] == "lost\n"
        assert [task[:2] for task in tasks()] == [(1, "doing")]
        store.record(store.get(1).fence)
    assert tasks() == []


def test_a_task_that_is_lost_is_given_anew(store: JobStore, dispatch: Dispatch, tasks: Tasks, execute: Execute) -> None:
    submit(store, 1)
    execute("DELETE FROM procrastinate_jobs")
    assert leased(dispatch) == 1
    store.requeue(store.get(1).fence)
    execute("UPDATE procrastinate_jobs SET status = 'failed'")
    store.mend()  # type: ignore[attr-defined]
    assert [task[:2] for task in tasks()] == [(1, "todo")]


def test_a_task_without_a_job_to_run_ends_quietly(
    store: JobStore, dispatch: Dispatch, tasks: Tasks, execute: Execute
) -> None:
    submit(store, 1)
    execute("ALTER TABLE jobs DISABLE TRIGGER USER")
    store.end(1, JobState.DISCARDED, holder=None)
    execute("ALTER TABLE jobs ENABLE TRIGGER USER")
    submit(store, 2)
    assert leased(dispatch) == 2
    assert [task[:2] for task in tasks()] == [(2, "doing")]


def test_what_is_left_of_the_past_is_pruned(store: JobStore, tasks: Tasks, execute: Execute) -> None:
    submit(store, 1)
    execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, args)"
        " SELECT 'shared', 'ingest.run', status, '{\"job_id\": 2}'"
        " FROM unnest('{succeeded,failed,cancelled,aborted}'::procrastinate_job_status[]) AS status"
    )
    store.mend()  # type: ignore[attr-defined]
    assert [task[:2] for task in tasks()] == [(1, "todo")]


def test_procrastinate_shows_its_queues(
    store: JobStore, postgres: PostgresUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store, 1)
    parts = urlsplit(postgres.text)
    monkeypatch.setenv("PGHOST", str(parts.hostname))
    monkeypatch.setenv("PGPORT", str(parts.port))
    monkeypatch.setenv("PGUSER", str(parts.username))
    monkeypatch.setenv("PGDATABASE", parts.path.strip("/"))
    words = ["--app", "ingest_cli.jobs.procrastinate_app.app", "shell", "list_queues"]
    shown = subprocess.run([sys.executable, "-m", "procrastinate", *words], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("local:here: 1 jobs (todo: 1,")


def test_a_host_gets_what_it_can_read(
    settings: Settings, store: JobStore, dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in (1, 2):
        submit(store, job_id)
    submit(store, 3, "s3://spool/3")
    monkeypatch.setenv("INGEST_HOST", "there")
    there = as_set_up()
    with open_store(there) as theirs, dispatching(there, theirs) as dispatch_there:
        assert leased(dispatch_there) == 3
        assert leased(dispatch_there) is None
        submit(theirs, 4)
        assert [leased(dispatch) for _ in range(3)] == [1, 2, None]
        assert leased(dispatch_there) == 4


def test_a_command_leaves_the_jobs_of_other_hosts_to_their_workers(
    command: Command, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store, 1)
    monkeypatch.setenv("INGEST_HOST", "there")
    retried = command("retry", "1")
    assert retried.returncode == 4
    assert "job 1 waits for a worker of here, on whose disk its files are" in retried.stderr
    assert store.get(1).status is JobStatus.WAITING


def test_the_jobs_of_a_store_that_moves_wait_for_the_host_that_they_lie_on(
    command: Command, postgres: PostgresUrl, tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_HOST", "here")
    monkeypatch.setenv("INGEST_SHARED", str(tmp_path / "shared"))
    for folder in ("own", "shared"):
        entered(command, tmp_path / folder, 1, folder)
    moved = command("migrate-store", "-q", tmp_path / "data" / "pacifica-ingest-cli" / "jobs.sqlite3", postgres.text)
    assert moved.returncode == 0, moved.stderr
    assert [task[:3] for task in tasks()] == [(1, "todo", "local:here"), (2, "todo", "shared")]


def test_the_most_urgent_is_run_first(store: JobStore, dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch) -> None:
    for job_id, priority in enumerate((50, 10, 90, 50), 1):
        monkeypatch.setenv("INGEST_PRIORITY", str(priority))
        with open_store(as_set_up()) as other:
            submit(other, job_id)
    assert [leased(dispatch) for _ in range(5)] == [3, 1, 4, 2, None]


def test_who_waits_is_told_of_a_job(settings: Settings, store: JobStore, dispatch: Dispatch) -> None:
    assert leased(dispatch) is None
    dispatch.wait(Interruption())  # from now on it listens
    for job_id in range(1, 4):
        entering = threading.Timer(0.2, submit_anew, (settings, job_id))
        entering.start()
        begun = time.monotonic()
        while leased(dispatch) is None:
            dispatch.wait(Interruption())
        assert time.monotonic() - begun < TOLD_SECONDS
        entering.join()


def submit_anew(settings: Settings, job_id: int) -> None:
    with open_store(settings) as store:
        submit(store, job_id)


def test_who_waits_is_interrupted(dispatch: Dispatch) -> None:
    interruption = Interruption()
    dispatch.wait(interruption)
    ending = threading.Timer(0.2, interruption.set)
    ending.start()
    begun = time.monotonic()
    dispatch.wait(interruption)
    assert time.monotonic() - begun < TOLD_SECONDS
    ending.join()


def entered(command: Command, folder: Path, count: int, content: str = "") -> list[Path]:
    """So many bundles that wait, which ones of other ``content`` are no duplicates of."""
    folder.mkdir()
    bundles = [
        write_bundle(folder / f"{number}.tar", {f"data/{number}{content}": bytes([number])}) for number in range(count)
    ]
    done = command("--queue", "-q", *bundles)
    assert done.returncode == 0, done.stderr
    return bundles


def is_all_complete(store: JobStore, count: int) -> bool:
    return [job.state for job in store.select()] == [JobState.COMPLETE] * count


@contextmanager
def working(command: Command, log: Path, *words: object) -> Iterator[None]:
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        worker = command.start("worker", *words, output=output)
        stack.callback(worker.wait)
        stack.callback(worker.terminate)
        yield


def test_workers_survive_a_restart_of_the_database(
    command: Command, settings: Settings, store: JobStore, postgres_server: PostgresServer, tasks: Tasks, tmp_path: Path
) -> None:
    bundles = entered(command, tmp_path / "bundles", 30)
    with working(command, tmp_path / "log", "-n", 2):
        until(lambda: any(job.is_done for job in store.select()))
        postgres_server.restart()
        until(lambda: is_all_complete(store, len(bundles)))
    assert tasks() == []
    assert sorted(job.attempts for job in store.select())[-1] <= 3


def test_workers_that_poll_get_their_jobs_through_pgbouncer(
    command: Command,
    settings: Settings,
    store: JobStore,
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bouncing(postgres_server) as port:
        through = postgres_server.url(postgres.text.rpartition("/")[2], port=port)
        monkeypatch.setenv("INGEST_DATABASE_URL", through.text)
        monkeypatch.setenv("INGEST_DATABASE_LISTEN", "no")
        with working(command, tmp_path / "log", "-n", 2):
            bundles = entered(command, tmp_path / "bundles", 20)
            until(lambda: is_all_complete(store, len(bundles)))


def test_of_a_project_no_more_are_at_work_than_may_be(
    command: Command,
    store: JobStore,
    settings: Settings,
    dispatch: Dispatch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INGEST_JOBS_PER_PROJECT", "1")
    submit(store, 1000)
    job = dispatch.lease_next()
    assert job is not None
    assert store.admit(job.fence, "crowded", 1)
    bundles = [write_bundle_of(project, tmp_path) for project in ("crowded", "other")]
    assert command("--queue", "-q", *bundles).returncode == 0
    assert command("worker", "--until-empty", "-q").returncode == 0
    waiting, done = store.get(1), store.get(2)
    assert done.state is JobState.COMPLETE
    assert (waiting.status, waiting.attempts) == (JobStatus.DEFERRED, 0)
    assert waiting.exception == "1 job of project 'crowded' may run at once"
    store.record(job.fence)
    # It is told at once.
    assert store.get(waiting.job_id).status is JobStatus.WAITING
    assert command("worker", "--until-empty", "-q").returncode == 0
    assert store.get(waiting.job_id).state is JobState.COMPLETE


def test_hosts_take_turns_at_an_archive_service(
    command: Command, store: JobStore, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest_cli.services.postgres_slots import PostgresSlots

    assert isinstance(settings.database, PostgresUrl)
    bundles = write_bundles(tmp_path, 2)
    with PacificaSite() as pacific, closing(PostgresSlots(settings.database, "archive", 1, settings.timings)) as slots:
        monkeypatch.setenv("ARCHIVEINTERFACE_URL", pacific.environment()["ARCHIVEINTERFACE_URL"])
        with slots.acquire():  # as another host does
            sending = command.start(*bundles)
            # It lives, and waits.
            until(lambda: any(job.task == INGEST_FILES and job.heartbeat > 1 for job in store.select()))
            assert pacific.files == {}
        assert sending.wait() == 0
        assert len(pacific.files) == len(bundles)


def write_bundle_of(project: str, folder: Path) -> Path:
    content = project.encode()
    document = [*transaction(project), file_record("data/x", content)]
    return write_bundle(folder / f"{project}.tar", {"data/x": content}, document)

"""What is asked of a job store again and again takes no longer after years than on the first day."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest_cli.jobs.filter import COMPLETE, FAILED, JobFilter, JobOrder
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.store import JobStore
from ingest_cli.maintenance.prune import AT_ONCE, find_prunable
from ingest_cli.settings import Timings, load_settings

from ..support.history import USERS, fill
from ..support.recount import recounted, told
from ..support.site import file_of

FEW, MANY, WAITING = 300, 6000, 20
# The same number of days with jobs in both.
DAYS = 3
STEPS_AT_ONCE = 10
# A user has jobs of more states by then; and twenty times as many jobs would take twenty times as many steps.
MORE, SOME = 3, 200
NOW = datetime.now(UTC)
QUESTIONS: dict[str, Callable[[JobStore], object]] = {
    "a job": lambda store: store.get(7),
    "the newest": lambda store: store.select(limit=20),
    "the next page": lambda store: store.select(limit=20, before=200),
    "those that failed": lambda store: store.select(JobFilter(statuses=FAILED), limit=5),
    "the newest failures": lambda store: store.select(JobFilter(statuses=FAILED), order=JobOrder.UPDATED, limit=5),
    "what changed last": lambda store: store.select(order=JobOrder.UPDATED, limit=20),
    "those of the last minute": lambda store: store.select(JobFilter(since=NOW - timedelta(minutes=1)), limit=20),
    "how many of the last minute": lambda store: store.tally(JobFilter(since=NOW - timedelta(minutes=1))),
    "a user's": lambda store: store.select(JobFilter(user=USERS[0]), limit=5),
    "a user's complete ones": lambda store: store.select(JobFilter(user=USERS[0], statuses=COMPLETE), limit=5),
    "a stranger's": lambda store: store.select(JobFilter(user="nobody"), limit=20),
    "how many": lambda store: store.count(),
    "how many of each status": lambda store: store.tally(),
    "how many of a user": lambda store: store.tally(JobFilter(user=USERS[0])),
    "how many wait": lambda store: store.count_unfinished(),
    "the metrics": lambda store: (store.tallies(), store.stage_seconds(), store.outbox.tallies()),
    "each day": lambda store: store.by_day(),
    "each user": lambda store: store.by_user(),
    "how many reasons": lambda store: store.count_reasons(),
    "the same file": lambda store: store.find(JobKind.BUNDLE, "/srv/drop/run-7.tar", "7:7000:7"),
    "the files of a folder": lambda store: store.of_sources([f"/srv/drop/run-{number}.tar" for number in range(20)]),
    "what a user asked for": lambda store: store.last_request(USERS[0]),
    "an id": lambda store: store.has_reserved(7),
    "those at work": lambda store: store.in_states([JobState.RUNNING, JobState.UNDOING]),
    "what is due": lambda store: store.lease_next(),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SqliteJobStore]]:
    paths = [tmp_path_factory.mktemp(str(jobs)) / "jobs.sqlite3" for jobs in (FEW, MANY)]
    for path, jobs in zip(paths, (FEW, MANY), strict=True):
        fill(path, jobs, waiting=WAITING, days=DAYS)
    with SqliteJobStore(paths[0], Timings()) as few, SqliteJobStore(paths[1], Timings()) as many:
        yield [few, many]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_takes_no_longer(stores: list[SqliteJobStore], question: str) -> None:
    few, many = (steps(store, QUESTIONS[question]) for store in stores)
    assert many <= MORE * few + SOME


@pytest.mark.parametrize("of_all", ["queued", "deferred", "due again"])
def test_the_next_job_is_found_however_many_wait(tmp_path: Path, of_all: str) -> None:
    retry_at = {"queued": 0.0, "deferred": time.time() + 300, "due again": time.time() - 300}[of_all]
    counted = []
    for waiting in (10, 2000):
        fill(tmp_path / f"{waiting}.sqlite3", 0, waiting=waiting)
        with SqliteJobStore(tmp_path / f"{waiting}.sqlite3", Timings()) as store:
            with closing(sqlite3.connect(store.path)) as connection, connection:
                connection.execute("UPDATE jobs SET attempts = job_id % 3, retry_at = ?", [retry_at])
            counted.append(steps(store, lambda store: store.lease_next()))
            assert (store.lease_next() is None) == (of_all == "deferred")
    assert counted[1] <= MORE * counted[0] + SOME


def test_the_newest_job_of_a_file_is_found_however_many_had_its_name(tmp_path: Path) -> None:
    counted = []
    for jobs in (10, 2000):
        fill(tmp_path / f"{jobs}.sqlite3", jobs)
        with SqliteJobStore(tmp_path / f"{jobs}.sqlite3", Timings()) as store:
            with closing(sqlite3.connect(store.path)) as connection, connection:
                connection.execute("UPDATE jobs SET source = '/data/run.tar'")
            names = [f"/data/{name}.tar" for name in ("run", "other")]
            counted.append(steps(store, lambda store, names=names: store.of_sources(names)))  # type: ignore[misc]
            assert store.of_sources(names) == {"/data/run.tar": store.get(jobs)}
    assert counted[1] <= MORE * counted[0] + SOME


@pytest.mark.parametrize("of_all", ["fresh", "not due", "due again"])
def test_the_next_event_is_found_however_many_wait(tmp_path: Path, of_all: str) -> None:
    retry_at = {"fresh": 0.0, "not due": time.time() + 300, "due again": time.time() - 300}[of_all]
    counted = []
    for waiting in (10, 2000):
        with SqliteJobStore(tmp_path / f"{waiting}.sqlite3", Timings()) as store:
            with closing(sqlite3.connect(store.path)) as connection, connection:
                connection.executemany(
                    "INSERT INTO outbox (job_id, run, kind, receiver, data, created, updated, since, retry_at)"
                    " VALUES (?, 1, 'ingest', 'command', '{}', '', '', 0, ?)",
                    [(job_id, retry_at) for job_id in range(waiting)],
                )

            def ask(store: JobStore) -> None:
                store.outbox.newest(5)
                store.outbox.newest(5, job_id=3)
                store.outbox.has_outage("command")
                if (notice := store.outbox.lease_next(["command"])) is not None:
                    store.outbox.sent(notice)

            counted.append(steps(store, ask))
            assert (store.outbox.lease_next(["command"]) is None) == (of_all == "not due")
    assert counted[1] <= MORE * counted[0] + SOME


def steps(store: SqliteJobStore, question: Callable[[JobStore], object]) -> int:
    """How many steps SQLite takes to answer."""
    count = 0

    def step() -> int:
        nonlocal count
        count += STEPS_AT_ONCE
        return 0

    question(store)
    connection = store._database.conn
    connection.set_progress_handler(step, STEPS_AT_ONCE)
    question(store)
    connection.set_progress_handler(None, 0)
    return count


def test_what_is_old_is_pruned_in_pieces(tmp_path: Path) -> None:
    settings = load_settings(environment={"XDG_DATA_HOME": str(tmp_path)})
    fill(file_of(settings), 3 * AT_ONCE)
    with SqliteJobStore(file_of(settings), Timings()) as store:
        pieces = find_prunable(settings, store, timedelta(0))
        before, named = store.count(), {job.successor for job in store.select()}
        for _ in range(2):
            piece = next(pieces)
            assert len(piece.jobs) <= AT_ONCE
            piece.remove(store)
        # Whoever stops here finds the others again.
        gone = before - store.count()
        assert gone > AT_ONCE
        left = {job.job_id for again in find_prunable(settings, store, timedelta(0)) for job in again.jobs}
        assert left
        assert not left & {job.job_id for job in piece.jobs}
        for piece in pieces:
            piece.remove(store)
        assert all(job.state is JobState.HELD or job.job_id in named for job in store.select())
        assert told(store) == recounted(store.select())

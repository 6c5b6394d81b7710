"""Who could not say that he lives, since the database could not be written, is not taken for dead."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from ingest_cli.errors import JobBusy, ResourceUnavailable
from ingest_cli.jobs import database
from ingest_cli.jobs.database import LATE_SECONDS
from ingest_cli.jobs.group_commit import Shared
from ingest_cli.jobs.job import Fence, Job, JobKind, JobState
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.settings import Timings

from ..support.holders import ELSEWHERE, HERE

USUAL = Timings()
# It is waited for indeed.
QUICK = Timings(stale=0.1)
# Whoever seems dead has seven seconds to say that he lives.
PATIENT = Timings(heartbeat=5.0)


class Clock:
    """The monotonic clock of this process, put forward at will."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now, self.ahead = time.monotonic, 0.0
        monkeypatch.setattr(time, "monotonic", lambda: now() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store whose only job has a holder that cannot be seen from here."""
    path = tmp_path / "jobs.sqlite3"
    with SqliteJobStore(path, USUAL) as store:
        store.submit(1, kind=JobKind.BUNDLE, source="/1", fingerprint="1:2:3", user="u", holder=ELSEWHERE)
    return path


Opened = Callable[[Timings], SqliteJobStore]


@pytest.fixture(params=["alone", "together"])
def opened(request: pytest.FixtureRequest, path: Path) -> Iterator[Opened]:
    """Opens the store of one thread, or of several that write together."""
    with ExitStack() as stack:
        shared = stack.enter_context(Shared()) if request.param == "together" else None

        def store(timings: Timings) -> SqliteJobStore:
            return stack.enter_context(SqliteJobStore(path, timings, shared=shared))

        yield store


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody has the lock of whoever writes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def traced(store: SqliteJobStore, heard: Callable[[str], None]) -> None:
    """Have each statement heard by which the store is written, as it is begun."""
    written = store._database
    connection = written.group.connection if written.group is not None else written.conn
    connection.set_trace_callback(heard)


def silent(store: SqliteJobStore, clock: Clock) -> None:
    """Nothing is heard of the holder of the job for long."""
    assert not store.is_dead(store.get(1)), "it was seen but once"
    clock.ahead += 2 * USUAL.stale
    assert store.is_dead(store.get(1))


@pytest.mark.parametrize("end", ["begin", "commit", "refusal"])
def test_whoever_waited_to_write_had_others_wait_who_could_not_say_that_they_live(
    opened: Opened, path: Path, clock: Clock, end: str
) -> None:
    store = opened(Timings(busy=0.05))
    silent(store, clock)

    def stall(statement: str) -> None:
        if statement.startswith(end.upper()):
            clock.ahead += 2 * LATE_SECONDS

    traced(store, stall)
    if end == "refusal":
        with locked(path), pytest.raises(ResourceUnavailable, match="locked"):
            store.note_archive("an archive")
    else:
        store.note_archive("an archive")
    assert not store.is_dead(store.get(1))
    clock.ahead += 2 * USUAL.stale
    assert store.is_dead(store.get(1)), "and so it is once it could say so for long"


def test_whoever_is_first_as_the_lock_is_let_go_of_takes_nobody_for_dead(
    opened: Opened, path: Path, clock: Clock
) -> None:
    store = opened(Timings(heartbeat=0.01))
    silent(store, clock)
    with ThreadPoolExecutor(1) as thread:
        with locked(path):
            begun = list[str]()
            traced(store, begun.append)
            taken = thread.submit(store.lease_next)
            while not any(statement.startswith("BEGIN") for statement in begun):
                time.sleep(0.001)
            clock.ahead += 2 * LATE_SECONDS
        assert taken.result() is None
    with SqliteJobStore(path, USUAL) as holder:
        holder.heartbeat(holder.get(1).fence, 1.0)


@pytest.mark.parametrize(
    "take",
    [lambda store: store.lease(1), lambda store: store.end(1, JobState.FAILED, holder=HERE)],
    ids=["lease", "end"],
)
@pytest.mark.parametrize("stalled", [1, 2])
def test_who_wants_a_job_asks_again_where_it_had_to_wait_to_write(
    opened: Opened, clock: Clock, take: Callable[[SqliteJobStore], Job], stalled: int
) -> None:
    """Once as it gives others time to say that they live, and once as it takes the job."""
    store, begins = opened(QUICK), 0

    def stall(statement: str) -> None:
        nonlocal begins
        if statement.startswith("BEGIN"):
            begins += 1
            clock.ahead += 2 * LATE_SECONDS if begins == stalled else 0.0

    traced(store, stall)
    assert take(store).fence_number == 2
    assert begins >= 4


@pytest.mark.parametrize("take", [lambda store: store.lease_next(), lambda store: store.lease(1)], ids=["next", "one"])
def test_before_a_job_is_taken_whoever_waits_to_say_that_he_lives_may_say_it(
    opened: Opened, path: Path, clock: Clock, take: Callable[[SqliteJobStore], Job | None]
) -> None:
    store = opened(PATIENT)
    silent(store, clock)

    def beat() -> None:
        with SqliteJobStore(path, USUAL) as holder:
            holder.heartbeat(Fence(1, 1), 1.0)

    with ThreadPoolExecutor(1) as thread:
        beats = list[Future[None]]()
        # This store has the lock that is let go of before the holder has looked for it.

        def heard(statement: str) -> None:
            if statement == "COMMIT" and not beats:
                beats.append(thread.submit(beat))

        traced(store, heard)
        with suppress(JobBusy):
            assert take(store) is None
        assert beats[0].result() is None
    assert store.get(1).holder == ELSEWHERE


def test_whoever_was_given_time_is_not_given_more_for_each_of_his_jobs(
    opened: Opened, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LATE_SECONDS", 3600.0)
    with SqliteJobStore(path, USUAL) as store:
        for job_id in (2, 3):
            store.submit(job_id, kind=JobKind.BUNDLE, source="/2", fingerprint="", user="u", holder=ELSEWHERE)
    store, begins = opened(Timings(heartbeat=0.01)), list[str]()
    assert store.lease_next() is None
    clock.ahead += 2 * USUAL.stale
    traced(store, lambda statement: begins.append(statement) if statement.startswith("BEGIN") else None)
    for job_id in (1, 2, 3):
        leased = store.lease_next()
        assert leased is not None
        assert leased.job_id == job_id
    assert len(begins) == 4

"""A run's hold on its job: its heartbeat goes on until the job is settled, and it is told when it is to stop."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_cli.errors import Interrupted, LeaseLost, StopRequested
from ingest_cli.jobs.interruption import Interruption
from ingest_cli.jobs.job import Job, JobKind, JobState, Override, PacificaState
from ingest_cli.jobs.lease import Lease
from ingest_cli.jobs.process import Process
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.settings import Timings

from ..support.holders import DEAD, HERE
from ..support.waiting import until

FAST = Timings(heartbeat=0.005, stale=0.05, runs=3, first_backoff=10.0, longest_backoff=30.0)
SLOW = Timings(heartbeat=60.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteJobStore]:
    with SqliteJobStore(tmp_path / "jobs.sqlite3", FAST) as store:
        yield store


def running(store: SqliteJobStore, holder: Process = HERE) -> Job:
    return store.submit(
        store.count() + 1, kind=JobKind.BUNDLE, source="/b.tar", fingerprint="1:2:3", user="u", holder=holder
    )


def lease_of(store: SqliteJobStore, job: Job, timings: Timings = FAST) -> Lease:
    return Lease(store, job, timings, Interruption())


@pytest.mark.parametrize("end", ["record", "requeue", "defer", "undo"])
def test_a_heartbeat_that_comes_after_the_end_is_passed_over(store: SqliteJobStore, end: str) -> None:
    lease = lease_of(store, running(store))
    with lease.kept_alive():
        until(lambda: store.get(1).heartbeat > 0)
        if end == "record":
            lease.record()
        elif end == "requeue":
            lease.requeue()
        elif end == "defer":
            lease.defer(INGEST_FILES, "why")
        else:
            lease.undo(JobState.FAILED, INGEST_FILES, "why")
        beats = store.get(1).heartbeat
        time.sleep(0.05)
    assert 0 < beats == store.get(1).heartbeat


def test_the_thread_of_the_heartbeats_ends_with_whoever_has_it(store: SqliteJobStore) -> None:
    with lease_of(store, running(store), SLOW).kept_alive():
        assert "heartbeats" in [thread.name for thread in threading.enumerate()]
    until(lambda: "heartbeats" not in [thread.name for thread in threading.enumerate()])


def test_a_run_is_told_of_a_wish(store: SqliteJobStore) -> None:
    lease = lease_of(store, running(store))
    with lease.kept_alive():
        lease.require()
        store.override(1, Override(PacificaState.FAILED, INGEST_FILES, 0.0, "by hand"))
        with pytest.raises(StopRequested, match="by hand"):
            until(lambda: lease.require())


def test_rolling_back_is_not_stopped_by_the_wish_that_it_carries_out(store: SqliteJobStore) -> None:
    lease = lease_of(store, running(store))
    lease.identify("d", 2, 20)
    lease.reserve(range(1, 3), None)
    with lease.kept_alive():
        store.override(1, Override(PacificaState.FAILED, INGEST_FILES, 0.0, "by hand"))
        with pytest.raises(StopRequested):
            lease.confirm()
        lease.undo(JobState.FAILED, INGEST_FILES, "by hand")
        beats = store.get(1).heartbeat
        until(lambda: store.get(1).heartbeat > beats + 1)
        lease.require()
        lease.confirm()
        assert lease.rolled_back().state is JobState.FAILED


def test_a_run_is_told_that_it_lost_its_job(store: SqliteJobStore) -> None:
    lease = lease_of(store, running(store, DEAD))
    store.lease(1)
    with lease.kept_alive(), pytest.raises(LeaseLost):
        until(lambda: lease.require())


def test_a_run_that_finds_its_clock_far_ahead_asks_before_it_goes_on(store: SqliteJobStore) -> None:
    """As one that was frozen, whose heartbeat has not come to its turn."""
    job = running(store, DEAD)
    frozen, fresh = lease_of(store, job), lease_of(store, job, SLOW)
    store.lease(1)
    time.sleep(4 * FAST.heartbeat)
    fresh.require()
    with pytest.raises(LeaseLost):
        frozen.require()
    with pytest.raises(LeaseLost):
        fresh.confirm()


def test_no_stage_is_entered_by_a_run_that_is_to_be_left(store: SqliteJobStore) -> None:
    interruption = Interruption()
    lease = Lease(store, running(store), SLOW, interruption)
    lease.enter(INGEST_FILES)
    interruption.set()
    with pytest.raises(Interrupted):
        lease.enter("ingest metadata")
    lease.requeue()
    assert store.get(1).task == INGEST_FILES


def test_a_job_rests_twice_as_long_each_time_and_fails_in_the_end(store: SqliteJobStore) -> None:
    job, rests = running(store), []
    for _ in range(FAST.runs - 1):
        lease_of(store, job).defer(INGEST_FILES, "why")
        rests.append(store.get(1).retry_at - time.time())
        job = store.lease(1)
    assert [round(rest, -1) for rest in rests] == [10, 20]
    lease_of(store, job).defer(INGEST_FILES, "why")
    assert (store.get(1).state, store.get(1).exception) == (JobState.FAILED, "why")


def test_a_job_that_must_wait_is_never_given_up_and_rests_longer_each_time(store: SqliteJobStore) -> None:
    job, rests = running(store), []
    for _ in range(3 * FAST.runs):
        lease_of(store, job).defer(INGEST_FILES, "no room", is_attempt=False)
        rests.append(store.get(1).retry_at - time.time())
        job = store.lease(1)
    assert [round(rest, -1) for rest in rests] == [10, 20, 30, 30, 30, 30, 30, 30, 30]
    lease_of(store, job).defer(INGEST_FILES, "a service is down")
    assert round(store.get(1).retry_at - time.time(), -1) == 10, "of an attempt, the first"


def test_a_rest_has_a_longest(store: SqliteJobStore) -> None:
    timings, rests = Timings(), []
    job = running(store)
    for _ in range(8):
        lease_of(store, job, timings).defer(INGEST_FILES, "why")
        rests.append(store.get(1).retry_at - time.time())
        job = store.lease(1)
    assert [round(rest, -1) for rest in rests] == [10, 20, 40, 80, 160, 320, 600, 600]


def test_what_is_being_rolled_back_is_never_given_up_for_its_attempts(store: SqliteJobStore) -> None:
    job = running(store)
    lease = lease_of(store, job)
    lease.identify("d", 2, 20)
    lease.reserve(range(1, 3), None)
    lease.undo(JobState.FAILED, INGEST_FILES, "the first reason")
    lease.requeue()
    for _ in range(FAST.runs + 1):
        lease_of(store, store.lease(1)).defer(INGEST_FILES, "why")
    assert (store.get(1).state, store.get(1).is_deferred) == (JobState.UNDOING, True)

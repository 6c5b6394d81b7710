"""No sequence of what workers, their deaths and administrators do brings the job store where its promises end."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingest_cli.errors import JobBusy, LeaseLost, WrongState
from ingest_cli.jobs.job import Fence, Job, JobKind, JobState, Override
from ingest_cli.jobs.process import Life, Process, this_process
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.jobs.transitions import TRANSITIONS, Event
from ingest_cli.settings import Notifications, PostgresUrl, Timings

from ..support.holders import ELSEWHERE, HERE, Workers
from ..support.postgres import PostgresServer
from ..support.recount import recounted, told
from ..support.store_changes import BY_FENCE, RERUN, WISH, sources_of, targets_of
from ..support.stores import store_at

TOLD = Notifications(command=("tell",), kinds=frozenset(["ingest"]))
TIMINGS = Timings(stale=0.05, runs=4, longest_backoff=60.0)
JOBS, FILES = 5, 3
# What is drawn must not depend on what time and other processes bring: so it is a number, of what there is then.
WHICH = st.integers(0, 1000)
DOCUMENTS = ["other", "other", "another"]  # the first is also what `BY_FENCE` has
WAITING = {JobState.QUEUED, JobState.RUNNING, JobState.UNDOING}
WITH_IDS = {*WAITING, JobState.HELD}
FINAL = {JobState.COMPLETE, JobState.DUPLICATE, JobState.DISCARDED, JobState.SUPERSEDED}
WORKERS: list[Workers] = []


def setup_module() -> None:
    WORKERS.append(Workers())


def teardown_module() -> None:
    WORKERS.pop().close()


class StoreMachine(RuleBasedStateMachine):
    """``runs`` are the fences that runs were ever given: the last of a job may hold it, the others have lost it.

    A job is held by this process, by others of this host that may be frozen and killed, or by one out of sight, which
    is silent but for what is done in its name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = self.new_place()
        self.store = store_at(self.place, TIMINGS, TOLD)
        self.seen: dict[int, Job] = {}
        self.runs: list[Fence] = []
        self.others: set[int] = set()
        self.last_file_id = 0

    def teardown(self) -> None:
        for pid in self.others:
            os.kill(pid, signal.SIGKILL)
        self.store.__exit__(None, None, None)
        self.forget_place()

    def new_place(self) -> str:
        """Where a store can be that is empty."""
        self.folder = Path(tempfile.mkdtemp())
        return str(self.folder / "jobs.sqlite3")

    def forget_place(self) -> None:
        shutil.rmtree(self.folder)

    # How a run begins

    @initialize()
    def two_jobs(self) -> None:
        self.submit()
        self.submit_and_run(HERE, DOCUMENTS[0], stores=True)

    @precondition(lambda self: len(self.seen) < JOBS)
    @rule()
    def submit(self) -> None:
        self.submitted(None)

    @precondition(lambda self: len(self.seen) < JOBS)
    @rule(holder=st.sampled_from([HERE, ELSEWHERE]), document=st.sampled_from(DOCUMENTS), stores=st.booleans())
    def submit_and_run(self, holder: Process, document: str, stores: bool) -> None:
        run = self.submitted(holder).fence
        self.runs.append(run)
        if stores:
            self.store.identify(run, document, FILES, 10 * FILES)
            self.store.reserve(run, self.new_ids(), None)
            self.store.checkpoint(run, 1)
        else:
            self.identify_and_supersede(run, document)

    def new_ids(self) -> range:
        first = self.last_file_id + 1
        self.last_file_id += FILES
        return range(first, first + FILES)

    def submitted(self, holder: Process | None) -> Job:
        job_id = self.store.count() + 1
        return self.store.submit(
            job_id, kind=JobKind.BUNDLE, source=f"/{job_id}", fingerprint="1:2:3", user="u", holder=holder
        )

    @rule(which=WHICH, by_another=st.booleans())
    def claim(self, which: int, by_another: bool) -> None:
        before = self.any_job(which)
        error = self.claimed(before.job_id) if by_another else self.error_of(lambda: self.store.lease(before.job_id))
        after = self.store.get(before.job_id)
        if self.lives(before):
            assert (error, after) == ("JobBusy", before), "a living holder keeps its job, a frozen one too"
        elif before.state not in WAITING:
            assert (error, after) == ("WrongState", before)
        else:
            assert not error
            self.check_claim(before, after)

    @rule(by_another=st.booleans())
    def lease_next(self, by_another: bool) -> None:
        before = {job.job_id: job for job in self.store.select(limit=1000)}
        due = [job for job in before.values() if self.is_due(job) and job.holder != ELSEWHERE]
        if by_another:
            assert not self.claimed(None)
        else:
            self.store.lease_next()
        changed = [job for job in self.store.select(limit=1000) if job != before[job.job_id]]
        begun = [job for job in changed if job.state in WAITING]
        for job in changed:
            was = before[job.job_id]
            assert not self.lives(was)
            assert was.retry_at <= time.time() or was.retry_at > time.time() + TIMINGS.longest_backoff - 1
            if job not in begun:
                assert was.attempts >= TIMINGS.runs
                assert job.state is (JobState.HELD if was.reservation is not None else JobState.FAILED)
        if begun:
            (job,) = begun
            was = before[job.job_id]
            self.check_claim(was, job)
            assert not any(self.comes_before(job, was) for job in due), "the order is fair"
        else:
            assert due == []

    def comes_before(self, job: Job, other: Job) -> bool:
        """The fewest attempts first; then the oldest, but of those that were deferred the one that was due first."""
        if job.attempts != other.attempts or bool(job.retry_at) != bool(other.retry_at):
            return job.attempts < other.attempts
        if other.retry_at > time.time():
            return False  # a clock was wrong
        return job.retry_at < other.retry_at if job.retry_at else job.job_id < other.job_id

    def is_due(self, job: Job) -> bool:
        worn_out = job.attempts >= TIMINGS.runs and job.state is not JobState.UNDOING
        return job.state in WAITING and not self.lives(job) and job.retry_at <= time.time() and not worn_out

    def check_claim(self, before: Job, after: Job) -> None:
        way = TRANSITIONS[Event.LEASE if before.state is JobState.QUEUED else Event.LEASE_AGAIN]
        assert before.state in way.sources
        assert after.state in (way.targets or {before.state})
        assert (after.fence_number, after.attempts) == (before.fence_number + 1, before.attempts + 1)
        assert after.holder == this_process() or (after.holder is not None and after.holder.pid in self.others)
        assert (after.reservation, after.undo_to) == (before.reservation, before.undo_to), "nothing is forgotten"
        self.runs.append(after.fence)

    def claimed(self, job_id: int | None) -> str:
        """Another process claims a job, and lives as long as it has one. The name of the error."""
        pid, claimed, error = WORKERS[0].claim(self.place, TIMINGS, job_id)
        if claimed is not None:
            self.others.add(pid)
        return error

    # What becomes of a holder

    @rule(
        which=WHICH,
        number=st.sampled_from([signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL, signal.SIGKILL]),
    )
    def a_signal(self, which: int, number: signal.Signals) -> None:
        if not self.others:
            return
        pid = sorted(self.others)[which % len(self.others)]
        os.kill(pid, number)
        if number is signal.SIGKILL:
            self.others.remove(pid)
            for job in self.store.select(limit=1000):
                while job.holder is not None and job.holder.pid == pid and job.holder.life() is not Life.GONE:
                    time.sleep(0.001)

    @rule()
    def time_passes(self) -> None:
        time.sleep(0.02)

    def lives(self, job: Job) -> bool:
        return job.holder is not None and (job.holder == HERE or job.holder.pid in self.others)

    # What a run does, be it that it has lost the job

    @rule(which=WHICH, name=st.sampled_from(sorted(BY_FENCE)))
    def change(self, which: int, name: str) -> None:
        self.change_by_name(self.any_run(which), name)

    @rule(which=WHICH)
    def work(self, which: int) -> None:
        """What the holder of a job can do."""
        held = [job for job in self.seen.values() if job.holder is not None]
        if held:
            job = held[which % len(held)]
            able = sorted(name for name, (events, _) in BY_FENCE.items() if job.state in sources_of(events))
            self.change_by_name(job.fence, able[which // len(held) % len(able)])

    def change_by_name(self, run: Fence, name: str) -> None:
        events, change = BY_FENCE[name]
        self.changed(run, events, lambda: change(self.store, run))

    @rule(which=WHICH, seconds=st.sampled_from([0.0, 0.01, 2 * TIMINGS.longest_backoff]), is_attempt=st.booleans())
    def defer(self, which: int, seconds: float, is_attempt: bool) -> None:
        run = self.any_run(which)
        self.changed(
            run,
            {Event.DEFER},
            lambda: self.store.defer(run, INGEST_FILES, "why", seconds, is_attempt=is_attempt),
        )

    @rule(which=WHICH, to=st.sampled_from([JobState.FAILED, JobState.DUPLICATE, JobState.DISCARDED]))
    def undo(self, which: int, to: JobState) -> None:
        run = self.any_run(which)
        complete = next(self.store.recorded(), None)
        if to is JobState.DUPLICATE and complete in (None, run.job_id):
            return
        successor = complete if to is JobState.DUPLICATE else None
        events = {Event.UNDO, Event.ABANDON}
        self.changed(run, events, lambda: self.store.undo(run, to, INGEST_FILES, "why", successor=successor))

    @rule(which=WHICH)
    def reserve(self, which: int) -> None:
        run = self.any_run(which)
        job = self.store.get(run.job_id)
        if run == job.fence and (job.state is not JobState.RUNNING or job.reservation is not None):
            return
        ids = self.new_ids()
        self.changed(run, {Event.PROGRESS}, lambda: self.store.reserve(run, ids, None))

    @rule(which=WHICH, document=st.sampled_from(DOCUMENTS))
    def identify(self, which: int, document: str) -> None:
        self.identify_and_supersede(self.any_run(which), document)

    def identify_and_supersede(self, run: Fence, document: str) -> None:
        found: list[Job | None] = []
        self.changed(run, {Event.PROGRESS}, lambda: found.append(self.store.identify(run, document, FILES, 10 * FILES)))
        (other,) = found or [None]
        job = self.store.get(run.job_id)
        if other is None or job.state is not JobState.RUNNING or job.reservation is not None:
            return
        assert other.digest == document
        if other.state is JobState.COMPLETE or self.lives(other):
            return
        heir = self.store.supersede(run, other)
        assert heir.reservation == other.reservation
        assert heir.fence_number > max(run.number, other.fence_number)
        assert self.store.get(other.job_id).state is JobState.SUPERSEDED
        self.runs.append(heir.fence)

    def changed(self, run: Fence, events: set[Event], change: Callable[[], object]) -> None:
        """The change is made where this run holds the job and its state allows it, else nothing is changed."""
        before = self.store.get(run.job_id)
        error = self.error_of(change)
        after = self.store.get(run.job_id)
        if run != before.fence:
            assert run.number < before.fence_number
            assert (error, after) == ("LeaseLost", before), "who lost the job changes nothing"
        elif before.state not in sources_of(events):
            assert (error, after) == ("WrongState", before)
        else:
            assert not error
            assert after.state in targets_of(events, before.state)

    @staticmethod
    def error_of(change: Callable[[], object]) -> str:
        try:
            change()
        except (LeaseLost, WrongState, JobBusy) as error:
            return type(error).__name__
        return ""

    # What an administrator does

    @rule(which=WHICH, to=st.sampled_from([JobState.FAILED, JobState.DISCARDED]))
    def end(self, which: int, to: JobState) -> None:
        before = self.any_job(which)
        error = self.error_of(lambda: self.store.end(before.job_id, to, holder=this_process()))
        after = self.store.get(before.job_id)
        if self.lives(before):
            assert (error, after) == ("JobBusy", before)
        elif before.state in FINAL:
            assert (error, after) == ("WrongState", before)
        else:
            assert not error
            assert after.fence_number == before.fence_number + 1
            assert after.state is (to if before.reservation is None else JobState.UNDOING)
            assert after.stored == 0
            self.runs.append(after.fence)

    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        before = self.any_job(which)
        error = self.error_of(lambda: self.store.retry(before.job_id))
        after = self.store.get(before.job_id)
        if before.state in TRANSITIONS[Event.RETRY].sources:
            assert (error, after.state, after.reservation) == ("", JobState.QUEUED, before.reservation)
        else:
            given_up = before.state in (JobState.DISCARDED, JobState.SUPERSEDED)
            assert (error, after) == ("WrongState" if given_up else "", before)

    @rule(which=WHICH)
    def hasten(self, which: int) -> None:
        before = self.any_job(which)
        error = self.error_of(lambda: self.store.hasten(before.job_id))
        after = self.store.get(before.job_id)
        assert error == ("" if before.state is JobState.QUEUED else "WrongState")
        assert (after.state, after.fence, after.attempts) == (before.state, before.fence, before.attempts)
        assert after.retry_at == (0 if not error else before.retry_at)

    @rule(which=WHICH, override=st.sampled_from([WISH, RERUN]))
    def override(self, which: int, override: Override) -> None:
        before = self.any_job(which)
        after = self.store.override(before.job_id, override)
        assert (after.state, after.fence, after.holder) == (before.state, before.fence, before.holder)

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        before = self.any_job(which)
        error = self.error_of(lambda: self.store.cancel(before.job_id, WISH))
        after = self.store.get(before.job_id)
        assert error == ("" if before.state is JobState.RUNNING else "WrongState")
        assert (after.state, after.fence, after.holder) == (before.state, before.fence, before.holder)

    def any_job(self, which: int) -> Job:
        return self.seen[which % len(self.seen) + 1]

    def any_run(self, which: int) -> Fence:
        return self.runs[which % len(self.runs)]

    # What always holds

    @invariant()
    def promises_hold(self) -> None:
        jobs = {job.job_id: job for job in self.store.select(limit=1000)}
        for job in jobs.values():
            self.check(job)
            self.check_road(self.seen.get(job.job_id, job), job)
        self.check_reservations(list(jobs.values()))
        self.check_successors(jobs)
        self.check_announced(jobs)
        assert told(self.store) == recounted(jobs.values())
        self.seen = jobs

    def check_announced(self, jobs: dict[int, Job]) -> None:
        """Each job that was recorded is announced once, and no other."""
        announced = [notice.job_id for notice in self.store.outbox.newest(1000)]
        assert sorted(announced) == [job_id for job_id, job in sorted(jobs.items()) if job.state is JobState.COMPLETE]

    def check(self, job: Job) -> None:
        assert job.attempts >= 0
        assert job.waits >= 0
        assert (job.state in WITH_IDS) or job.reservation is None
        assert job.state is not JobState.UNDOING or job.reservation is not None
        assert (job.undo_to is not None) == (job.state is JobState.UNDOING)
        assert job.holder is not None if job.state is JobState.RUNNING else True
        assert job.holder is None or job.state in (JobState.RUNNING, JobState.UNDOING)
        assert (job.successor is not None) == (JobState.DUPLICATE in (job.state, job.undo_to)) or (
            job.state is JobState.SUPERSEDED
        )
        found = self.store.find(JobKind.BUNDLE, job.source, job.fingerprint)
        waits = job.state in WITH_IDS and job.state is not JobState.UNDOING
        assert (found is not None) == (job.is_done or waits)

    def check_road(self, before: Job, after: Job) -> None:
        assert after.fence_number >= before.fence_number, "a fence never falls"
        if before.state in FINAL:
            assert after.state is before.state, "what came to its end is never run again"
        ways = [way for way in TRANSITIONS.values() if before.state in way.sources]
        ways_on = {state for way in ways for state in way.targets or {before.state}}
        assert after.state in {before.state, *ways_on}, "no state is reached but by the table"
        if before.state is JobState.UNDOING:
            assert after.state in {JobState.UNDOING, JobState.HELD, JobState.COMPLETE, before.undo_to}

    def check_reservations(self, jobs: list[Job]) -> None:
        ranges = sorted((job.reservation.ids for job in jobs if job.reservation is not None), key=lambda ids: ids.start)
        assert all(earlier.stop <= later.start for earlier, later in pairwise(ranges)), "no id is of two jobs"
        reserved = {file_id for ids in ranges for file_id in ids}
        for file_id in range(self.last_file_id + 2):
            assert self.store.has_reserved(file_id) == (file_id in reserved)

    def check_successors(self, jobs: dict[int, Job]) -> None:
        for job in jobs.values():
            passed = {job.job_id}
            while job.successor is not None:
                job = jobs[job.successor]
                assert job.job_id not in passed, "who follows the successors comes to an end"
                passed.add(job.job_id)


FEW = settings(max_examples=10, stateful_step_count=50)
FEWER = settings(max_examples=5, stateful_step_count=50)
MANY = settings(max_examples=100, stateful_step_count=50)


class PostgresStoreMachine(StoreMachine):
    """The same in a database of PostgreSQL, one for all examples."""

    server: PostgresServer
    url: PostgresUrl

    def new_place(self) -> str:
        return self.url.text

    def forget_place(self) -> None:
        self.server.empty(self.url)


@pytest.fixture
def in_postgres(postgres_server: PostgresServer, postgres: PostgresUrl) -> None:
    PostgresStoreMachine.server, PostgresStoreMachine.url = postgres_server, postgres


class TestStore(StoreMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = FEW


@pytest.mark.sweep
class TestStoreForLonger(StoreMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = MANY


@pytest.mark.cluster
@pytest.mark.usefixtures("in_postgres")
class TestStoreInPostgres(PostgresStoreMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = FEWER

"""What every store of jobs promises: one suite, inherited for each. A job is brought into a state through the port."""

import dataclasses
import itertools
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ingest_cli.errors import JobBusy, JobNotFound, LeaseLost, StoreError, WrongState
from ingest_cli.jobs.activity import Activity
from ingest_cli.jobs.filter import COMPLETE, FAILED, WAITING, JobFilter, JobOrder
from ingest_cli.jobs.imported import ImportedJob, Taken
from ingest_cli.jobs.job import UNFINISHED, Fence, Job, JobKind, JobState, JobStatus, Reservation
from ingest_cli.jobs.process import Life, Process, this_process
from ingest_cli.jobs.reasons import MOST_JOBS, Reason
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.stages import INGEST_FILES, INGEST_METADATA, LOAD_METADATA, UPLOADING
from ingest_cli.jobs.store import JobStore
from ingest_cli.jobs.transitions import TRANSITIONS, Event
from ingest_cli.settings import PostgresUrl, Timings

from ..support.holders import DEAD, ELSEWHERE, HERE, child
from ..support.postgres import PostgresServer, bouncing
from ..support.recount import recounted, told
from ..support.store_changes import BY_ANYONE, BY_FENCE, REASON, RERUN, WISH, sources_of, targets_of

QUICK = Timings(stale=0.2, runs=3, longest_backoff=60.0)
# For those who live: a machine may stand still for a moment.
PATIENT = replace(QUICK, stale=1.5)
Opened = Callable[[Timings], JobStore]


def refusal_of(job: Job) -> str:
    state = "being rolled back" if job.state is JobState.UNDOING else job.state
    return f"job {job.job_id} cannot be .+: it is {state}"


def test_every_row_of_the_table_is_tested() -> None:
    tested = {event for events, _ in (*BY_FENCE.values(), *BY_ANYONE.values()) for event in events}
    assert tested | {Event.RETRY, Event.SUPERSEDE} == set(Event) == set(TRANSITIONS)


def old_job(job_id: int, *, state: str = "OK") -> ImportedJob:
    return ImportedJob(
        job_id=job_id,
        state=state,
        task="ingest metadata",
        task_percent="100.00000",
        complete=True,
        updated="2026-11-23 23:18:39",
        created="2026-11-23 23:18:38",
        exception="a\nb",
    )


class Jobs:
    """Brings jobs into a state, through the port only. Each has ids of its own, and a document of its own."""

    COUNT = 3

    def __init__(self, store: JobStore) -> None:
        self._store, self._last = store, 0
        self.user, self.origin = "u", ""

    def submitted(
        self,
        *,
        holder: Process | None,
        source: str | None = None,
        kind: JobKind = JobKind.BUNDLE,
        fingerprint: str = "1:2:3",
    ) -> Job:
        self._last += 1
        return self._store.submit(
            self._last,
            kind=kind,
            source=source or f"/data/{self._last}.tar",
            fingerprint=fingerprint,
            user=self.user,
            holder=holder,
            origin=self.origin,
        )

    def queued(self) -> Job:
        return self.submitted(holder=None)

    def deferred(self, seconds: float = 30.0, reason: str = REASON) -> Job:
        job = self.running()
        self._store.defer(job.fence, INGEST_FILES, reason, seconds)
        return self._store.get(job.job_id)

    def running(self, holder: Process = HERE, *, digest: str | None = None) -> Job:
        job = self.submitted(holder=holder)
        if digest is not None:
            self._store.identify(job.fence, digest, self.COUNT, 10 * self.COUNT)
        return self._store.get(job.job_id)

    def reserved(self, holder: Process = HERE, *, digest: str | None = None, sources: list[str] | None = None) -> Job:
        job = self.running(holder, digest=digest or f"digest {self._last + 1}")
        first = 100 * job.job_id
        return self._store.reserve(job.fence, range(first, first + self.COUNT), sources)

    def stored(self, count: int, holder: Process = HERE, *, digest: str | None = None) -> Job:
        job = self.reserved(holder, digest=digest)
        self._store.checkpoint(job.fence, count)
        return self._store.get(job.job_id)

    def resumable(self, *, digest: str | None = None) -> Job:
        """Queued, with one file stored."""
        job = self.stored(1, digest=digest)
        self._store.requeue(job.fence)
        return self._store.get(job.job_id)

    def undoing(self, holder: Process = HERE, to: JobState = JobState.FAILED, successor: int | None = None) -> Job:
        job = self.stored(1, holder)
        return self._store.undo(job.fence, to, INGEST_FILES, REASON, successor=successor)

    def held(self) -> Job:
        return self._store.hold(self.undoing().fence, "file 7 stays")

    def failed(self, holder: Process = HERE) -> Job:
        return self._store.undo(self.running(holder).fence, JobState.FAILED, INGEST_FILES, REASON)

    def discarded(self) -> Job:
        return self._store.end(self.queued().job_id, JobState.DISCARDED, holder=this_process())

    def complete(self, *, digest: str = "complete") -> Job:
        return self._store.record(self.running(digest=digest).fence)

    def duplicate(self, successor: int = 1) -> Job:
        return self._store.undo(self.running().fence, JobState.DUPLICATE, INGEST_FILES, "", successor=successor)

    def superseded(self) -> Job:
        other = self.resumable()
        self._store.supersede(self.running().fence, other)
        return self._store.get(other.job_id)

    def retried(self) -> Job:
        return self._store.retry(self.failed().job_id)

    def in_state(self, state: JobState, holder: Process = HERE) -> Job:
        made: dict[JobState, Callable[[], Job]] = {
            JobState.QUEUED: self.queued,
            JobState.RUNNING: lambda: self.running(holder),
            JobState.UNDOING: lambda: self.undoing(holder),
            JobState.HELD: self.held,
            JobState.FAILED: self.failed,
            JobState.DISCARDED: self.discarded,
            JobState.COMPLETE: self.complete,
            JobState.DUPLICATE: self.duplicate,
            JobState.SUPERSEDED: self.superseded,
        }
        job = made[state]()
        assert job.state is state
        return job


def many_jobs(store: JobStore, jobs: Jobs, random: Random) -> list[Job]:
    """Some of every status, by several people, with names and sizes that some of them share."""
    made: list[Callable[[], Job]] = [partial(jobs.in_state, state) for state in JobState]
    made += [jobs.resumable, jobs.deferred, jobs.retried]
    for _ in range(3):
        for make in made:
            jobs.user = random.choice(["ada", "bob", "u"])
            jobs.origin = random.choice(["", "", "/run 7/", "/data/[1].tar", "a few words", "/Ü/ü.tar"])
            make()
    found = [store.get(job_id) for job_id in range(1, store.count() + 1)]
    assert {job.status for job in found} == set(JobStatus)
    return found


def some_filter(jobs: list[Job], random: Random) -> JobFilter:
    """Each part of it is given by chance."""
    moments = [None, None, datetime.fromisoformat(random.choice(jobs).updated)]
    globs = ["", "", "*", "*.tar", "/data/*", "[12].tar", "/data/1?.tar", "run*", "ü.tar", "[!1]*", "[", "\udcff"]
    return JobFilter(
        statuses=frozenset(random.sample(list(JobStatus), random.choice([0, 0, 1, 2, 5]))),
        since=random.choice(moments),
        until=random.choice(moments),
        source=random.choice(globs),
        user=random.choice(["", "", "ada", "u", "eve", "\udcff"]),
        kind=random.choice([None, None, JobKind.BUNDLE, JobKind.MOVE]),
    )


def is_wanted(job: Job, wanted: JobFilter) -> bool:
    changed = datetime.fromisoformat(job.updated)
    names = [job.name, Path(job.name).name]
    return (
        (not wanted.statuses or job.status in wanted.statuses)
        and (wanted.since is None or changed >= wanted.since)
        and (wanted.until is None or changed < wanted.until)
        and (not wanted.source or any(fnmatchcase(name, wanted.source) for name in names))
        and (not wanted.user or job.user == wanted.user)
        and (wanted.kind is None or job.kind is wanted.kind)
    )


PLACE: dict[JobOrder, Callable[[Job], Any]] = {
    JobOrder.JOB: lambda job: job.job_id,
    JobOrder.UPDATED: lambda job: (job.updated, job.job_id),
    JobOrder.SIZE: lambda job: (job.bytes, job.job_id),
    JobOrder.FILES: lambda job: (job.files, job.job_id),
    JobOrder.NAME: lambda job: (job.name, job.job_id),
}


class JobStoreContract:
    """To be inherited, with a fixture ``opened`` that opens the one store, empty at first, any number of times."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Opened]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, opened: Opened) -> JobStore:
        return opened(QUICK)

    @pytest.fixture
    def another(self, opened: Opened) -> JobStore:
        """The store as another process sees it."""
        return opened(QUICK)

    @pytest.fixture
    def jobs(self, store: JobStore) -> Jobs:
        return Jobs(store)

    # The table of transitions

    @pytest.mark.parametrize("state", JobState)
    @pytest.mark.parametrize("name", BY_FENCE)
    def test_a_holders_change_starts_from_its_states_only(
        self, store: JobStore, jobs: Jobs, name: str, state: JobState
    ) -> None:
        events, change = BY_FENCE[name]
        job = jobs.in_state(state)
        if state in sources_of(events):
            change(store, job.fence)
            assert store.get(job.job_id).state in targets_of(events, state)
        else:
            with pytest.raises(WrongState, match=refusal_of(job)):
                change(store, job.fence)
            assert store.get(job.job_id) == job

    @pytest.mark.parametrize("state", [JobState.RUNNING, JobState.UNDOING])
    @pytest.mark.parametrize("name", BY_FENCE)
    def test_an_older_fence_changes_nothing(self, store: JobStore, jobs: Jobs, name: str, state: JobState) -> None:
        lost = jobs.in_state(state, DEAD)
        job = store.lease(lost.job_id)
        with pytest.raises(LeaseLost, match=f"the lease of job {job.job_id} was lost to {this_process()}"):
            BY_FENCE[name][1](store, lost.fence)
        assert store.get(job.job_id) == job

    @pytest.mark.parametrize("name", BY_FENCE)
    def test_an_unknown_job_is_told(self, store: JobStore, name: str) -> None:
        with pytest.raises(JobNotFound, match="no job 99"):
            BY_FENCE[name][1](store, Fence(99, 1))

    @pytest.mark.parametrize("state", JobState)
    @pytest.mark.parametrize("name", BY_ANYONE)
    def test_anyones_change_starts_from_its_states_only(
        self, store: JobStore, jobs: Jobs, name: str, state: JobState
    ) -> None:
        events, change = BY_ANYONE[name]
        job = jobs.in_state(state, DEAD)
        if state in sources_of(events):
            change(store, job.job_id)
            after = store.get(job.job_id)
            assert after.state in targets_of(events, state)
            assert after.fence_number == job.fence_number + (not events <= {Event.OVERRIDE, Event.CANCEL, Event.HASTEN})
        else:
            with pytest.raises(WrongState, match=refusal_of(job)):
                change(store, job.job_id)
            assert store.get(job.job_id) == job

    @pytest.mark.parametrize("name", [*BY_ANYONE, "retry"])
    def test_anyone_is_told_of_an_unknown_job(self, store: JobStore, name: str) -> None:
        change = BY_ANYONE[name][1] if name in BY_ANYONE else lambda store, job_id: store.retry(job_id)
        with pytest.raises(JobNotFound, match="no job 99"):
            change(store, 99)

    @pytest.mark.parametrize("name", ["lease", "end"])
    @pytest.mark.parametrize("state", [JobState.RUNNING, JobState.UNDOING])
    def test_a_living_holder_keeps_its_job(
        self, store: JobStore, another: JobStore, jobs: Jobs, name: str, state: JobState
    ) -> None:
        job = jobs.in_state(state)
        for by in (store, another):
            with pytest.raises(JobBusy, match=f"job {job.job_id} is being worked on by {this_process()}"):
                BY_ANYONE[name][1](by, job.job_id)
        assert store.get(job.job_id) == job

    # Submitting

    def test_a_submitted_job_waits(self, store: JobStore, another: JobStore) -> None:
        before = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        job = store.submit(
            7,
            kind=JobKind.MOVE,
            source="/m.json",
            fingerprint="1:2:3",
            user="u",
            holder=None,
            spooled=True,
            origin="an ü",
        )
        with store.another() as third:
            assert job == another.get(7) == third.get(7)
        assert (job.job_id, job.kind, job.source, job.fingerprint, job.user) == (
            7, JobKind.MOVE, "/m.json", "1:2:3", "u",
        )  # fmt: skip
        assert (job.state, job.task, job.task_percent, job.exception) == (JobState.QUEUED, UPLOADING, 0, "")
        assert (job.attempts, job.fence_number, job.holder, job.reservation, job.override) == (0, 0, None, None, None)
        assert (job.spooled, job.origin, job.name) == (True, "an ü", "an ü")
        assert (job.digest, job.files, job.bytes, job.successor) == (None, 0, 0, None)
        assert before <= job.created == job.updated

    def test_a_job_without_an_origin_is_known_by_its_source(self, jobs: Jobs) -> None:
        job = jobs.submitted(holder=None, source="/b.tar")
        assert (job.spooled, job.origin, job.name) == (False, "", "/b.tar")

    def test_a_job_can_be_held_from_the_start(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.submitted(holder=HERE)
        assert (job.state, job.attempts, job.fence_number, job.holder) == (JobState.RUNNING, 1, 1, HERE)
        assert store.held(job.fence) == job
        assert store.lease_next() is None

    def test_an_id_is_a_jobs_once(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.queued()
        with pytest.raises(StoreError, match=f"already holds a job {job.job_id}"):
            Jobs(store).queued()
        assert store.select(limit=9) == [job]

    # Claiming

    def test_a_claim_begins_a_run(self, store: JobStore, another: JobStore, jobs: Jobs) -> None:
        before = jobs.queued()
        job = another.lease(before.job_id)
        assert (job.state, job.holder, job.attempts) == (JobState.RUNNING, this_process(), 1)
        assert job.fence == Fence(job.job_id, before.fence_number + 1)
        assert store.get(job.job_id) == job

    def test_a_claim_resumes_what_is_stored(self, store: JobStore, jobs: Jobs) -> None:
        before = jobs.resumable()
        job = store.lease(before.job_id)
        assert (job.state, job.fence_number, job.attempts) == (JobState.RUNNING, 2, 2)
        assert job.reservation == before.reservation
        assert job.stored == 1

    def test_a_claim_forgets_why_the_run_before_failed(self, store: JobStore, jobs: Jobs) -> None:
        job = store.lease(jobs.deferred().job_id)
        assert (job.exception, job.retry_at, job.is_deferred) == ("", 0, False)

    @pytest.mark.parametrize("state", [JobState.RUNNING, JobState.UNDOING])
    def test_an_heir_resumes_what_a_dead_holder_was_at(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        before = jobs.in_state(state, DEAD)
        assert store.is_dead(before)
        job = store.lease(before.job_id)
        assert (job.state, job.fence_number, job.attempts) == (state, 2, 2)
        assert (job.holder, job.heartbeat) == (this_process(), 0)
        assert (job.reservation, job.undo_to) == (before.reservation, before.undo_to)
        assert job.exception == (REASON if state is JobState.UNDOING else "")

    def test_an_heir_finds_the_wish_to_fail_that_the_holder_did_not_live_to_carry_out(
        self, store: JobStore, jobs: Jobs
    ) -> None:
        job = jobs.running(DEAD)
        store.override(job.job_id, WISH)
        assert store.lease(job.job_id).override == WISH
        job = jobs.running(DEAD)
        store.override(job.job_id, RERUN)
        assert store.lease(job.job_id).override is None, "it is run again already"

    def test_a_holder_out_of_sight_is_dead_when_it_was_silent_for_long(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.running(ELSEWHERE)
        assert not store.is_dead(job), "it was seen but once"
        begun = time.monotonic()
        heir = store.lease(job.job_id)
        assert time.monotonic() - begun >= QUICK.stale
        assert (heir.holder, heir.fence_number) == (this_process(), 2)
        with pytest.raises(LeaseLost):
            store.heartbeat(job.fence, 1.0)

    def test_a_holder_out_of_sight_lives_while_its_heartbeat_changes(
        self, opened: Opened, another: JobStore, jobs: Jobs
    ) -> None:
        job, viewer = jobs.running(ELSEWHERE), opened(PATIENT)
        seen = viewer.get(job.job_id)
        for _ in range(4):
            time.sleep(PATIENT.stale / 2)
            another.heartbeat(job.fence, 1.0)
            assert not viewer.is_dead(viewer.get(job.job_id))
            assert viewer.lease_next() is None
        assert viewer.get(job.job_id).heartbeat == seen.heartbeat + 4

    def test_the_silence_of_a_holder_is_measured_by_who_asks(self, opened: Opened, jobs: Jobs) -> None:
        job = jobs.running(ELSEWHERE)
        time.sleep(PATIENT.stale)
        newcomer = opened(PATIENT)
        assert not newcomer.is_dead(job)
        assert newcomer.lease_next() is None
        time.sleep(PATIENT.stale)
        assert newcomer.is_dead(job)
        claimed = newcomer.lease_next()
        assert claimed is not None
        assert claimed.fence_number == 2

    def test_a_holder_before_the_last_boot_is_dead(self, store: JobStore, jobs: Jobs) -> None:
        before = Process(host=HERE.host, pid=HERE.pid, started=HERE.started, boot="earlier", namespace=HERE.namespace)
        job = jobs.running(before)
        assert store.lease(job.job_id).fence_number == 2

    def test_a_stopped_process_keeps_its_job_and_a_killed_one_does_not(self, store: JobStore, jobs: Jobs) -> None:
        with child() as other:
            job = jobs.running(other.process)
            assert not store.is_dead(job)
            other.stop()
            deadline = time.monotonic() + 10
            while other.process.life() is not Life.STOPPED:
                assert time.monotonic() < deadline
            time.sleep(2 * QUICK.stale)
            assert not store.is_dead(job)
            assert store.lease_next() is None
            for change in (store.lease, lambda job_id: store.end(job_id, JobState.FAILED, holder=this_process())):
                with pytest.raises(JobBusy, match=f"by {other.process}, which is stopped"):
                    change(job.job_id)
            other.kill()
            while other.process.life() is not Life.GONE:  # the kernel needs a moment
                assert time.monotonic() < deadline
            assert store.is_dead(job)
            assert store.lease(job.job_id).fence_number == 2

    @pytest.mark.parametrize("let_go", ["requeue", "defer"])
    @pytest.mark.parametrize("state", [JobState.RUNNING, JobState.UNDOING])
    def test_a_wish_to_fail_outlives_a_run_that_was_left_before_it_was_told(
        self, store: JobStore, another: JobStore, jobs: Jobs, state: JobState, let_go: str
    ) -> None:
        job = jobs.in_state(state)
        another.override(job.job_id, WISH)
        BY_FENCE[let_go][1](store, job.fence)
        assert store.get(job.job_id).override == WISH
        assert store.lease(job.job_id).override == WISH

    # The queue

    def test_nothing_waits(self, store: JobStore) -> None:
        assert store.lease_next() is None

    def test_those_run_least_come_first_then_the_oldest(self, store: JobStore, jobs: Jobs) -> None:
        first, second, resumed = jobs.queued(), jobs.queued(), jobs.resumable()
        third, deserted = jobs.queued(), jobs.running(DEAD)
        undone = jobs.undoing(DEAD)
        claimed = [store.lease_next() for _ in range(6)]
        order = [job.job_id for job in claimed if job is not None]
        assert order == [job.job_id for job in (first, second, third, resumed, deserted, undone)]
        assert store.lease_next() is None

    def test_the_queue_gives_out_nothing_that_is_held_or_settled(self, store: JobStore, jobs: Jobs) -> None:
        for state in set(JobState) - {JobState.QUEUED}:
            jobs.in_state(state)
        assert store.lease_next() is None

    def test_a_deferred_job_is_due_after_its_rest(self, store: JobStore, jobs: Jobs) -> None:
        deferred = jobs.deferred(1.5)
        assert store.lease_next() is None
        time.sleep(1.5)
        job = store.lease_next()
        assert job is not None
        assert (job.job_id, job.retry_at) == (deferred.job_id, 0)

    def test_a_rest_longer_than_any_was_made_by_a_clock_that_was_wrong(self, store: JobStore, jobs: Jobs) -> None:
        deferred = jobs.deferred(QUICK.longest_backoff + 30)
        job = store.lease_next()
        assert job is not None
        assert job.job_id == deferred.job_id

    def test_a_command_does_not_wait_for_the_rest_to_end(self, store: JobStore, jobs: Jobs) -> None:
        assert store.lease(jobs.deferred().job_id).state is JobState.RUNNING

    @pytest.mark.parametrize("stored", [False, True])
    def test_a_job_whose_runs_are_cut_off_is_settled(self, store: JobStore, jobs: Jobs, stored: bool) -> None:
        job = jobs.stored(1) if stored else jobs.running()
        for _ in range(QUICK.runs - 1):
            store.requeue(job.fence)
            job = store.lease(job.job_id)
        store.requeue(job.fence)
        assert store.lease_next() is None
        settled = store.get(job.job_id)
        assert settled.state is (JobState.HELD if stored else JobState.FAILED)
        assert (
            settled.exception == f"run {QUICK.runs} times without finishing; 'ingest retry {job.job_id}' runs it again"
        )
        assert (settled.holder, settled.fence_number) == (None, job.fence_number + 1)
        assert settled.stored == int(stored)

    def test_jobs_whose_attempts_are_used_up_do_not_end_the_queue(self, store: JobStore, jobs: Jobs) -> None:
        """A worker that works until the queue is empty settles all of them, and gets the next job at once."""
        used_up = [jobs.running() for _ in range(2)]
        undone = jobs.undoing()
        for job in (*used_up, undone):
            for _ in range(QUICK.runs - 1):
                store.requeue(job.fence)
                job = store.lease(job.job_id)
            store.requeue(job.fence)
        claimed = store.lease_next()
        assert claimed is not None
        assert (claimed.job_id, claimed.state) == (undone.job_id, JobState.UNDOING), "it is rolled back, however often"
        assert {store.get(job.job_id).state for job in used_up} == {JobState.FAILED}

    def test_a_job_that_is_cut_off_keeps_the_reason_it_had(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.running()
        for _ in range(QUICK.runs - 1):
            store.requeue(job.fence)
            job = store.lease(job.job_id)
        store.defer(job.fence, INGEST_FILES, REASON, 0.0)
        assert store.lease_next() is None
        assert store.get(job.job_id).exception == REASON

    # A run

    def test_a_heartbeat_is_a_number_that_grows(self, store: JobStore, another: JobStore, jobs: Jobs) -> None:
        job = jobs.running()
        assert store.heartbeat(job.fence, 12.5) is None
        assert another.heartbeat(job.fence, 25.0) is None
        after = store.get(job.job_id)
        assert (after.heartbeat, after.task_percent, after.fence) == (job.heartbeat + 2, 25.0, job.fence)

    def test_a_heartbeat_brings_back_an_administrators_wish(
        self, store: JobStore, another: JobStore, jobs: Jobs
    ) -> None:
        job = jobs.running()
        said = another.override(job.job_id, WISH)
        assert (said.state, said.holder, said.fence, said.override) == (job.state, job.holder, job.fence, WISH)
        assert store.heartbeat(job.fence, 1.0) == WISH

    def test_stages_and_how_long_they_took(self, store: JobStore, jobs: Jobs) -> None:
        job, other = jobs.running(), jobs.running()
        store.heartbeat(job.fence, 50.0)
        store.enter(job.fence, LOAD_METADATA)
        assert (store.get(job.job_id).task, store.get(job.job_id).task_percent) == (LOAD_METADATA, 0)
        store.record_stage_time(job.fence, LOAD_METADATA, 1.5)
        store.record_stage_time(job.fence, LOAD_METADATA, 1.0)
        store.record_stage_time(other.fence, LOAD_METADATA, 4.0)
        store.record_stage_time(other.fence, INGEST_FILES, 8.0)
        assert store.stages(job.job_id) == {LOAD_METADATA: 2.5}
        assert store.stage_seconds() == {LOAD_METADATA: 6.5, INGEST_FILES: 8.0}

    def test_what_befalls_a_job_is_told(self, store: JobStore, jobs: Jobs) -> None:
        """Of one that a single run takes to its end without a word, the job itself tells."""
        plain, job = jobs.running(), jobs.running()
        store.record(plain.fence)
        assert store.history(plain.job_id) == []
        store.tell(job.fence, ["a warning\nin two lines", "another"])
        store.defer(job.fence, INGEST_FILES, "the disk is full\nand more", 0.0)
        store.undo(store.lease(job.job_id).fence, JobState.FAILED, INGEST_FILES, "the tar is damaged")
        store.retry(job.job_id)
        deferred, resumed = (store.history(job.job_id)[place].text for place in (2, 3))
        assert deferred.startswith("deferred until ")
        assert deferred.endswith(" UTC, in 'ingest files': the disk is full")
        assert resumed == f"a run resumes, by {this_process()}"
        others = [line.text for line in store.history(job.job_id) if line.text not in (deferred, resumed)]
        assert others == ["a warning\\nin two lines", "another", "failed: the tar is damaged", "queued to be run again"]
        moments = [line.moment for line in store.history(job.job_id)]
        assert moments == sorted(moments)

    def test_what_is_told_is_bounded_and_goes_with_the_job(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.running()
        for number in range(30):
            store.tell(job.fence, [f"{number}.{line} {'x' * 1000}" for line in range(10)])
        found = store.history(job.job_id)
        assert [line.text.split()[0] for line in found] == [f"{n}.{line}" for n in range(10, 30) for line in range(10)]
        assert all(len(line.text) <= 500 for line in found)
        store.record(job.fence)
        store.forget([job.job_id])
        assert store.history(job.job_id) == []

    def test_a_lost_run_tells_nothing(self, store: JobStore, jobs: Jobs) -> None:
        lost = jobs.running(DEAD)
        store.lease(lost.job_id)
        with pytest.raises(LeaseLost):
            store.tell(lost.fence, ["late"])
        assert [line.text.split()[0] for line in store.history(lost.job_id)] == ["a"]

    def test_what_a_lost_run_spent_is_not_noted(self, store: JobStore, jobs: Jobs) -> None:
        lost = jobs.running(DEAD)
        store.lease(lost.job_id)
        with pytest.raises(LeaseLost):
            store.record_stage_time(lost.fence, LOAD_METADATA, 1.0)
        assert store.stages(lost.job_id) == {}

    def test_reserved_ids_are_the_jobs(self, store: JobStore, another: JobStore, jobs: Jobs) -> None:
        job = jobs.reserved()
        first = 100 * job.job_id
        assert job.reservation == Reservation(first_file_id=first, count=3, stored=0)
        assert job.reservation.ids == range(first, first + 3)
        assert [another.has_reserved(file_id) for file_id in range(first - 1, first + 4)] == [
            False, True, True, True, False,
        ]  # fmt: skip
        store.checkpoint(job.fence, 2)
        assert another.get(job.job_id).reservation == Reservation(first_file_id=first, count=3, stored=2)

    def test_a_job_of_no_files_reserves_no_ids(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.running()
        reserved = store.reserve(job.fence, range(0), None)
        assert reserved.reservation == Reservation(0, 0, 0)
        assert not store.has_reserved(0)

    def test_a_lost_run_reserves_nothing(self, store: JobStore, jobs: Jobs) -> None:
        lost = jobs.running(DEAD)
        store.lease(lost.job_id)
        with pytest.raises(LeaseLost):
            store.reserve(lost.fence, range(5, 7), None)
        assert not store.has_reserved(5)

    @pytest.mark.parametrize("sources", [None, [], ["/instrument/ä", "/instrument/b\n"]])
    def test_where_the_files_of_a_move_lay(self, store: JobStore, jobs: Jobs, sources: list[str] | None) -> None:
        job = jobs.reserved(sources=sources)
        assert store.sources(job.job_id) == sources
        undone = store.undo(job.fence, JobState.FAILED, INGEST_FILES, REASON)
        assert store.sources(job.job_id) == sources, "they are needed to move the files back"
        store.rolled_back(undone.fence)
        assert store.sources(job.job_id) is None
        assert store.sources(99) is None

    def test_a_requeued_job_keeps_what_is_stored(self, store: JobStore, jobs: Jobs) -> None:
        before = jobs.stored(2)
        store.override(before.job_id, RERUN)
        store.requeue(before.fence)
        job = store.get(before.job_id)
        assert (job.state, job.holder, job.override) == (JobState.QUEUED, None, None)
        assert (job.is_interrupted, job.is_deferred) == (True, False)
        assert (job.attempts, job.fence, job.reservation) == (before.attempts, before.fence, before.reservation)
        assert store.lease(job.job_id).fence_number == before.fence_number + 1

    def test_a_deferred_job_says_why_and_until_when(self, store: JobStore, jobs: Jobs) -> None:
        before = jobs.stored(2)
        begun = time.time()
        store.defer(before.fence, INGEST_FILES, REASON, 30.0)
        job = store.get(before.job_id)
        assert begun + 30 <= job.retry_at <= time.time() + 30
        assert (job.state, job.holder, job.is_deferred) == (JobState.QUEUED, None, True)
        assert (job.task, job.task_percent, job.exception) == (INGEST_FILES, 0, REASON)
        assert (job.attempts, job.reservation) == (before.attempts, before.reservation)

    def test_a_run_that_only_found_that_it_must_wait_is_no_attempt(self, store: JobStore, jobs: Jobs) -> None:
        before = jobs.stored(2)
        for waits in range(1, 2 * QUICK.runs):
            store.defer(before.fence, INGEST_FILES, REASON, 0.0, is_attempt=False)
            job = store.get(before.job_id)
            assert (job.state, job.attempts, job.waits) == (JobState.QUEUED, before.attempts - 1, waits)
            assert job.reservation == before.reservation
            claimed = store.lease_next()
            assert claimed is not None, "however often it had to wait"
            before = claimed
        store.defer(before.fence, INGEST_FILES, REASON, 30.0)
        job = store.get(before.job_id)
        assert (job.attempts, job.waits) == (before.attempts, 0)

    def test_a_job_that_waits_keeps_its_turn(self, store: JobStore, jobs: Jobs) -> None:
        first, second = jobs.running(), jobs.queued()
        store.defer(first.fence, INGEST_FILES, REASON, 0.0, is_attempt=False)
        claimed = [store.lease_next(), store.lease_next()]
        assert [job and job.job_id for job in claimed] == [first.job_id, second.job_id]

    @pytest.mark.parametrize("let_go", ["requeue", "defer"])
    def test_what_is_being_rolled_back_is_never_run_forward(self, store: JobStore, jobs: Jobs, let_go: str) -> None:
        before = jobs.undoing(to=JobState.DUPLICATE, successor=1)
        BY_FENCE[let_go][1](store, before.fence)
        waiting = store.get(before.job_id)
        assert (waiting.state, waiting.holder, waiting.undo_to) == (JobState.UNDOING, None, JobState.DUPLICATE)
        assert waiting.is_deferred == (let_go == "defer")
        assert waiting.reservation == before.reservation
        heir = store.lease(before.job_id)
        assert (heir.state, heir.undo_to, heir.successor) == (JobState.UNDOING, JobState.DUPLICATE, 1)

    @pytest.mark.parametrize("stored", [False, True])
    def test_a_run_settles_a_job_whose_attempts_are_used_up(self, store: JobStore, jobs: Jobs, stored: bool) -> None:
        before = jobs.stored(2) if stored else jobs.running()
        store.exhaust(before.fence, LOAD_METADATA, REASON)
        job = store.get(before.job_id)
        assert job.state is (JobState.HELD if stored else JobState.FAILED)
        assert (job.task, job.exception, job.holder) == (LOAD_METADATA, REASON, None)
        assert job.reservation == before.reservation
        with pytest.raises(LeaseLost):
            store.heartbeat(before.fence, 1.0)

    # The ends

    @pytest.mark.parametrize("to", [JobState.FAILED, JobState.DISCARDED, JobState.DUPLICATE])
    @pytest.mark.parametrize("stored", [False, True])
    def test_a_job_that_is_undone_comes_to_its_end(
        self, store: JobStore, jobs: Jobs, to: JobState, stored: bool
    ) -> None:
        before = jobs.stored(2) if stored else jobs.running()
        reason, successor = ("", 1) if to is JobState.DUPLICATE else (REASON, None)
        job = store.undo(before.fence, to, LOAD_METADATA, reason, successor=successor)
        if stored:
            assert (job.state, job.undo_to, job.fence, job.holder) == (JobState.UNDOING, to, before.fence, HERE)
            assert before.reservation is not None
            assert job.reservation == Reservation(before.reservation.first_file_id, 3, 0), "no run counts on it"
            job = store.rolled_back(job.fence)
        assert (job.state, job.undo_to, job.holder, job.reservation) == (to, None, None, None)
        assert (job.exception, job.successor) == (reason, successor)
        done = to is JobState.DUPLICATE
        assert (job.is_done, job.task) == (done, INGEST_METADATA if done else LOAD_METADATA)
        assert job.duplicate_of == successor
        assert not store.has_reserved(100 * job.job_id)
        assert job == store.get(job.job_id)

    def test_what_could_not_be_rolled_back_is_held(self, store: JobStore, jobs: Jobs) -> None:
        before = jobs.undoing()
        job = store.hold(before.fence, "file 7 stays")
        assert (job.state, job.holder, job.undo_to) == (JobState.HELD, None, None)
        assert job.exception == f"{REASON}\nfile 7 stays", "the first reason stays the first"
        assert job.reservation == before.reservation
        assert store.has_reserved(100 * job.job_id)

    def test_a_duplicate_that_could_not_be_rolled_back_is_none(self, store: JobStore, jobs: Jobs) -> None:
        job = store.hold(jobs.undoing(to=JobState.DUPLICATE, successor=1).fence, "file 7 stays")
        assert (job.state, job.successor, job.is_done) == (JobState.HELD, None, False)

    @pytest.mark.parametrize("state", [JobState.RUNNING, JobState.UNDOING])
    def test_what_the_catalog_has_is_complete(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        before = jobs.stored(3) if state is JobState.RUNNING else jobs.undoing(to=JobState.DUPLICATE, successor=1)
        job = store.record(before.fence)
        assert (job.state, job.task, job.task_percent, job.exception) == (JobState.COMPLETE, INGEST_METADATA, 100, "")
        assert (job.holder, job.undo_to, job.successor, job.reservation) == (None, None, None, None)
        assert (job.is_done, job.stored, job.files) == (True, 3, 3)
        assert not store.has_reserved(100 * job.job_id), "the catalog knows its files"

    # Other jobs of the same document

    def test_the_digest_of_a_document_is_noted(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.running()
        assert store.identify(job.fence, "d", 4, 40) is None
        after = store.get(job.job_id)
        assert (after.digest, after.files, after.bytes) == ("d", 4, 40)
        assert store.identify(job.fence, "d", 4, 40) is None, "the job itself is no other"

    def test_of_the_same_document_complete_comes_before_running_before_reserved(
        self, store: JobStore, jobs: Jobs
    ) -> None:
        job = jobs.running()

        def found() -> int | None:
            other = store.identify(job.fence, "d", 4, 40)
            return other.job_id if other is not None else None

        unrelated = jobs.running(digest="d")
        store.undo(unrelated.fence, JobState.FAILED, LOAD_METADATA, REASON)
        assert found() is None, "it failed and stored nothing"
        undone = jobs.stored(1, digest="d")
        store.undo(undone.fence, JobState.FAILED, LOAD_METADATA, REASON)
        assert found() is None, "what is rolled back is not to be counted on"
        kept = jobs.resumable(digest="d")
        assert found() == kept.job_id
        running = jobs.running(digest="d")
        assert found() == running.job_id
        complete = jobs.complete(digest="d")
        assert found() == complete.job_id
        assert jobs.complete(digest="d").job_id != complete.job_id
        assert found() == complete.job_id, "the first of several"

    @pytest.mark.parametrize("state", sorted(TRANSITIONS[Event.SUPERSEDE].sources))
    def test_a_job_takes_over_what_another_one_stored(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        made: dict[JobState, Callable[[], Job]] = {
            JobState.QUEUED: jobs.resumable,
            JobState.RUNNING: lambda: store.lease(jobs.stored(1, DEAD).job_id),
            JobState.HELD: jobs.held,
            JobState.FAILED: jobs.failed,
        }
        other = made[state]()
        for _ in range(2):  # its fence is beyond that of the heir
            if other.state is JobState.QUEUED:
                store.requeue(store.lease(other.job_id).fence)
                other = store.get(other.job_id)
        job = jobs.running()
        heir = store.supersede(job.fence, other)
        assert (heir.job_id, heir.state, heir.holder) == (job.job_id, JobState.RUNNING, HERE)
        assert heir.fence_number == max(job.fence_number, other.fence_number) + 1
        assert heir.reservation == other.reservation
        left = store.get(other.job_id)
        assert (left.state, left.successor, left.holder, left.reservation) == (
            JobState.SUPERSEDED, job.job_id, None, None,
        )  # fmt: skip
        assert left.fence_number > other.fence_number
        assert not left.is_done
        for lost in (job.fence, other.fence):
            with pytest.raises(LeaseLost):
                store.checkpoint(lost, 3)
        if other.reservation is not None:
            assert store.has_reserved(other.reservation.first_file_id)
        store.record(heir.fence)

    def test_whoever_takes_over_a_move_knows_the_disks_of_its_sources(self, store: JobStore, jobs: Jobs) -> None:
        other = jobs.running(DEAD)
        store.reserve(other.fence, range(5, 7), ["/mnt/a", "/mnt/b"], [Path("/mnt")])
        heir = store.supersede(jobs.running().fence, store.get(other.job_id))
        assert store.mounts(heir.job_id) == [Path("/mnt")]

    @pytest.mark.parametrize("state", sorted(set(JobState) - TRANSITIONS[Event.SUPERSEDE].sources))
    def test_what_cannot_be_taken_over(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        other, job = jobs.in_state(state), jobs.running()
        with pytest.raises(WrongState):
            store.supersede(job.fence, other)
        assert (store.get(job.job_id), store.get(other.job_id)) == (job, other)

    def test_a_job_that_was_claimed_meanwhile_is_not_taken_over(self, store: JobStore, jobs: Jobs) -> None:
        seen, job = jobs.resumable(), jobs.running()
        claimed = store.lease(seen.job_id)
        with pytest.raises(WrongState):
            store.supersede(job.fence, seen)
        assert (store.get(job.job_id), store.get(seen.job_id)) == (job, claimed)

    def test_a_lost_run_takes_over_nothing(self, store: JobStore, jobs: Jobs) -> None:
        other, lost = jobs.resumable(), jobs.running(DEAD)
        heir = store.lease(lost.job_id)
        with pytest.raises(LeaseLost):
            store.supersede(lost.fence, other)
        assert (store.get(lost.job_id), store.get(other.job_id)) == (heir, other)

    # Administrators

    @pytest.mark.parametrize("to", [JobState.FAILED, JobState.DISCARDED])
    @pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.FAILED])
    def test_a_job_with_nothing_stored_is_given_up_at_once(
        self, store: JobStore, jobs: Jobs, state: JobState, to: JobState
    ) -> None:
        before = jobs.in_state(state, DEAD)
        job = store.end(before.job_id, to, holder=this_process(), reason="it was replaced")
        assert (job.state, job.holder, job.retry_at) == (to, None, 0)
        assert job.fence_number == before.fence_number + 1
        assert job.exception == (REASON if state is JobState.FAILED else "it was replaced"), "the first reason stays"
        assert store.lease_next() is None

    @pytest.mark.parametrize("state", ["queued", "running", "undoing", "held"])
    def test_a_job_with_files_stored_is_given_up_by_who_asks(self, store: JobStore, jobs: Jobs, state: str) -> None:
        before = {
            "queued": jobs.resumable,
            "running": lambda: jobs.stored(1, DEAD),
            "undoing": lambda: jobs.undoing(DEAD),
            "held": jobs.held,
        }[state]()
        job = store.end(before.job_id, JobState.DISCARDED, holder=this_process())
        assert (job.state, job.undo_to, job.holder) == (JobState.UNDOING, JobState.DISCARDED, this_process())
        assert (job.fence_number, job.heartbeat) == (before.fence_number + 1, 0)
        assert job.reservation == Reservation(100 * job.job_id, 3, 0)
        assert job.exception == before.exception
        assert store.rolled_back(job.fence).state is JobState.DISCARDED

    def test_a_job_on_its_way_to_be_a_duplicate_can_be_given_up(self, store: JobStore, jobs: Jobs) -> None:
        before = jobs.undoing(DEAD, to=JobState.DUPLICATE, successor=1)
        job = store.rolled_back(store.end(before.job_id, JobState.DISCARDED, holder=this_process()).fence)
        assert (job.state, job.successor) == (JobState.DISCARDED, None)

    def test_an_administrators_word_comes_with_giving_up(self, store: JobStore, jobs: Jobs) -> None:
        job = store.end(jobs.queued().job_id, JobState.FAILED, holder=this_process(), override=WISH)
        assert (job.state, job.override, job.exception) == (JobState.FAILED, WISH, "by hand")
        assert job.as_state()["exception"] == "by hand"

    @pytest.mark.parametrize("state", JobState)
    def test_an_administrators_word_changes_nothing_else(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        job = jobs.in_state(state)
        said = store.override(job.job_id, WISH)
        assert (said.state, said.fence, said.holder, said.reservation) == (
            job.state, job.fence, job.holder, job.reservation,
        )  # fmt: skip
        assert (said.override, said.exception) == (WISH, job.exception)
        assert said.as_state()["state"] == "FAILED"

    @pytest.mark.parametrize("state", sorted(TRANSITIONS[Event.RETRY].sources))
    def test_a_job_is_retried(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        before = jobs.in_state(state)
        store.override(before.job_id, WISH)
        job = store.retry(before.job_id)
        assert (job.state, job.retry_at, job.holder) == (JobState.QUEUED, 0, None)
        assert (job.override, job.undo_to, job.successor) == (None, None, None)
        assert (job.reservation, job.attempts) == (before.reservation, before.attempts)
        claimed = store.lease_next()
        assert claimed is not None
        assert (claimed.job_id, claimed.attempts, claimed.exception) == (job.job_id, 2, "")
        assert claimed.fence_number > before.fence_number

    def test_a_job_whose_attempts_are_used_up_is_retried_from_the_first(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.running()
        for _ in range(QUICK.runs - 1):
            store.requeue(job.fence)
            job = store.lease(job.job_id)
        store.exhaust(job.fence, INGEST_FILES, REASON)
        assert store.retry(job.job_id).attempts == 0
        claimed = store.lease_next()
        assert claimed is not None
        assert claimed.attempts == 1

    @pytest.mark.parametrize(
        "state", [JobState.QUEUED, JobState.RUNNING, JobState.UNDOING, JobState.COMPLETE, JobState.DUPLICATE]
    )
    def test_there_is_nothing_to_retry_of_a_job_that_is_unfinished_or_done(
        self, store: JobStore, jobs: Jobs, state: JobState
    ) -> None:
        job = jobs.in_state(state)
        assert store.retry(job.job_id) == job == store.get(job.job_id)

    @pytest.mark.parametrize("state", [JobState.DISCARDED, JobState.SUPERSEDED])
    def test_what_was_given_up_is_not_retried(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        job = jobs.in_state(state)
        with pytest.raises(WrongState, match=refusal_of(job)):
            store.retry(job.job_id)
        assert store.get(job.job_id) == job

    # Questions

    def test_jobs_are_listed(self, store: JobStore, jobs: Jobs) -> None:
        made = [jobs.queued(), jobs.failed(), jobs.queued(), jobs.held()]
        assert store.select(limit=3) == made[:0:-1]
        assert store.in_states([JobState.QUEUED]) == [made[0], made[2]]
        assert store.in_states({JobState.HELD, JobState.FAILED}) == [made[1], made[3]]
        assert store.in_states([]) == []
        assert (store.count(), store.count_unfinished()) == (4, 2)

    def test_what_comes_and_goes_is_counted_in_steps(self, store: JobStore, jobs: Jobs) -> None:
        for state in JobState:
            jobs.in_state(state)
        hour = timedelta(hours=1)
        flow = store.flow(datetime.now(UTC) - 2.5 * hour, hour)
        there = store.select()
        unfinished = sum(job.state in UNFINISHED for job in there)
        assert [step.came for step in flow.steps] == [0, 0, len(there)]
        last = flow.steps[-1]
        assert (last.came - last.went, flow.waiting, flow.queue) == (unfinished, unfinished, [0, 0, unfinished])
        assert last.complete == sum(job.is_done for job in there)
        assert last.failed == sum(job.state in (JobState.FAILED, JobState.HELD) for job in there)
        assert last.bytes == sum(job.bytes for job in there if job.state is JobState.COMPLETE)

    @pytest.mark.parametrize("seed", range(4))
    def test_any_filter_finds_the_jobs_that_it_names(self, store: JobStore, jobs: Jobs, seed: int) -> None:
        random = Random(seed)
        made = many_jobs(store, jobs, random)
        for _ in range(60):
            wanted = some_filter(made, random)
            found = [job for job in made if is_wanted(job, wanted)]
            counts = Counter(job.status for job in found)
            assert store.tally(wanted) == {status: counts[status] for status in JobStatus}
            order, descending = random.choice(list(JobOrder)), random.random() < 0.5
            limit, before = random.choice([None, 0, 1, 5]), random.choice([None, None, random.randrange(len(made) + 2)])
            expected = [job for job in found if before is None or job.job_id < before]
            expected.sort(key=PLACE[order], reverse=descending)
            selected = store.select(wanted, order=order, descending=descending, limit=limit, before=before)
            assert selected == expected[:limit], (wanted, order)

    def test_pages_show_every_job_once(self, store: JobStore, jobs: Jobs) -> None:
        wanted = JobFilter(statuses=FAILED | WAITING)
        made = [job for job in many_jobs(store, jobs, Random(0)) if is_wanted(job, wanted)]
        pages: list[list[Job]] = []
        while page := store.select(wanted, limit=5, before=pages[-1][-1].job_id if pages else None):
            pages.append(page)
            jobs.failed()  # what comes meanwhile is on no page behind the first
        assert [job for page in pages for job in page] == made[::-1]

    def test_a_moment_counts_in_whatever_zone_it_is(self, store: JobStore, jobs: Jobs) -> None:
        job = jobs.queued()
        moment = datetime.fromisoformat(job.updated).replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=9)))
        assert store.select(JobFilter(since=moment)) == [job]
        assert store.select(JobFilter(until=moment)) == []
        assert store.select(JobFilter(since=datetime(1, 1, 1, tzinfo=UTC))) == [job]

    def test_the_newest_job_of_a_file(self, store: JobStore, jobs: Jobs) -> None:
        jobs.submitted(holder=None, source="/a.tar")
        newest = jobs.submitted(holder=None, source="/a.tar")
        jobs.queued()
        assert store.of_source(Path("/a.tar")) == newest
        assert store.of_source(Path("/b.tar")) is None

    def test_the_newest_jobs_of_many_files(self, store: JobStore, jobs: Jobs) -> None:
        jobs.submitted(holder=None, source="/7.tar")
        newest = {f"/{number}.tar": jobs.submitted(holder=None, source=f"/{number}.tar") for number in range(0, 70, 7)}
        assert store.of_sources([f"/{number}.tar" for number in range(2000)]) == newest
        assert store.of_sources([]) == {}

    @pytest.mark.parametrize("state", JobState)
    def test_the_job_of_a_file_is_found_while_it_matters(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        job = jobs.in_state(state)
        found = store.find(job.kind, job.source, job.fingerprint)
        matters = state not in (JobState.UNDOING, JobState.FAILED, JobState.DISCARDED, JobState.SUPERSEDED)
        assert found == (job if matters else None)
        assert store.find(JobKind.MOVE, job.source, job.fingerprint) is None
        assert store.find(job.kind, "/else.tar", job.fingerprint) is None
        assert store.find(job.kind, job.source, "9:9:9") is None

    @pytest.mark.parametrize("state", JobState)
    def test_jobs_of_files_that_were_replaced(self, store: JobStore, jobs: Jobs, state: JobState) -> None:
        job = jobs.in_state(state)
        matters = state in (JobState.QUEUED, JobState.RUNNING, JobState.UNDOING, JobState.HELD)
        assert store.replaced(dataclasses.replace(job, job_id=99, fingerprint="9:9:9")) == ([job] if matters else [])
        same = store.replaced(dataclasses.replace(job, job_id=99))
        assert same == ([job] if state is JobState.UNDOING else [])
        assert store.replaced(job) == []
        assert store.replaced(dataclasses.replace(job, job_id=99, source="/else.tar", fingerprint="9:9:9")) == []

    def test_the_newest_of_several_jobs_of_a_file_is_found(self, store: JobStore, jobs: Jobs) -> None:
        first = jobs.submitted(holder=HERE, source="/a.tar")
        store.record(first.fence)
        again = jobs.submitted(holder=None, source="/a.tar")
        assert store.find(JobKind.BUNDLE, "/a.tar", "1:2:3") == again

    def test_complete_jobs_are_told_by_their_ids(self, store: JobStore, jobs: Jobs) -> None:
        complete = [jobs.complete().job_id for _ in range(3)]
        for state in set(JobState) - {JobState.COMPLETE}:
            jobs.in_state(state)
        assert list(store.recorded()) == complete
        assert list(store.recorded(complete[1])) == complete[1:]
        for since in (0, complete[1]):
            held = [store.get(job_id) for job_id in store.recorded(since)]
            assert store.volume(since) == (sum(job.files for job in held), sum(job.bytes for job in held))
        assert store.volume(complete[-1] + 1) == (0, 0)

    def test_settled_jobs_are_told_by_when(self, store: JobStore, jobs: Jobs) -> None:
        made = {state: jobs.in_state(state) for state in JobState}
        unsettled = {JobState.QUEUED, JobState.RUNNING, JobState.UNDOING, JobState.HELD}
        soon = datetime.now(UTC) + timedelta(seconds=1)
        settled = store.settled_before(soon)
        assert [job.job_id for job in settled] == sorted(job.job_id for job in settled)
        assert {job.state for job in settled} == set(JobState) - unsettled
        assert made[JobState.HELD] not in settled, "something of it is stored"
        assert store.settled_before(soon - timedelta(hours=1)) == []

    def test_counts_by_what_a_person_wants_to_know(self, store: JobStore, jobs: Jobs) -> None:
        names = ("waiting", "running", "complete", "failed", "discarded")
        assert store.tallies() == dict.fromkeys(names, (0, 0, 0))
        jobs.complete()
        jobs.duplicate()
        jobs.queued()
        jobs.running()
        jobs.undoing()
        jobs.held()
        jobs.failed()
        jobs.discarded()
        assert store.tallies() == {
            "complete": (2, 3, 30),
            "waiting": (1, 0, 0),
            "running": (2, 3, 30),
            "failed": (2, 3, 30),
            "discarded": (1, 0, 0),
        }

    def test_reasons_of_failures(self, store: JobStore, jobs: Jobs) -> None:
        for _ in range(2):
            jobs.failed()
        jobs.held()
        jobs.discarded()
        jobs.deferred()
        store.undo(jobs.running().fence, JobState.FAILED, LOAD_METADATA, "another")
        assert store.failures() == [(INGEST_FILES, "the disk is broken", 3), (LOAD_METADATA, "another", 1)]

    def test_what_jobs_failed_for(self, store: JobStore, jobs: Jobs) -> None:
        def fail(reason: str, user: str = "u", stage: str = INGEST_FILES) -> Job:
            jobs.user = user
            return store.undo(jobs.running().fence, JobState.FAILED, stage, reason)

        numbered = [fail(f"file {number} is gone\nin a second line", user) for number, user in enumerate("aab")]
        alike = [fail("file 7 is gone", stage=LOAD_METADATA) for _ in range(2)]
        jobs.discarded()
        jobs.complete()
        (day,) = {job.updated[:10] for job in numbered + alike}
        ids = [[job.job_id for job in reversed(found)] for found in (numbered, alike)]
        expected = [
            Reason(INGEST_FILES, "file ... is gone", 3, ids[0], {day: 3}, {"a": 2, "b": 1}),
            Reason(LOAD_METADATA, "file 7 is gone", 2, ids[1], {day: 2}, {"u": 2}),
        ]
        assert store.reasons() == expected
        assert store.reasons(1) == expected[:1]
        assert store.count_reasons() == 2

    def test_of_very_many_jobs_the_newest_are_named(self, store: JobStore, jobs: Jobs) -> None:
        failed = [jobs.failed().job_id for _ in range(MOST_JOBS + 10)]
        (reason,) = store.reasons()
        assert reason.jobs == len(failed)
        assert reason.job_ids == failed[:9:-1]

    def test_what_was_done_by_day_and_user(self, store: JobStore, jobs: Jobs) -> None:
        assert store.by_day() == store.by_user() == {}
        jobs.complete()
        jobs.duplicate()
        jobs.queued()
        jobs.user = "grace"
        jobs.failed()
        last = jobs.held()
        assert last.updated[:10] in store.by_day()
        assert store.by_user() == {"u": Activity(complete=2, files=3, bytes=30), "grace": Activity(failed=2)}
        assert sum(day.complete for day in store.by_day().values()) == 2

    @pytest.mark.parametrize("seed", range(3))
    def test_counts_are_those_of_the_jobs_that_there_are(self, store: JobStore, jobs: Jobs, seed: int) -> None:
        random = Random(seed)
        for _ in range(2):
            found = many_jobs(store, jobs, random) if not store.count() else store.select()
            assert told(store) == recounted(found)
            for job in random.sample(found, 15):
                with suppress(WrongState, JobBusy):
                    if random.random() < 0.5:
                        store.retry(job.job_id)
                    else:
                        store.end(job.job_id, JobState.FAILED, holder=None)
            store.forget([job.job_id for job in random.sample(found, 10)])
            assert told(store) == recounted(store.select())

    @pytest.mark.parametrize("seed", range(3))
    def test_of_very_many_jobs_the_ids_are_told(self, store: JobStore, jobs: Jobs, seed: int) -> None:
        random = Random(seed)
        made = many_jobs(store, jobs, random)
        for _ in range(20):
            wanted, order = some_filter(made, random), random.choice(list(JobOrder))
            found = store.select(wanted, order=order, limit=7)
            ids = store.ids(wanted, order=order, descending=True, limit=7)
            assert ids == [job.job_id for job in found]
            assert store.several([*ids, 10_000]) == found

    def test_an_archive_is_remembered(self, store: JobStore, another: JobStore) -> None:
        assert store.archive() is None
        for identity in ("", "one", "two"):
            store.note_archive(identity)
            assert another.archive() == identity

    def test_where_the_disks_of_a_jobs_files_were_mounted(self, store: JobStore, another: JobStore, jobs: Jobs) -> None:
        mounts = [Path("/mnt/a"), Path("/mnt/b c"), Path(os.fsdecode(b"/mnt/\xff"))]
        job = store.submit(
            99, kind=JobKind.MOVE, source="/m", fingerprint="1:2:3", user="u", holder=HERE, mounts=mounts[:1]
        )
        store.reserve(job.fence, range(5, 7), ["/mnt/a/1", "/mnt/b c/2"], mounts[:2])
        assert another.mounts(99) == mounts[:2]
        assert another.mounts(jobs.running().job_id) == []
        store.record(job.fence)
        assert another.mounts(99) == mounts[:2], "prune asks for them"
        store.forget([99])
        assert another.mounts(99) == []

    def test_what_was_asked_for_with_a_folder(self, store: JobStore, another: JobStore, jobs: Jobs) -> None:
        def submit(job_id: int, source: str, user: str, request: str) -> Job:
            return store.submit(
                job_id,
                kind=JobKind.FOLDER,
                source=source,
                fingerprint="f",
                user=user,
                holder=HERE,
                request=request,
            )

        first, later, others = submit(99, "/a", "u", "1"), submit(100, "/a", "u", "2"), submit(98, "/b", "v", "3")
        assert [another.request(job_id) for job_id in (98, 99, 100, jobs.queued().job_id)] == ["3", "1", "2", ""]
        assert [another.last_request(user) for user in ("u", "v", "w")] == ["2", "3", ""]
        assert another.completed(JobKind.FOLDER, "/a") == []
        for job in (later, first, others):
            store.record(job.fence)
        assert [job.job_id for job in another.completed(JobKind.FOLDER, "/a")] == [99, 100]
        assert another.completed(JobKind.BUNDLE, "/a") == []
        store.forget([100])
        assert (another.request(100), another.last_request("u")) == ("", "1")

    def test_forgotten_jobs_are_gone(self, store: JobStore, another: JobStore, jobs: Jobs) -> None:
        kept, complete, held = jobs.reserved(), jobs.running(), jobs.held()
        store.record_stage_time(complete.fence, LOAD_METADATA, 1.0)
        store.record(complete.fence)
        assert store.forget([complete.job_id, held.job_id, kept.job_id, 99]) == [complete.job_id]
        assert {job.job_id for job in another.select(limit=9)} == {kept.job_id, held.job_id}, "they have come to no end"
        assert another.stages(complete.job_id) == {}
        with pytest.raises(JobNotFound):
            another.get(complete.job_id)

    def test_imported_jobs_are_kept_as_they_are(self, store: JobStore, another: JobStore) -> None:
        assert store.take_in([]) == Taken(0, 0, [])
        assert store.take_in([old_job(5), old_job(9, state="FAILED")]) == Taken(2, 0, [])
        assert another.imported(9) == old_job(9, state="FAILED")
        assert another.imported(7) is None
        assert store.take_in([old_job(5), old_job(7), old_job(9)]) == Taken(1, 1, [])
        assert [another.imported(job_id) for job_id in (5, 7, 9)] == [old_job(5), old_job(7), old_job(9)]

    def test_imported_jobs_are_no_jobs(self, store: JobStore, jobs: Jobs) -> None:
        own = jobs.complete()
        assert store.take_in([old_job(own.job_id), old_job(50)]) == Taken(1, 0, [own.job_id])
        assert store.imported(own.job_id) is None
        assert store.get(own.job_id) == own
        for refused in (store.get, store.lease, store.retry):
            with pytest.raises(JobNotFound, match="job 50 was imported: only its state is known here"):
                refused(50)
        with pytest.raises(StoreError, match="already holds a job 50"):
            store.submit(50, kind=JobKind.BUNDLE, source="/b", fingerprint="1:2:3", user="u", holder=None)
        assert [job.job_id for job in store.select(limit=9)] == [own.job_id]
        assert (store.count(), store.count_unfinished(), store.lease_next()) == (1, 0, None)
        assert store.forget([50]) == []
        assert store.imported(50) == old_job(50)

    def test_it_says_that_it_is_well(self, store: JobStore, jobs: Jobs) -> None:
        jobs.queued()
        assert store.check_integrity() == ""


@pytest.fixture(scope="module")
def direct(postgres_server: PostgresServer) -> PostgresUrl:
    """A database for all tests: to empty it takes less than to make another."""
    return postgres_server.new_database()


@pytest.fixture(scope="module")
def pooled(postgres_server: PostgresServer) -> Iterator[PostgresUrl]:
    """One behind PgBouncer."""
    name = postgres_server.new_database().text.rpartition("/")[2]
    with bouncing(postgres_server) as port:
        yield postgres_server.url(name, port=port)


@pytest.mark.cluster
class TestPostgres(JobStoreContract):
    @pytest.fixture
    def database(self, direct: PostgresUrl) -> PostgresUrl:
        return direct

    @pytest.fixture
    def opened(self, postgres_server: PostgresServer, database: PostgresUrl) -> Iterator[Opened]:
        from ingest_cli.jobs.postgres import PostgresJobStore
        from ingest_cli.jobs.postgres_connections import PostgresConnections

        with ExitStack() as stack:
            yield lambda timings: stack.enter_context(PostgresJobStore(PostgresConnections(database), timings))
        postgres_server.empty(database)

    def test_of_what_changes_at_once_each_count_is_kept(self, opened: Opened) -> None:
        """And added up while others add to it."""
        stores = [opened(QUICK) for _ in range(4)]

        def work(number: int) -> None:
            jobs = Jobs(stores[number])
            jobs._last = first = 1000 * number + 90
            for _ in range(20):
                jobs.complete(digest=f"digest {number}")
                jobs.failed()
            assert not stores[number].check_integrity()
            stores[number].forget([first + 1, first + 2])

        with ThreadPoolExecutor(len(stores)) as executor:
            list(executor.map(work, range(len(stores))))
        assert told(stores[0]) == recounted(stores[0].select())


@pytest.mark.cluster
class TestPostgresBehindPgBouncer(TestPostgres):
    """In transaction pooling: each transaction may be on another connection of the server's.

    What only asks much is asked in the same way.
    """

    test_any_filter_finds_the_jobs_that_it_names = None  # type: ignore[assignment]
    test_counts_are_those_of_the_jobs_that_there_are = None  # type: ignore[assignment]
    test_of_very_many_jobs_the_ids_are_told = None  # type: ignore[assignment]
    test_of_very_many_jobs_the_newest_are_named = None  # type: ignore[assignment]

    @pytest.fixture
    def database(self, pooled: PostgresUrl) -> PostgresUrl:
        return pooled


MANY = 20_000


@pytest.fixture(scope="session")
def many_in_a_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of very many jobs, a second apart, of which each hundredth failed."""
    path = tmp_path_factory.mktemp("many") / "jobs.sqlite3"
    SqliteJobStore(path, QUICK).__exit__(None, None, None)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        (job_id, str(start + timedelta(seconds=job_id))[:19], "complete" if job_id % 100 else "failed")
        for job_id in range(1, MANY + 1)
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO jobs (job_id, kind, source, fingerprint, user, created, updated, state)"
            " VALUES (?1, 'bundle', '/' || ?1, '1:2:3', 'u', ?2, ?2, ?3)",
            rows,
        )
    return path


class TestSqlite(JobStoreContract):
    @pytest.fixture
    def many(self, many_in_a_file: Path) -> Iterator[SqliteJobStore]:
        with SqliteJobStore(many_in_a_file, QUICK) as store:
            yield store

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Opened]:
        with ExitStack() as stack:
            yield lambda timings: stack.enter_context(SqliteJobStore(tmp_path / "jobs.sqlite3", timings))

    @pytest.mark.parametrize(
        ("wanted", "order", "before"),
        {
            "the newest": (JobFilter(), JobOrder.JOB, None),
            "another page": (JobFilter(), JobOrder.JOB, MANY // 2),
            "of one status": (JobFilter(statuses=FAILED), JobOrder.JOB, None),
            "of most jobs": (JobFilter(statuses=COMPLETE), JobOrder.JOB, MANY // 2),
            "of no job": (JobFilter(statuses=WAITING), JobOrder.JOB, None),
            "the last to change": (JobFilter(), JobOrder.UPDATED, None),
            "the last to fail": (JobFilter(statuses=FAILED), JobOrder.UPDATED, None),
            "since": (JobFilter(since=datetime(2026, 1, 1, 5, 30, tzinfo=UTC)), JobOrder.JOB, None),
        }.values(),
    )
    @pytest.mark.parametrize("descending", [True, False])
    def test_a_few_of_very_many_jobs_are_found_by_looking_at_few(
        self, many: SqliteJobStore, wanted: JobFilter, order: JobOrder, before: int | None, descending: bool
    ) -> None:
        steps = itertools.count()
        many._database.conn.set_progress_handler(lambda: next(steps) < 0, 10)
        found = many.select(wanted, order=order, descending=descending, limit=20, before=before)
        assert len(found) == (0 if wanted.statuses is WAITING else 20)
        assert next(steps) < MANY / 10, "SQLite went through all of them"

    def test_ctrl_c_ends_a_search_among_very_many_jobs(self, many: SqliteJobStore) -> None:
        def search() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            while not many.select(JobFilter(source="[n]owhere")):
                pass

        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                search()
        finally:
            signal.signal(signal.SIGALRM, before)
        assert len(many.select(JobFilter(source="/1234"))) == 1

    def test_a_run_frozen_behind_its_heartbeat_hears_that_it_lost_the_lease(self, opened: Opened) -> None:
        """It was written, then another process took the job: what is asked for is how things stand on return."""
        store, another = opened(QUICK), opened(QUICK)
        assert isinstance(store, SqliteJobStore)
        job = Jobs(another).running(DEAD)
        heirs: list[Job] = []

        def frozen(statement: str) -> None:
            if not heirs and another.get(job.job_id).heartbeat == job.heartbeat + 1:
                heirs.append(another.lease(job.job_id))

        store._database.conn.set_trace_callback(frozen)
        with pytest.raises(LeaseLost):
            store.heartbeat(job.fence, 1.0)
        assert heirs

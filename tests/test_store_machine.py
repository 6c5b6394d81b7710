"""No sequence of what workers, their deaths and administrators do brings the job store where its promises end."""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from ingest_cli.errors import JobBusy, JobNotRecorded, JobStopped
from ingest_cli.jobs import STALE_SECONDS, Job, JobKind, JobState, JobStore, is_alive, worker_name

ELSEWHERE = "another.example:1"
FILES = 5
STAGES = ["load metadata", "ingest files", "ingest metadata"]


class StoreMachine(RuleBasedStateMachine):
    """``owned`` are the jobs that this process has claimed and neither settled nor lost, as it may know them."""

    jobs: Bundle[int] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = JobStore(self.folder / "jobs.sqlite3")
        self.owned: set[int] = set()
        self.recorded: set[int] = set()
        self.attempts: dict[int, int] = {}

    def teardown(self) -> None:
        self.store.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    @rule(target=jobs)
    def submit(self) -> int:
        job_id = len(self.attempts) + 1
        job = self.store.submit(job_id, kind=JobKind.BUNDLE, source=f"/{job_id}", stamp="s", user="u", queued=True)
        assert (job.state, job.worker, job.is_done) == (JobState.OK, None, False)
        self.attempts[job_id] = 0
        return job_id

    @rule(job_id=jobs)
    def claim(self, job_id: int) -> None:
        before = self.store.get(job_id)
        alive_elsewhere = before.worker == ELSEWHERE and before.beat > time.time() - STALE_SECONDS
        if before.recorded:
            return  # a worker does not run these
        try:
            job = self.store.claim(job_id)
        except JobBusy:
            assert alive_elsewhere
            return
        assert not alive_elsewhere, "a living worker keeps its job"
        assert (job.worker, job.state, job.exception) == (worker_name(), JobState.OK, "")
        assert (job.first_file_id, job.stored) == (before.first_file_id, before.stored), (
            "what is stored is not forgotten"
        )
        self.attempts[job_id] += 1
        self.owned.add(job_id)

    @rule()
    def claim_next(self) -> None:
        before = {job.job_id: job for job in self.store.newest(1000)}
        job = self.store.claim_next()
        if job is None:
            return
        was = before[job.job_id]
        assert was.state is JobState.OK
        assert was.resumable
        assert not was.recorded
        assert not is_alive(was), "a living worker keeps its job"
        assert was.not_before <= time.time()
        for other in before.values():
            waits = other.state is JobState.OK and other.resumable and other.worker is None and not other.not_before
            assert not (waits and other.attempts < was.attempts), "the order is fair"
        self.attempts[job.job_id] += 1
        self.owned.add(job.job_id)

    @rule(job_id=jobs)
    def put_off(self, job_id: int) -> None:
        with self.only_of_its_own(job_id):
            self.store.put_off(self.store.get(job_id), "ingest files", "why")
            job = self.store.get(job_id)
            assert (job.state, job.worker, job.is_done) == (JobState.OK, None, False)
            assert job.not_before > time.time()
        self.owned.discard(job_id)

    @rule(job_id=jobs, stale=st.booleans())
    def is_claimed_elsewhere(self, job_id: int, stale: bool) -> None:
        """Another machine's worker has it, and lives or died."""
        if self.store.get(job_id).worker is not None or job_id in self.recorded:
            return
        beat = time.time() - (2 * STALE_SECONDS if stale else 0)
        connection = self.store._database.conn
        connection.execute("UPDATE jobs SET worker = ?, beat = ? WHERE job_id = ?", [ELSEWHERE, beat, job_id])
        connection.commit()
        self.owned.discard(job_id)

    @rule(job_id=jobs, task=st.sampled_from(STAGES))
    def work(self, job_id: int, task: str) -> None:
        with self.only_of_its_own(job_id):
            self.store.enter(job_id, task)
            self.store.beat(job_id, 50.0)

    @rule(job_id=jobs)
    def reserve(self, job_id: int) -> None:
        if self.store.get(job_id).first_file_id is not None:
            return
        with self.only_of_its_own(job_id):
            self.store.reserve(job_id, 100 * job_id)

    @rule(job_id=jobs)
    def store_a_file(self, job_id: int) -> None:
        job = self.store.get(job_id)
        if job.first_file_id is None or job.stored == FILES:
            return
        with self.only_of_its_own(job_id):
            self.store.checkpoint(job_id, job.stored + 1)

    @rule(job_id=jobs)
    def complete(self, job_id: int) -> None:
        with self.only_of_its_own(job_id):
            self.store.complete(job_id)
            self.recorded.add(job_id)
            assert self.store.get(job_id).is_done
        self.owned.discard(job_id)

    @rule(job_id=jobs, resumable=st.booleans())
    def fail(self, job_id: int, resumable: bool) -> None:
        with self.only_of_its_own(job_id):
            if not resumable:
                self.store.taken_back(job_id)
            self.store.fail(job_id, "ingest files", "why", resumable=resumable)
        self.owned.discard(job_id)

    @rule(job_id=jobs)
    def release(self, job_id: int) -> None:
        with self.only_of_its_own(job_id):
            self.store.release(job_id)
            job = self.store.get(job_id)
            assert job.is_deferred
            assert self.store.find(JobKind.BUNDLE, job.source, job.stamp) == job
        self.owned.discard(job_id)

    @rule(
        job_id=jobs,
        state=st.sampled_from(JobState),
        task=st.sampled_from(STAGES),
        percent=st.sampled_from([0.0, 100.0]),
    )
    def administrator(self, job_id: int, state: JobState, task: str, percent: float) -> None:
        with suppress(JobNotRecorded):
            self.store.set_state(job_id, state, task, percent, "by hand")
            self.owned.discard(job_id)

    def only_of_its_own(self, job_id: int) -> "OnlyOfItsOwn":
        return OnlyOfItsOwn(job_id in self.owned)

    @invariant()
    def promises_hold(self) -> None:
        for job in self.store.newest(1000):
            self.check(job)

    def check(self, job: Job) -> None:
        assert job.recorded == (job.job_id in self.recorded), "what the catalogue holds is never forgotten"
        assert not job.is_done or job.recorded, "what says complete is"
        assert job.attempts == self.attempts[job.job_id]
        assert (job.worker == worker_name()) == (job.job_id in self.owned)
        assert job.stored == 0 or job.first_file_id is not None
        assert job.recorded or job.resumable or job.first_file_id is None, "what is stored can be gone on with"
        found = self.store.find(JobKind.BUNDLE, job.source, job.stamp)
        assert (found is not None) == (job.resumable or job.recorded)


class OnlyOfItsOwn:
    """What is done to a job that is not this process's own raises JobStopped, and changes nothing."""

    def __init__(self, own: bool) -> None:
        self.own = own

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        assert (error is None) == self.own or not isinstance(error, JobStopped | None), "only the owner changes a job"
        return isinstance(error, JobStopped)


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStore = StoreMachine.TestCase

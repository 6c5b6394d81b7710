"""A runner: takes the jobs that it holds through their stages, and settles them."""

import logging
import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from ..bundle.fingerprint import fingerprint
from ..bundle.folder import Folder, FolderRequest
from ..disk import explained
from ..errors import (
    BundleError,
    IngestError,
    Interrupted,
    LeaseLost,
    PackError,
    ProjectBusy,
    ResourceUnavailable,
    SourceChanged,
    SourceError,
    SourceMissing,
    StopRequested,
    WrongState,
)
from ..jobs.dispatch import Dispatch, StoreDispatch
from ..jobs.heart import Heart
from ..jobs.interruption import Interruption
from ..jobs.job import Job, JobKind, JobState, PacificaState
from ..jobs.lease import NO_THREAD, Lease
from ..jobs.process import this_process
from ..jobs.stages import INGEST_FILES, MOVE_FILES, UPLOADING
from ..jobs.store import JobStore
from ..services.base import Services
from ..settings import Settings
from ..text import shortened
from ..throttle import Throttle
from .observer import Observer
from .precedence import Precedence
from .progress import Progress
from .rollback import LATER, roll_back
from .run import DuplicateOf, Recorded, Run, replaced
from .sources import left_in_place
from .spooled import Spooled

# The text of an error of Python's own may quote what it was given, whole.
LONGEST_UNEXPECTED = 500

log = logging.getLogger(__name__)


class Runner:
    """Runs jobs of ``store`` with ``services``, from one thread. ``again`` ingests a document even where another job
    recorded it. What it reads is read no faster than the ``throttle`` allows. It is one of so many ``at_once``, which
    share what they may keep in memory; of one document, those jobs come first that have ``precedence``. Jobs from the
    queue come by the ``dispatch``, or from the store's own queue. The end of a ``with`` block ends the heartbeats."""

    def __init__(
        self,
        settings: Settings,
        services: Services,
        store: JobStore,
        *,
        again: bool = False,
        throttle: Throttle | None = None,
        interruption: Interruption | None = None,
        precedence: Precedence | None = None,
        heart: Heart | None = None,
        at_once: int = 1,
        dispatch: Dispatch | None = None,
        spooled: Spooled | None = None,
    ) -> None:
        self.services, self.store, self.throttle = services, store, throttle or Throttle(None)
        self.precedence, self._heart = precedence or Precedence(), heart or Heart(settings.timings.heartbeat)
        self._settings, self._again, self._at_once = settings, again, at_once
        self._interruption = interruption or Interruption()
        self._dispatch = dispatch or StoreDispatch(store, settings.timings.poll)
        self._spooled = spooled or Spooled(settings)
        self._unsettled: list[Lease] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._heart.end()

    def another(self, services: Services, store: JobStore, *, at_once: int | None = None) -> "Runner":
        """One for another thread, with services and a store of its own; both are interrupted, and slowed, together. It
        is one of as many ``at_once`` as this one, unless another number is given."""
        return Runner(
            self._settings,
            services,
            store,
            again=self._again,
            throttle=self.throttle,
            interruption=self._interruption,
            precedence=self.precedence,
            heart=self._heart,
            at_once=at_once or self._at_once,
            spooled=self._spooled,
        )

    def interrupt(self) -> None:
        """Leave the current job after the current file, for a later run to resume; from any thread or signal."""
        self._interruption.set()

    def abandon(self) -> None:
        """Leave the current job before the end of the file that another thread works on; as `interrupt` does."""
        self._interruption.set_urgent()

    @property
    def abandoned(self) -> bool:
        """Whether `abandon` was called."""
        return self._interruption.is_urgent()

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._interruption.is_set()

    def pace(self, length: int) -> None:
        """Wait until so many bytes more may be read. Raises Interrupted."""
        self.wait(self.throttle.pause(length, time.monotonic()))
        if self.interrupted:
            raise Interrupted

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond a call of `interrupt`."""
        self._interruption.wait(seconds)

    def run(self, job: Job, observer: Observer) -> Job:
        """Run a job to its end, unless it is done already, and return it as it is settled.

        A job that failed or is held is retried, unless its file is gone or another one by now: then it keeps its
        reason. Raises the IngestError that the job failed with, after the store has it; one that is transient leaves
        the job deferred, Interrupted and KeyboardInterrupt leave it to be resumed.
        """
        if job.is_done:
            return job
        if job.has_failed:
            if job.state is JobState.FAILED and self._fingerprint(job) != job.fingerprint:
                raise SourceChanged(replaced(job))
            job = self.store.retry(job.job_id)
        # What was just submitted is held by this process already.
        is_held = job.state is JobState.RUNNING and job.holder == this_process()
        try:
            leased = job if is_held else self.store.lease(job.job_id)
        except WrongState:
            later = self.store.get(job.job_id)
            if later.is_done:  # another process was quicker
                return later
            raise
        settled = self._run(leased, observer)
        if settled.has_failed:
            raise _failure_of(settled)
        return settled

    def lease_next(self) -> Job | None:
        """The job whose turn it is, to be given to `run_leased`; None where none waits."""
        self.let_go_of_unsettled()
        return self._dispatch.lease_next()

    def keeping(self, job: Job) -> ExitStack:
        """A block in which a job that is this process's and waits for its run is said to live; any thread may end it.

        Whoever leases a job, and does not run it at once, keeps it: processes on other hosts know nothing of this one
        but that, and would take it away.
        """
        kept = ExitStack()
        if job.holder == this_process():
            with suppress(ResourceUnavailable):  # there is no thread: its run says so
                kept.enter_context(self._lease(job).kept_alive())
        return kept

    def wait_for_next(self) -> None:
        """Wait until there may be a job for `lease_next`, but not beyond a call of `interrupt`."""
        self._dispatch.wait(self._interruption)

    def run_leased(self, job: Job, observer: Observer) -> Job:
        """Run a job from the queue and return it as it stands then: done, failed, or deferred.

        Raises Interrupted and KeyboardInterrupt, which leave it in the queue.
        """
        try:
            return self._run(job, observer)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - it is noted with the job, and a worker runs the next one
            if isinstance(error, LeaseLost):
                observer.warn(str(error))
            return self.store.get(job.job_id)

    def _run(self, job: Job, observer: Observer) -> Job:
        lease = self._lease(job)
        with ExitStack() as until_settled:
            progress = Progress(lease, observer, self.throttle)
            run = Run(
                lease,
                progress,
                self.services,
                self._settings,
                again=self._again,
                at_once=self._at_once,
                precedence=self.precedence,
                spooled=self._spooled,
            )
            self._unsettled.append(lease)
            try:
                until_settled.enter_context(lease.kept_alive())
                observer.stage(UPLOADING)
                settled = self._attempt(lease, run, observer)
            except LeaseLost:
                raise
            except Interrupted:
                lease.requeue()
                raise
            except Exception as error:
                with suppress(WrongState):  # it was settled just now
                    self._settle_failure(lease, run, error)
                settled = self.store.get(job.job_id)
                if not settled.is_done:
                    raise
                # The catalogue has it, though another run, or this one, did not hear of it.
                observer.warn(str(error))
            except BaseException:
                with suppress(WrongState):  # it was settled just now
                    lease.requeue()
                raise
        self._unsettled.remove(lease)
        if settled.is_done and settled.spooled:
            self._spooled.remove(settled)
        return settled

    def _lease(self, job: Job) -> Lease:
        return Lease(self.store, job, self._settings.timings, self._interruption, self._heart)

    def let_go_of_unsettled(self) -> None:
        """Let go of jobs that could not be settled when their runs ended, as while the store's disk was full."""
        while self._unsettled:
            with suppress(LeaseLost, WrongState):
                self._unsettled[-1].requeue()
            self._unsettled.pop()

    def _attempt(self, lease: Lease, run: Run, observer: Observer) -> Job:
        if lease.job.state is JobState.UNDOING:
            return self._roll_back(lease, None)
        lease.require()
        self._settle_replaced(lease.job, observer)
        ending = self._run_stages(lease, run)
        if isinstance(ending, DuplicateOf):
            job = lease.undo(JobState.DUPLICATE, lease.task, "", successor=ending.job_id)
            return self._roll_back(lease, run.reached) if job.state is JobState.UNDOING else job
        return lease.record()

    @staticmethod
    def _run_stages(lease: Lease, run: Run) -> Recorded | DuplicateOf:
        """Run it. Raises ResourceUnavailable where what it lacks may be there again later."""
        source = lease.job.source
        try:
            return run.run()
        except OSError as error:
            # The services translate their own: this is of the bundle, or of a file that is to be moved.
            message = f"cannot read {source} or a file it lists"
            raise explained(error, message, IngestError, Path(source)) from error
        except MemoryError as error:
            raise ResourceUnavailable("there is not enough memory") from error
        except RuntimeError as error:
            if str(error) != NO_THREAD:
                raise
            raise ResourceUnavailable(f"{source}: {NO_THREAD}") from error
        except (SourceError, SourceMissing, SourceChanged, BundleError, PackError):
            # What is found below a disk that is away is not the job's.
            lease.require_mounted()
            if lease.job.spooled and not lease.job.is_shared and not os.path.lexists(source):
                raise ResourceUnavailable(
                    f"{source} is not there: is the disk of the spool folder mounted?"
                    f" 'ingest discard {lease.job_id}' abandons the job"
                ) from None
            raise

    def _settle_failure(self, lease: Lease, run: Run, error: Exception) -> None:
        """Settle a job whose run ended with ``error``; what that brings is added to it as notes."""
        if lease.job.state is JobState.UNDOING:
            # What is left to be undone is undone later, whatever the fault was: not at once, and over and over.
            lease.defer(lease.task, self.store.held(lease.fence).exception)
            return
        to = JobState.FAILED
        if isinstance(error, StopRequested):
            wish = self.store.held(lease.fence).override
            if wish is not None and wish.state is PacificaState.OK:
                lease.requeue()
                return
            task, story = (wish.task, wish.exception) if wish is not None else (lease.task, str(error))
            to = JobState.DISCARDED if wish is not None and wish.discards else to
        else:
            task, story = _stage_of(error, lease), _story_of(error, lease)
        is_retried = isinstance(error, IngestError) and error.transient and self._settings.timings.retries > 0
        if isinstance(error, IngestError) and is_retried:
            lease.defer(task, story, is_attempt=error.is_attempt, is_crowded=isinstance(error, ProjectBusy))
            if not error.is_attempt:
                error.add_note(f"the job waits: 'ingest retry {lease.job_id}', the same command or a worker resumes it")
            return
        job = lease.undo(to, task, story)
        if job.state is JobState.UNDOING:
            try:
                settled = self._roll_back(lease, run.reached)
            except LeaseLost:
                raise
            except IngestError as trouble:
                error.add_note(f"what is stored is {LATER} {trouble}")
                return
            if settled.state is JobState.HELD:
                error.add_note(settled.exception.splitlines()[-1])

    def _roll_back(self, lease: Lease, reached: int | None) -> Job:
        return roll_back(lease, self.services, reached=reached)

    def _settle_replaced(self, job: Job, observer: Observer) -> None:
        """Fail the jobs whose place this one takes, as far as nobody works on them."""
        replaced_jobs = [other for other in self.store.replaced(job) if self._is_of_the_same(other, job)]
        try:
            if replaced_jobs and self._fingerprint(job) != job.fingerprint:
                return
        except IngestError:
            return  # the run says so
        for earlier in replaced_jobs:
            try:
                undone = self.store.end(
                    earlier.job_id, JobState.FAILED, holder=this_process(), reason=replaced(earlier)
                )
                if undone.state is JobState.UNDOING:
                    lease = self._lease(undone)
                    with lease.kept_alive():
                        roll_back(lease, self.services)
                observer.note(
                    f"job {earlier.job_id} was of what stood here before, and has failed: this is job {job.job_id}"
                )
            except IngestError as error:
                log.info(
                    "job %d, of an earlier file at %s, is left as it is: %s", earlier.job_id, earlier.source, error
                )

    def _is_of_the_same(self, earlier: Job, job: Job) -> bool:
        """Whether one job can take the other's place: a folder may be ingested in several ways."""
        if not earlier.kind is job.kind is JobKind.FOLDER:
            return True
        return self._request(earlier).is_of_the_same(self._request(job))

    def _fingerprint(self, job: Job) -> str:
        """The fingerprint of what stands at the job's path now."""
        path = Path(job.source)
        if job.is_shared:
            return self._spooled.fingerprint_of_shared(job)
        if job.kind is not JobKind.FOLDER:
            return fingerprint(path)
        return Folder(path, self._request(job), left_in_place(path, self._settings)).fingerprint

    def _request(self, job: Job) -> FolderRequest:
        return FolderRequest.from_text(self.store.request(job.job_id))


def _failure_of(job: Job) -> IngestError:
    """The error that the job was to be rolled back for."""
    why, *notes = job.exception.split("\n")
    error = IngestError(why)
    for note in notes:
        error.add_note(note)
    return error


def _stage_of(error: Exception, lease: Lease) -> str:
    stage = (error.stage if isinstance(error, IngestError) else None) or lease.task
    return MOVE_FILES if stage == INGEST_FILES and lease.job.kind is JobKind.MOVE else stage


def _story_of(error: Exception, lease: Lease) -> str:
    """What is noted with the job, for whoever asks for it."""
    if isinstance(error, IngestError):
        return "\n".join(error.lines)
    log.error("job %d: an unexpected error, which is worth a report", lease.job_id, exc_info=error)
    return f"unexpected error: {type(error).__name__}: {shortened(str(error), LONGEST_UNEXPECTED)}; see the log"

"""The lease that a run has on its job: what must outlive the run's process, and whether the run must stop."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..errors import (
    IngestError,
    Interrupted,
    LeaseLost,
    ProjectBusy,
    ResourceUnavailable,
    StopRequested,
    Unavailable,
)
from ..mounts import is_away, lies_below
from ..settings import Timings
from ..text import counted, quoted
from .contention import again
from .heart import Heart
from .history import first_of
from .interruption import Interruption
from .job import Fence, Job, JobState, Override, Reservation
from .store import JobStore

# So Python says that the system gives none.
NO_THREAD = "can't start new thread"

# So long a heartbeat waits for a change that the run makes itself, which takes milliseconds.
CHANGING_SECONDS = 0.1
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Notes:
    """What the store is to be told with the next heartbeat, or as the run leaves the job: the stages of a small bundle
    are not worth a change each.

    A kill loses what people see for a moment, and how many files are known to be stored: they are stored again.
    """

    task: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    stored: int | None = None
    told: list[str] = field(default_factory=list)

    def write(self, store: JobStore, fence: Fence) -> None:
        """Tell the store."""
        if self.task is not None:
            store.enter(fence, self.task)
        for task, seconds in self.seconds.items():
            store.record_stage_time(fence, task, seconds)
        if self.stored is not None:
            store.checkpoint(fence, self.stored)
        if self.told:
            store.tell(fence, first_of(self.told))

    def before(self, later: "_Notes") -> "_Notes":
        """These, which could not be written, and what came since."""
        seconds = {**self.seconds}
        for task, spent in later.seconds.items():
            seconds[task] = seconds.get(task, 0.0) + spent
        return _Notes(
            self.task if later.task is None else later.task,
            seconds,
            self.stored if later.stored is None else later.stored,
            [*self.told, *later.told],
        )


class Lease:
    """The lease of ``job``, which this process holds. ``interruption`` is set where the run is to be left soon. Its
    heartbeats are those of a ``heart`` that other runs may share.

    Any call that changes the job raises LeaseLost where another process holds it by now.
    """

    def __init__(
        self, store: JobStore, job: Job, timings: Timings, interruption: Interruption, heart: Heart | None = None
    ) -> None:
        self._store, self._job, self._timings, self._interruption = store, job, timings, interruption
        self._heart, self._is_alone = heart or Heart(timings.heartbeat), heart is None
        self._task = job.task
        self._ending: IngestError | None = None
        self._confirmed = self._renewed = _clock()
        self._notes, self._noted = _Notes(), threading.Lock()
        self._fencing, self._thread = threading.Lock(), threading.get_ident()
        self._percent = 0.0
        self._entered: float | None = None
        self._note_wish(job.override)

    @property
    def job(self) -> Job:
        """The job, as this run knows it."""
        return self._job

    @property
    def job_id(self) -> int:
        """The job's id, which is also its transaction's."""
        return self._job.job_id

    @property
    def fence(self) -> Fence:
        """What this run names in its writes."""
        return self._job.fence

    @property
    def reservation(self) -> Reservation | None:
        """The ids reserved for the job's files, by this run or an earlier one."""
        return self._job.reservation

    @property
    def task(self) -> str:
        """The current stage."""
        return self._task

    @property
    def interrupted(self) -> bool:
        """Whether the run must end as soon as a later one can resume it."""
        return self._interruption.is_set()

    @property
    def abandoned(self) -> bool:
        """Whether the process ends at once: its main thread has left the run already."""
        return self._interruption.is_urgent()

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the moment from which the run must end."""
        self._interruption.wait(seconds)

    def require(self) -> None:
        """Raise LeaseLost or StopRequested where the run is to stop. Costs nothing while its heartbeat is fresh."""
        # A process that was frozen for so long that another may have its job finds its own clock far ahead.
        if _clock() - self._confirmed > self._timings.stale / 10:
            self.confirm()
        if self._ending is not None:
            self._require_no_ending()

    def require_uninterrupted(self) -> None:
        """Raise Interrupted where the run is to be left, though a later one begins anew; then do as `require` does."""
        if self.interrupted:
            raise Interrupted
        self.require()

    def confirm(self) -> None:
        """Ask the store whether the run still has its lease, then do as `require` does. From any thread."""
        self._patiently(self._ask_by_any_thread)
        self._require_no_ending()

    def progress(self, percent: float) -> None:
        """Note how much of the stage is done, in percent. A stage that is not complete stays below 100."""
        self._percent = min(99.0, percent)

    def enter(self, task: str) -> None:
        """The run enters a stage. Raises Interrupted where it is to be left."""
        self.require_uninterrupted()
        self._leave()
        self._percent, self._entered = 0.0, time.monotonic()
        with self._noted:
            self._task = self._notes.task = task

    def identify(self, digest: str, files: int, total_bytes: int) -> Job | None:
        """Note the document; the other job of the same document that matters, if there is one."""
        other = self._patiently(lambda: self._store.identify(self.fence, digest, files, total_bytes))
        self._job = self._store.held(self.fence)
        return other

    def admit(self, project: str, most: int | None) -> None:
        """Raise ProjectBusy where ``most`` other jobs of the project are at work."""
        if most is not None and not self._store.admit(self.fence, project, most):
            raise ProjectBusy(f"{counted(most, 'job')} of project {quoted(project)} may run at once")

    def holds(self, other: Job) -> bool:
        """Whether another job has a living holder."""
        return other.holder is not None and not self._store.is_dead(other)

    def supersede(self, other: Job) -> None:
        """Make what another job of the same document has stored this one's."""
        with self._fencing:  # a heartbeat with the fence of before would find the lease lost
            self._job = self._store.supersede(self.fence, other)

    def reserve(self, ids: range, sources: list[str] | None, mounts: Collection[Path] = ()) -> None:
        """The files' ids are reserved. Durable on return: before the first file is stored."""
        self._job = self._store.reserve(self.fence, ids, sources, mounts)

    def checkpoint(self, stored: int) -> None:
        """The first ``stored`` files are durable in the archive."""
        with self._noted:
            self._notes.stored = stored
        if self._job.reservation is not None:
            self._job = replace(self._job, reservation=replace(self._job.reservation, stored=stored))
        log.info("job %d: checkpoint: %s stored", self.job_id, counted(stored, "file"))

    def tell(self, text: str) -> None:
        """Have what a person may like to know of the job kept."""
        with self._noted:
            self._notes.told.append(text)

    def sources(self) -> list[str] | None:
        """Where the files of a move lay, in document order."""
        return self._store.sources(self.job_id)

    def request(self) -> str:
        """What was asked for with the folder of the job."""
        return self._store.request(self.job_id)

    def require_mounted(self, paths: Iterable[Path] | None = None) -> None:
        """Raise ResourceUnavailable where a disk that the job's files, or these of them, lay on is not mounted."""
        mounts = [mount for mount in self._store.mounts(self.job_id) if is_away(mount)]
        if mounts and paths is not None:
            folders = {path.parent for path in paths}
            mounts = [mount for mount in mounts if any(lies_below(folder, mount) for folder in folders)]
        if mounts:
            raise ResourceUnavailable(f"nothing is mounted at {mounts[0]}, where files of {self._job.source} lay")

    @again
    def undo(self, to: JobState, task: str, reason: str, *, successor: int | None = None) -> Job:
        """The job is to end in the state ``to``, once what is stored is rolled back."""
        self._leave()

        def undo() -> Job:
            with self._noting():
                return self._store.undo(self.fence, to, task, reason, successor=successor)

        self._job = self._patiently(undo)
        self._task = self._job.task
        self._percent = self._job.task_percent
        return self._job

    def rolled_back(self) -> Job:
        """The archive holds nothing of the job, durably."""
        return self._store.rolled_back(self.fence)

    def hold(self, note: str) -> Job:
        """Something could not be rolled back."""
        return self._store.hold(self.fence, note)

    @again
    def record(self) -> Job:
        """The catalogue has the job."""
        self._leave()
        with self._noted:
            self._notes.task = self._notes.stored = None  # nobody asks any more

        def record() -> Job:
            with self._noting():
                return self._store.record(self.fence)

        return self._patiently(record)

    @again
    def requeue(self) -> None:
        """Another run may resume the job."""
        self._leave()
        with self._noting():
            self._store.requeue(self.fence)

    @again
    def defer(self, task: str, reason: str, *, is_attempt: bool = True, is_crowded: bool = False) -> None:
        """The job is retried after a backoff, which is twice as long each time, unless the project ``is_crowded``.

        After so many runs that were attempts it is settled instead.
        """
        self._leave()
        job, timings = self._job, self._timings
        if is_attempt and job.attempts >= timings.attempts and job.state is not JobState.UNDOING:
            with self._noting():
                self._store.exhaust(self.fence, task, reason)
            return
        earlier = max(0, job.attempts - 1) + (0 if is_attempt else job.waits)
        doublings = 0 if is_crowded else min(earlier, 30)
        backoff = min(timings.longest_backoff, timings.first_backoff * 2.0**doublings)
        with self._noting():
            self._store.defer(self.fence, task, reason, backoff, is_attempt=is_attempt)

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Say from a thread that the run lives, and notice there when it is to stop.

        Raises ResourceUnavailable where no thread can be started.
        """

        def beat(store: JobStore) -> bool:
            # The run may be about to tell the store something itself, which takes as long as others have it wait.
            if self._fencing.acquire(timeout=CHANGING_SECONDS):
                try:
                    self._renew(store)
                finally:
                    self._fencing.release()
            return not isinstance(self._ending, LeaseLost)

        try:
            with self._heart.beating(self._store, beat):
                yield
        finally:
            if self._is_alone:
                self._heart.end()

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What comes of asking the store, which is waited for where it is on another machine and away for a while: the
        run need not begin anew for that. What is asked can be asked twice: it may have been done, and nobody heard.
        """
        deadline = _clock() + self._timings.away
        while True:
            try:
                return ask()
            except Unavailable:
                is_shared = self._store.attendance is not None
                if not is_shared or self.interrupted or _clock() > deadline:
                    raise
            self.wait(self._timings.pause)

    def _ask_by_any_thread(self) -> None:
        if threading.get_ident() == self._thread:
            self._ask(self._store)
        else:
            with self._store.another() as store:
                self._ask(store)

    def _renew(self, store: JobStore) -> None:
        """Say that the run lives. Others are not to change the job meanwhile."""
        began = _clock()
        try:
            with self._telling(store, durable=False):
                wish = store.heartbeat(self.fence, self._percent)
        except LeaseLost as lost:
            self._ending = lost
        else:
            self._confirmed = self._renewed = began
            self._note_wish(wish)

    def _ask(self, store: JobStore) -> None:
        """Find out whether the run still has its lease, and have nobody take it for dead soon."""
        began = _clock()
        if began - self._renewed > self._timings.stale / 10:
            with self._fencing:
                self._renew(store)
            return
        try:
            wish = store.held(self.fence).override
        except LeaseLost as lost:
            self._ending = lost
        else:
            self._confirmed = began
            self._note_wish(wish)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Change the job in the block, and make what the store is to be told besides one with that. Others wait."""
        with self._fencing, self._telling(self._store, durable=True):
            yield

    @contextmanager
    def _telling(self, store: JobStore, *, durable: bool) -> Iterator[None]:
        """Tell the store what is noted, in one with what the block does. Others are not to change the job meanwhile."""
        with self._noted:
            notes, self._notes = self._notes, _Notes()
        try:
            with store.together(durable=durable):
                notes.write(store, self.fence)
                yield
        except BaseException:
            with self._noted:
                self._notes = notes.before(self._notes)
            raise

    def _note_wish(self, wish: Override | None) -> None:
        if wish is not None and self._ending is None and self._job.state is JobState.RUNNING:
            self._ending = StopRequested(wish.exception or "stopped by an administrator")

    def _require_no_ending(self) -> None:
        ending = self._ending
        # Who rolls back is carrying out what was wished.
        is_heeded = isinstance(ending, StopRequested) and self._job.state is JobState.UNDOING
        if ending is not None and not is_heeded:
            raise ending

    def _leave(self) -> None:
        if self._entered is not None:
            seconds = time.monotonic() - self._entered
            self._entered = None
            log.info("job %d: %s took %.2f s", self.job_id, self.task, seconds)
            with self._noted:
                self._notes.seconds[self.task] = self._notes.seconds.get(self.task, 0.0) + seconds


def _clock() -> float:
    """Seconds, those included for which the machine was suspended, where the system counts them."""
    return time.clock_gettime(CLOCK)

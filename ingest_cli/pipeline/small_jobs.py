"""Runs the small jobs of a worker: several at once, so that one process waits for the disk for all of them together.

A job that kills its process kills those beside it. So only those run beside others that were never run before: one that
was, be it that it was to blame or not, runs alone, and whoever kills the process then is alone to blame.

Memory is bounded by what a small bundle is, and by the share that each of so many may keep of what it reads. One that
is packed may hold a thousand times of what it seems to, which is too much for so many at once: it runs alone. What lies
in the shared spool is known to be packed only when it was got: of those one is run at a time (see `spooled`).

What is to be told of a job is kept until those begun before it have ended, unless that takes long: it is told in the
thread that leased it, as if the jobs ran one by one.
"""

import time
from collections import deque
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import Interrupted, Unavailable
from ..jobs.group_commit import Shared
from ..jobs.job import Job, JobKind, JobState
from ..settings import Settings
from .kept import Kept
from .observer import ObserveJob
from .runner import Runner
from .runner_threads import RunnerThreads, another_runner
from .small import SMALL_BYTES, is_plain, is_small, may_be_several, most_at_once
from .spooled import Spooled

# For so long those behind a job wait for it to be told of.
TURN_SECONDS = 1.0
# How often whoever looks on hears of a job that takes its time.
TELL_SECONDS = 0.1


class _Begun:
    """A job that was leased, and is ``kept`` until it is run.

    ``error`` is what ended its run that is not noted with the job.
    """

    def __init__(self, job: Job, observe: ObserveJob, pause: float, kept: ExitStack) -> None:
        self.job, self.job_id, self.kept = job, job.job_id, kept
        self.error: BaseException | None = None
        self.has_ended = False
        # Made before it runs: whoever makes it may say how much is told of a run.
        self._observer = observe(job)
        self._heard, self._pause, self._since = Kept(), pause, time.monotonic()

    @property
    def is_late(self) -> bool:
        """Whether it is not waited for any longer by those to be told of behind it."""
        return time.monotonic() - self._since > TURN_SECONDS

    def run(self, runner: Runner) -> None:
        """Run it, in any thread."""
        try:
            self.kept.close()
            self._heard.settled(runner.run_leased(self.job, self._heard))
        except BaseException as error:  # noqa: BLE001 - it is raised by who hears of it
            self.error = error
        # Else this process would hold it for good, where it could not be settled.
        while not runner.interrupted:
            try:
                runner.let_go_of_unsettled()
                return
            except Unavailable:
                runner.wait(self._pause)

    def tell(self) -> None:
        """Tell whoever looks on what is new of it."""
        self._heard.tell(self._observer)


class SmallJobs:
    """The small jobs that are at work beside ``runner``, for as long as a ``with`` block lasts.

    The end of the block waits for them, and raises Interrupted where one was left.
    """

    def __init__(
        self, settings: Settings, shared: Shared, runner: Runner, spooled: Spooled, observe: ObserveJob
    ) -> None:
        self._settings, self._runner, self._spooled, self._observe = settings, runner, spooled, observe
        most = most_at_once()
        another = partial(another_runner, settings, shared, runner, most)
        self._threads: RunnerThreads[_Begun] = RunnerThreads(another, most, runner.precedence)
        self._begun: deque[_Begun] = deque()
        self._was_left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._runner.interrupt()
        self._threads.end()
        # On a second signal nobody waits for the threads, and their jobs outlive them.
        if isinstance(error, KeyboardInterrupt):
            return
        self._hear(self._threads.wait())
        if self._was_left and error is None:
            raise Interrupted

    @property
    def room(self) -> int:
        """How many more can be run at once, as far as is known."""
        return self._threads.room

    @property
    def are_at_work(self) -> bool:
        """Whether there are any."""
        return self._threads.at_work > 0

    def may_take(self, job: Job) -> bool:
        """Whether a job that was just leased may be run beside others."""
        if job.attempts > 1 or job.state is not JobState.RUNNING or job.kind is not JobKind.BUNDLE:
            return False
        if job.is_shared:
            return may_be_several(self._settings) and self._spooled.is_within(job, SMALL_BYTES)
        path = Path(job.source)
        return is_small(path, self._settings) and is_plain(path)

    def take(self, job: Job, kept: ExitStack) -> None:
        """Run a job that was leased, and is ``kept`` until then. Raises IngestError where there is no thread that
        could."""
        begun = _Begun(job, self._observe, self._settings.timings.pause, kept.pop_all())
        try:
            self._threads.give(begun)
        except BaseException:
            begun.kept.close()
            raise
        self._begun.append(begun)

    def wait(self, seconds: float) -> None:
        """Wait until one has ended, but no longer than this, and tell what is new.

        Raises what a run ended with that is not noted with its job.
        """
        self._hear(self._threads.ended(seconds))

    def _hear(self, ended: list[_Begun]) -> None:
        for begun in ended:
            begun.has_ended = True
            self._was_left |= isinstance(begun.error, Interrupted)
        self._tell()
        for begun in ended:
            if begun.error is not None and not isinstance(begun.error, Interrupted):
                raise begun.error

    def _tell(self) -> None:
        """Tell of those whose turn it is."""
        untold, is_turn = deque[_Begun](), True
        for begun in self._begun:
            if is_turn:
                begun.tell()
            if not (is_turn and begun.has_ended):
                untold.append(begun)
            is_turn = is_turn and (begun.has_ended or begun.is_late)
        self._begun = untold

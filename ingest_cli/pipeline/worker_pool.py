"""Workers that run jobs from the queue: one in this process, or a supervised pool of processes."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import ExitCode, IngestError, Interrupted, Unavailable
from ..events.sender import LAST_SECONDS, Tell, sending
from ..jobs.dispatch import dispatching
from ..jobs.group_commit import Shared
from ..jobs.job import Job
from ..jobs.store import open_store
from ..services.factory import connect
from ..settings import Settings
from ..streams import flush, guard
from .attending import attending
from .observer import ObserveJob
from .runner import Runner
from .shutdown import graceful_shutdown
from .small_jobs import TELL_SECONDS, SmallJobs
from .spooled import Spooled

# By so much earlier than this process its workers end, on a signal to this process.
SPARE_SECONDS = 0.5


def work(settings: Settings, observe: ObserveJob, tell: Tell, *, until_empty: bool) -> None:
    """Run jobs from the queue, until it is empty or for ever. SIGINT and SIGTERM end it gracefully.

    ``observe`` makes the observer of a job, and ``tell`` is told what a person should know besides. Raises Interrupted
    where a job was left unfinished.
    """
    with (
        Shared() as shared,
        open_store(settings, shared=shared) as store,
        connect(settings, store, shared=shared) as services,
        dispatching(settings, store) as dispatch,
        Spooled(settings) as spooled,
    ):
        # Of a pool the process that has it sends the events.
        is_alone = multiprocessing.parent_process() is None
        events = sending(settings, tell, last=_last(until_empty=until_empty)) if is_alone else nullcontext()
        with (
            Runner(settings, services, store, dispatch=dispatch, spooled=spooled) as runner,
            events,
            attending(settings, "worker"),
            graceful_shutdown(runner, settings.timings.grace),
            SmallJobs(settings, shared, runner, spooled, observe) as small,
        ):
            _Worker(settings, runner, small, observe, tell).work(until_empty=until_empty)


def _last(*, until_empty: bool) -> float:
    """How long events are still sent after the last job: what runs until it is told to end has sent them before."""
    return LAST_SECONDS if until_empty else 0.0


class _Worker:
    """Runs jobs of the queue: those that may take long, or were run before, alone, and the others with ``small``."""

    def __init__(self, settings: Settings, runner: Runner, small: SmallJobs, observe: ObserveJob, tell: Tell) -> None:
        self._timings, self._runner, self._small = settings.timings, runner, small
        self._observe, self._tell = observe, tell

    def work(self, *, until_empty: bool) -> None:
        """Go on until the runner is interrupted, or the process is left without its parent."""
        parent = multiprocessing.parent_process()
        while not self._runner.interrupted and (parent is None or parent.is_alive()):
            try:
                was_any = self._run_some()
                if self._small.are_at_work:
                    self._small.wait(TELL_SECONDS)
                elif until_empty and not was_any:
                    return
                elif not was_any:
                    self._runner.wait_for_next()
            except Unavailable as error:
                self._tell(str(error))
                self._runner.wait(self._timings.pause)

    def _run_some(self) -> bool:
        """Run what comes next, or begin to, for as long as there is room; whether there was anything.

        None is leased before the one before it is at work: no other host would run what waits here.
        """
        was_any = False
        while self._small.room and not self._runner.interrupted and (job := self._runner.lease_next()) is not None:
            was_any = True
            if not self._is_begun(job):
                self._run_alone(job)
                break
        return was_any

    def _is_begun(self, job: Job) -> bool:
        """Begin to run a job that was leased, if it may run beside others; else wait for those."""
        # A disk may take its time to say how large a bundle on it is.
        with self._runner.keeping(job) as kept:
            if self._small.may_take(job):
                with suppress(IngestError):  # there is no thread, nor what one would need
                    self._small.take(job, kept)
                    return True
            else:
                self._wait_for_others()
        return False

    def _run_alone(self, job: Job) -> None:
        observer = self._observe(job)
        observer.settled(self._runner.run_leased(job, observer))

    def _wait_for_others(self) -> None:
        """Wait until no other job is at work, but not for one that takes its time."""
        deadline = time.monotonic() + self._timings.stale / 10
        while self._small.are_at_work and time.monotonic() < deadline:
            try:
                self._small.wait(TELL_SECONDS)
            except Unavailable as error:  # of another job: the next one is run even so
                self._tell(str(error))


class WorkerPool:
    """``count`` processes that `work`, for as long as a ``with`` block lasts; one that dies is replaced.

    ``observe`` and ``tell`` are called in the processes, so they must be importable (a function or a partial of one). A
    process that is left without its parent ends after the current job. ``interrupted`` says at the end whether one left
    its job.
    """

    def __init__(
        self, settings: Settings, count: int, observe: ObserveJob, tell: Tell, *, until_empty: bool = False
    ) -> None:
        self.interrupted = False
        grace = max(0.0, settings.timings.grace - SPARE_SECONDS)
        settings = replace(settings, timings=replace(settings.timings, grace=grace))
        self._timings = settings.timings
        self._events, self._stack = sending(settings, tell, last=_last(until_empty=until_empty)), ExitStack()
        self._work = partial(_work, settings, observe, tell, until_empty=until_empty)
        self._count = count
        self._processes: list[BaseProcess] = []
        self._closing = threading.Event()
        self._deadline: float | None = None
        self._told: list[BaseProcess] = []
        # Waited for in place of the thread: a join that a signal interrupts takes the thread for ended (bpo-45274).
        self._supervision_ended = threading.Event()

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._add()
            self._stack.enter_context(self._events)
            threading.Thread(target=self._supervise, name="worker pool", daemon=True).start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._supervision_ended.wait()
        self._end()
        self._stack.__exit__(kind, error, trace)

    def stop(self) -> None:
        """Tell all to end after the current file. The end of the block waits for them. A signal may call this."""
        self._closing.set()
        if self._deadline is None:
            self._deadline = time.monotonic() + self._timings.ending
        # Once each: a second signal would end it at once.
        for process in self._processes.copy():
            if process not in self._told:
                self._told.append(process)
                process.terminate()

    def wait(self) -> None:
        """Wait until all have found the queue empty."""
        self._supervision_ended.wait()

    def _end(self) -> None:
        self.stop()
        assert self._deadline is not None
        try:
            for process in self._processes:
                process.join(max(0.0, self._deadline - time.monotonic()))
                # One that was told before it listened had no job yet.
                self.interrupted |= process.exitcode not in (0, -signal.SIGTERM)
        finally:
            # What is killed here is in the queue still.
            for process in self._processes:
                process.kill()
                process.join()

    def _add(self) -> None:
        _leave_unusable_folder()
        # Daemonic: a signal that comes before all is set up must not leave this process waiting for its children.
        process = multiprocessing.get_context("spawn").Process(target=self._work, daemon=True)
        process.start()
        self._processes.append(process)

    def _supervise(self) -> None:
        try:
            while self._processes and not self._closing.is_set():
                wait([process.sentinel for process in self._processes], timeout=self._timings.poll)
                for process in [process for process in self._processes if not process.is_alive()]:
                    self._processes.remove(process)
                    if process.exitcode != 0 and not self._closing.wait(self._timings.pause):
                        self._add()
        finally:
            self._supervision_ended.set()


def _leave_unusable_folder() -> None:
    """Leave a working directory that is gone or cannot be entered any more: a new process is begun in the same one."""
    try:
        os.chdir(Path.cwd())
    except OSError:
        os.chdir("/")


def _work(settings: Settings, observe: ObserveJob, tell: Tell, *, until_empty: bool) -> None:
    # Until `work` listens, a signal ends the process as a shell would: without a traceback.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    guard()
    try:
        work(settings, observe, tell, until_empty=until_empty)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except IngestError as error:
        # Such as a disk that is not mounted: another process tries again.
        tell(str(error))
        sys.exit(error.exit_code)
    finally:
        flush()

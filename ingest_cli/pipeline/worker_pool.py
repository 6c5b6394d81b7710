"""Workers that run jobs from the queue: one in this process, or a supervised pool of processes."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack, nullcontext
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
        # In their order. None but the last of them may be one to be run alone.
        self._leased: deque[Job] = deque()

    def work(self, *, until_empty: bool) -> None:
        """Go on until the runner is interrupted, or the process is left without its parent."""
        parent = multiprocessing.parent_process()
        while not self._runner.interrupted and (parent is None or parent.is_alive()):
            try:
                was_any = self._run_next()
                if self._small.are_at_work:
                    self._small.wait(TELL_SECONDS)
                elif until_empty and not was_any:
                    return
                elif not was_any:
                    self._runner.wait_for_next()
            except Unavailable as error:
                self._tell(str(error))
                self._runner.wait(self._timings.pause)

    def _run_next(self) -> bool:
        """Run what comes next, or begin to; whether there was anything."""
        if not self._leased:
            self._lease()
        was_any = bool(self._leased)
        while self._leased:
            if len(self._leased) > 1 or self._small.may_take(self._leased[0]):
                self._run_beside_others(self._leased.popleft())
            else:
                self._wait_for_others()
                self._run_alone(self._leased.popleft())
        return was_any

    def _lease(self) -> None:
        """Lease as many jobs as can be run at once, or those up to one that is to be run alone."""
        first = self._runner.lease_next() if self._small.room else None
        if first is not None:
            self._leased.append(first)
            if self._small.may_take(first) and self._small.room > 1:
                self._leased += self._leased_together(self._small.room - 1)

    def _leased_together(self, most: int) -> list[Job]:
        jobs: list[Job] = []
        with self._runner.leasing_together():
            while len(jobs) < most and (job := self._runner.lease_next()) is not None:
                jobs.append(job)
                if not self._small.may_take(job):
                    break
        return jobs

    def _run_beside_others(self, job: Job) -> None:
        try:
            self._small.take(job)
        except IngestError:  # there is no thread, nor what one would need
            self._run_alone(job)

    def _run_alone(self, job: Job) -> None:
        observer = self._observe(job)
        observer.settled(self._runner.run_leased(job, observer))

    def _wait_for_others(self) -> None:
        """Wait until no other job is at work, but no longer than the lease of the next one can do without a run."""
        deadline = time.monotonic() + self._timings.stale / 10
        while self._small.are_at_work and time.monotonic() < deadline:
            self._small.wait(TELL_SECONDS)


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

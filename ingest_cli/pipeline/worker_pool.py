"""Workers that run jobs from the queue: one in this process, or a supervised pool of processes."""

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

from ..errors import ExitCode, IngestError, Interrupted, Unavailable
from ..jobs.job import Job
from ..jobs.store import open_store
from ..services.factory import connect
from ..settings import Settings
from ..streams import keep_lines_whole
from .observer import Observer
from .runner import Runner
from .shutdown import graceful_shutdown

ObserveJob = Callable[[Job], Observer]


def work(settings: Settings, observe: ObserveJob, *, until_empty: bool) -> None:
    """Run jobs from the queue, until it is empty or for ever. SIGINT and SIGTERM end it gracefully.

    ``observe`` makes the observer of a job. Raises Interrupted where a job was left unfinished.
    """
    timings = settings.timings
    with open_store(settings) as store, connect(settings, store) as services:
        runner = Runner(settings, services, store)
        with graceful_shutdown(runner, timings.grace):
            _work_until(runner, settings, observe, until_empty=until_empty)


def _work_until(runner: Runner, settings: Settings, observe: ObserveJob, *, until_empty: bool) -> None:
    timings, parent = settings.timings, multiprocessing.parent_process()
    while not runner.interrupted:
        if parent is not None and not parent.is_alive():
            return
        try:
            job = runner.lease_next()
            if job is not None:
                observer = observe(job)
                observer.settled(runner.run_leased(job, observer))
            elif until_empty:
                return
            else:
                runner.wait(timings.poll)
        except Unavailable as error:
            print(f"ingest: {error}", file=sys.stderr, flush=True)
            runner.wait(timings.pause)


class WorkerPool:
    """``count`` processes that `work`, for as long as a ``with`` block lasts; one that dies is replaced.

    ``observe`` is called in the processes, so it must be importable (a function or a partial of one). A process that is
    left without its parent ends after the current job. ``interrupted`` says at the end whether one left its job.
    """

    def __init__(self, settings: Settings, count: int, observe: ObserveJob, *, until_empty: bool = False) -> None:
        self.interrupted = False
        self._timings = settings.timings
        self._work = partial(_work, settings, observe, until_empty=until_empty)
        self._count = count
        self._processes: list[BaseProcess] = []
        self._closing = threading.Event()
        # Waited for in place of the thread: a join that a signal interrupts takes the thread for ended (bpo-45274).
        self._supervision_ended = threading.Event()

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._add()
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

    def wait(self) -> None:
        """Wait until all have found the queue empty."""
        self._supervision_ended.wait()

    def _end(self) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + self._timings.grace + self._timings.pause
        try:
            for process in self._processes:
                process.join(max(0.0, deadline - time.monotonic()))
                # One that was told before it listened had no job yet.
                self.interrupted |= process.exitcode not in (0, -signal.SIGTERM)
        finally:
            # What is killed here is in the queue still.
            for process in self._processes:
                process.kill()
                process.join()

    def _add(self) -> None:
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


def _work(settings: Settings, observe: ObserveJob, *, until_empty: bool) -> None:
    # Until `work` listens, a signal ends the process as a shell would: without a traceback.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_lines_whole()
    try:
        work(settings, observe, until_empty=until_empty)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except IngestError as error:
        # Such as a disk that is not mounted: another process tries again.
        print(f"ingest: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)

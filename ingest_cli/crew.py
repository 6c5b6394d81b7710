"""Workers that take jobs from the queue: one in this process, or a crew of processes that is watched over."""

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
from typing import Protocol, Self

from .errors import ExitCode, Interrupted, ServiceUnavailable
from .jobs import Job
from .leaving import GRACE_SECONDS, leaving_gently
from .services import connect
from .settings import Settings
from .streams import keep_lines_whole
from .worker import Watcher, Worker

# How long a worker without a job waits before it looks again.
LOOK_SECONDS = 0.2
# How long a store that cannot be used is left alone, and a worker that died is not replaced.
REST_SECONDS = 1.0


class Reporter(Watcher, Protocol):
    """Someone who sees many jobs, one after the other."""

    def settled(self, job: Job) -> None:
        """A run of a job has come to its end: complete, failed or put off."""


def work(settings: Settings, watch: Callable[[Job], Reporter], *, until_empty: bool) -> None:
    """Run jobs from the queue, until it is empty or for ever. SIGINT and SIGTERM end it gently.

    ``watch`` makes the one who sees a job. Raises Interrupted where a job was left unfinished.
    """
    with connect(settings) as services, Worker(settings, services) as worker, leaving_gently(worker):
        parent = multiprocessing.parent_process()
        while not worker.interrupted:
            if parent is not None and not parent.is_alive():
                return
            try:
                job = worker.claim_next()
                if job is not None:
                    reporter = watch(job)
                    reporter.settled(worker.run_claimed(job, reporter))
                elif until_empty:
                    return
                else:
                    worker.wait(LOOK_SECONDS)
            except ServiceUnavailable as error:
                print(f"ingest: {error}", file=sys.stderr, flush=True)
                worker.wait(REST_SECONDS)


class Crew:
    """``count`` processes that `work`, for as long as a ``with`` block lasts; one that dies is replaced.

    ``watch`` is called in the processes, so it must be importable (a function or a partial of one). A process that is
    left without its parent ends after the job at hand. ``interrupted`` says at the end whether one left its job.
    """

    def __init__(
        self, settings: Settings, count: int, watch: Callable[[Job], Reporter], *, until_empty: bool = False
    ) -> None:
        self.interrupted = False
        self._work = partial(_work, settings, watch, until_empty)
        self._count = count
        self._processes: list[BaseProcess] = []
        self._leaving = threading.Event()
        self._tending = threading.Thread(target=self._tend, name="crew", daemon=True)

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self._add()
        self._tending.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._tending.join()
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS + REST_SECONDS
        try:
            for process in self._processes:
                process.join(max(0.0, deadline - time.monotonic()))
                self.interrupted |= process.exitcode != 0
        finally:
            # What is killed here is in the queue still.
            for process in self._processes:
                process.kill()
                process.join()

    def wait(self) -> None:
        """Wait until all have found the queue empty."""
        self._tending.join()

    def _add(self) -> None:
        # Daemonic: a signal that comes before all is set up must not leave this process waiting for its children.
        process = multiprocessing.get_context("spawn").Process(target=self._work, daemon=True)
        process.start()
        self._processes.append(process)

    def _tend(self) -> None:
        while self._processes and not self._leaving.is_set():
            wait([process.sentinel for process in self._processes], timeout=LOOK_SECONDS)
            for process in [process for process in self._processes if not process.is_alive()]:
                self._processes.remove(process)
                if process.exitcode != 0 and not self._leaving.wait(REST_SECONDS):
                    self._add()


def _work(settings: Settings, watch: Callable[[Job], Reporter], until_empty: bool) -> None:
    # Until `work` listens, a signal ends the process as a shell would: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_lines_whole()
    try:
        work(settings, watch, until_empty=until_empty)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)

"""Threads that run jobs with runners of their own, which write and sync together (see `jobs.group_commit`)."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from ..errors import IngestError, ResourceUnavailable
from ..jobs.group_commit import Shared
from ..jobs.store import open_store
from ..services.factory import connect
from ..settings import Settings
from .at_once import Another
from .precedence import Precedence
from .runner import Runner
from .small import shared_out


class Work(Protocol):
    """A job, or why there is none, that a thread runs."""

    @property
    def job_id(self) -> int | None:
        """The job's id."""

    def run(self, runner: Runner) -> None:
        """Run it. This raises nothing: whoever has given it finds in it what came of it."""


W = TypeVar("W", bound=Work)


@contextmanager
def another_runner(settings: Settings, shared: Shared, runner: Runner, at_once: int | None = None) -> Iterator[Runner]:
    """A runner for another thread beside this one, of so many ``at_once``, that writes together with others."""
    if at_once is not None:
        settings = shared_out(settings)
    with (
        open_store(settings, new=False, shared=shared) as store,
        connect(settings, store, shared=shared) as services,
    ):
        yield runner.another(services, store, at_once=at_once)


class RunnerThreads(Generic[W]):
    """At most so many threads, which do what they are given in the order in which they are given it; of jobs of one
    document, one after the other.

    Its methods are for one thread alone, the one that hears of what the others have done.
    """

    def __init__(self, another: Another, most: int, precedence: Precedence) -> None:
        self._another, self._most, self._precedence = another, most, precedence
        self._threads = self.at_work = 0
        self._is_full = False
        self._queue: SimpleQueue[W | None] = SimpleQueue()
        # What was done, and at the end of each thread why it ended.
        self._news: SimpleQueue[W | BaseException | None] = SimpleQueue()

    @property
    def room(self) -> int:
        """How many more can be done at once: none where no other thread could be had, until one of those that there are
        has done something, and it can be tried again."""
        return 0 if self._is_full else self._most - self.at_work

    def give(self, work: W) -> None:
        """Have it done. Raises IngestError where there is no thread that could, and none can be had now."""
        if self.at_work >= self._threads < self._most:
            self._add()
        if work.job_id is not None:
            self._precedence.begin(work.job_id)
        self.at_work += 1
        self._queue.put(work)

    def ended(self, seconds: float) -> list[W]:
        """What has been done since this was last asked, having waited no longer than this for the first.

        Raises what a thread has ended with unexpectedly.
        """
        done: list[W] = []
        try:
            self._hear(self._news.get(timeout=seconds), done)
            while True:
                self._hear(self._news.get_nowait(), done)
        except Empty:
            return done

    def end(self) -> None:
        """Have the threads end once they have done what they were given."""
        for _ in range(self._threads):
            self._queue.put(None)

    def wait(self) -> list[W]:
        """Wait for the threads, which were told to end; what they have done meanwhile."""
        done: list[W] = []
        while self._threads:
            self._hear(self._news.get(), done)
        return done

    def _hear(self, news: "W | BaseException | None", done: list[W]) -> None:
        if news is not None and not isinstance(news, BaseException):
            self.at_work -= 1
            self._is_full = False
            done.append(news)
            return
        self._threads -= 1
        if news is not None:
            raise news

    def _add(self) -> None:
        """Start one more thread, where that can be done."""
        try:
            with ExitStack() as stack:
                # Here, so that whoever gives something to do hears why nobody can do it.
                runner = stack.enter_context(self._another())
                name, closing = f"runner {self._threads + 1}", stack.pop_all()
                # Daemonic: on a second signal nobody waits for them, and their jobs outlive them.
                threading.Thread(target=self._work, args=(runner, closing), name=name, daemon=True).start()
        except (IngestError, RuntimeError) as error:
            if self._threads:
                self._is_full = True  # those that there are do it
                return
            raise error if isinstance(error, IngestError) else ResourceUnavailable(str(error)) from error
        self._threads += 1

    def _work(self, runner: Runner, closing: ExitStack) -> None:
        unexpected: BaseException | None = None
        try:
            with closing:
                while (work := self._queue.get()) is not None:
                    work.run(runner)
                    if work.job_id is not None:
                        self._precedence.end(work.job_id)
                    self._news.put(work)
                    del work  # what is waited for next may be long in coming
        except BaseException as error:  # noqa: BLE001 - it is raised where this thread is waited for
            unexpected = error
        self._news.put(unexpected)

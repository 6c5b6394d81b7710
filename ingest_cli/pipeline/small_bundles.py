"""Runs many small bundles of one command: several at once behind the scenes, one after the other for whoever looks on.

What a small bundle takes is time to wait for disks. So a few are submitted together, in their order, and run in threads
that commit and sync together (`jobs.group_commit`). What is to be told of one is kept until those before it have ended:
its observer hears of it in the thread that asked for all of them, as if they ran one by one.
"""

import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path

from ..errors import Interrupted, JobBusy
from ..jobs.job import Job
from .at_once import Another
from .batch import ObserveTask, Outcome, Task, as_it_stands, run_task
from .kept import Kept
from .observer import Observer
from .runner import Runner
from .runner_threads import RunnerThreads
from .shutdown import graceful_shutdown
from .small import most_at_once

# So many bundles are submitted together, and so many are submitted but not ended at most: what a signal leaves behind.
TOGETHER, MOST_BEGUN = 8, 32
# How often whoever looks on hears of a bundle that takes its time.
TELL_SECONDS = 0.1

# What becomes of bundles that are submitted together: the job of each, or why there is none.
SubmitTogether = Callable[[Runner, Sequence[Path]], Sequence[Job | Exception]]


def run_small_bundles(
    paths: Sequence[Path],
    submit: SubmitTogether,
    runner: Runner,
    another: Another,
    grace: float,
    observe: ObserveTask,
) -> list[Outcome]:
    """Ingest these bundles, and return their outcomes in order, as `run_tasks` does."""
    with graceful_shutdown(runner, grace), another() as submitter:
        bundles = _SmallBundles(paths, partial(submit, submitter), submitter, another, observe)
        try:
            bundles.run()
        finally:
            bundles.end()
            # On a second signal nobody waits for the threads, and their jobs outlive them.
            if not isinstance(sys.exception(), KeyboardInterrupt):
                bundles.wait()
    return bundles.outcomes


class _Begun:
    """A bundle that was submitted: it has a ``job``, or an error. Once it has ended, it has an ``outcome``, unless an
    ``error`` ended it that is not its own; where its job is busy it is postponed until all others have ended.
    The ``runner`` keeps the job until it is run."""

    def __init__(self, path: Path, job: Job | Exception, runner: Runner) -> None:
        self.path, self.job, self.heard = path, job, Kept()
        self.kept = runner.keeping(job) if isinstance(job, Job) else ExitStack()
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.is_postponed = False

    @property
    def job_id(self) -> int | None:
        return self.job.job_id if isinstance(self.job, Job) else None

    @property
    def has_ended(self) -> bool:
        return self.outcome is not None or self.error is not None

    def run(self, runner: Runner) -> None:
        """Run it, in any thread."""
        try:
            self.kept.close()
            outcome = run_task(Task(str(self.path), self._take), runner, None, self.heard, may_wait=True)
        except BaseException as error:  # noqa: BLE001 - it is raised by who waits for it
            self.error = error
            return
        if isinstance(outcome.error, JobBusy):
            self.is_postponed = True
        else:
            self.outcome = outcome

    def again(self) -> Task:
        """The task of a job that was busy: what it is of may be known as another job's by now."""
        assert self.job_id is not None
        return Task(str(self.path), partial(as_it_stands, self.job_id))

    def _take(self, _runner: Runner) -> AbstractContextManager[Job]:
        if isinstance(self.job, Exception):
            raise self.job
        return nullcontext(self.job)


class _SmallBundles:
    """Bundles that are submitted by one runner, in the thread that has it, and run by others, in threads of theirs."""

    def __init__(
        self,
        paths: Sequence[Path],
        submit: Callable[[Sequence[Path]], Sequence[Job | Exception]],
        runner: Runner,
        another: Another,
        observe: ObserveTask,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._paths, self._submit, self._runner = paths, submit, runner
        self._observe = observe
        self._threads: RunnerThreads[_Begun] = RunnerThreads(
            another, min(most_at_once(), len(paths)), runner.precedence
        )
        self._submitted = 0
        # In their order.
        self._begun: deque[_Begun] = deque()
        self._at_work: set[int | None] = set()
        self._observer: Observer | None = None

    def run(self) -> None:
        """Run all. Raises Interrupted once what was begun has ended, and the first unexpected error."""
        while self._begin_some() or self._begun:
            self._listen()
            while self._begun and self._tell(self._begun[0]):
                self._begun.popleft()
        if self._runner.interrupted:
            raise Interrupted

    def end(self) -> None:
        """Have the threads run no more."""
        if self._begun:
            self._runner.interrupt()
        self._threads.end()

    def wait(self) -> None:
        """Wait for the threads, which were told to end."""
        self._threads.wait()
        for bundle in self._begun:  # where there was no thread at all
            bundle.kept.close()

    def _begin_some(self) -> bool:
        """Submit some more, if there is room for them; whether there are any."""
        while self._submitted < len(self._paths) and not self._runner.interrupted:
            if len(self._begun) > MOST_BEGUN - TOGETHER:
                return True
            paths = _different(self._paths[self._submitted : self._submitted + TOGETHER])
            begun = [_Begun(path, job, self._runner) for path, job in zip(paths, self._submit(paths), strict=True)]
            self._begun += begun
            for bundle in begun:
                self._begin(bundle)
            self._submitted += len(paths)
        return False

    def _begin(self, bundle: _Begun) -> None:
        if bundle.job_id in self._at_work:
            bundle.is_postponed = True
            bundle.kept.close()
            return
        if bundle.job_id is not None:
            self._at_work.add(bundle.job_id)
        self._threads.give(bundle)

    def _listen(self) -> None:
        """Wait until a bundle has ended, but not for long: there may be something to tell of the first."""
        self._at_work -= {bundle.job_id for bundle in self._threads.ended(TELL_SECONDS)}

    def _tell(self, bundle: _Begun) -> bool:
        """Tell what is new of the first bundle that has not ended yet; whether it has by now."""
        if self._observer is None:
            self._observer = self._observe(str(bundle.path), len(self.outcomes) + 1, len(self._paths))
        if bundle.is_postponed:
            if self._at_work:
                return False
            if bundle.heard.is_heard:  # it was begun before whoever looks on, and is begun once more
                bundle.heard.tell(self._observer)
            bundle.outcome = run_task(bundle.again(), self._runner, None, self._observer)
        has_ended = bundle.has_ended
        if not bundle.is_postponed:
            bundle.heard.tell(self._observer)
        if not has_ended:
            return False
        self._observer = None
        if bundle.outcome is not None:
            self.outcomes.append(bundle.outcome)
        elif not isinstance(bundle.error, Interrupted):
            assert bundle.error is not None
            raise bundle.error
        return True


def _different(paths: Sequence[Path]) -> Sequence[Path]:
    """The first of the paths, until one comes again: its job is found once the first has one."""
    seen: set[Path] = set()
    for count, path in enumerate(paths):
        if path.absolute() in seen:
            return paths[:count]
        seen.add(path.absolute())
    return paths

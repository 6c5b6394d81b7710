"""Runs several jobs at once, in threads of this process.

Threads and not processes: what a run does mostly (hashing, reading, writing and syncing files, waiting for a service or
for the database) lets go of the interpreter's lock. On two cores 8 bundles of 100 MB, and 60 of a few small files, took
as long in two threads as in two processes, whose interpreters cost a quarter of a second each to begin with; and
several requests over HTTP wait for each other nowhere.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from queue import SimpleQueue

from ..errors import Interrupted, JobBusy, ResourceUnavailable
from ..jobs.job import Job
from .batch import ObserveTask, Outcome, TakeJob, Task, as_it_stands, run_task
from .observer import Observer
from .runner import Runner
from .shutdown import graceful_shutdown

# Opens a runner for another thread, which is told to end as the first one is.
Another = Callable[[], AbstractContextManager[Runner]]


def run_at_once(
    tasks: list[Task], at_once: int, runner: Runner, another: Another, grace: float, observe: ObserveTask
) -> list[Outcome]:
    """Run ``at_once`` of the tasks at a time, as `run_tasks` does; the outcomes are in the order of the tasks.

    Where several are of one file or one document, one is run, and the others after all else. In the main thread SIGINT
    and SIGTERM interrupt all jobs.
    """
    pool = _Pool(tasks, another, observe)
    with graceful_shutdown(runner, grace):
        pool.run(at_once, runner)
    if runner.interrupted:
        raise Interrupted
    for number in sorted(pool.postponed):
        task, job = tasks[number - 1], pool.outcomes[number].job
        if job is not None:  # what it is of may be known as another job's by now, or have been read to its end
            task = replace(task, job=partial(as_it_stands, job.job_id))
        pool.outcomes[number] = run_task(task, runner, grace, pool.postponed[number])
    return [pool.outcomes[number] for number in sorted(pool.outcomes)]


class _Pool:
    """Threads that run tasks until none is left, or until they are interrupted."""

    def __init__(self, tasks: list[Task], another: Another, observe: ObserveTask) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.postponed: dict[int, Observer] = {}
        self._waiting = deque(enumerate(tasks, 1))
        self._count, self._another, self._observe = len(tasks), another, observe
        self._at_work: set[int] = set()
        self._lock = threading.Lock()
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(self, at_once: int, runner: Runner) -> None:
        """Run all in so many threads. Raises the first unexpected error, once the other threads have ended."""
        errors = []
        for _ in range(self._started(min(at_once, self._count))):
            # Not a join, which a signal would interrupt for good (bpo-45274).
            error = self._ended.get()
            if error is not None:
                runner.interrupt()
                errors.append(error)
        if errors:
            raise errors[0]

    def _started(self, count: int) -> int:
        """How many threads of so many could be started."""
        for number in range(count):
            try:
                # Daemonic: on a second signal nobody waits for them, and their jobs outlive them.
                threading.Thread(target=self._work, name=f"runner {number + 1}", daemon=True).start()
            except RuntimeError as error:
                if not number:
                    raise ResourceUnavailable(str(error)) from error
                return number
        return count

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            with self._another() as runner:
                self._work_with(runner)
        except Interrupted:
            pass  # whoever waits for this thread knows
        except BaseException as unexpected:  # noqa: BLE001 - it is raised where this thread is waited for
            error = unexpected
        finally:
            self._ended.put(error)

    def _work_with(self, runner: Runner) -> None:
        while not runner.interrupted:
            try:
                number, task = self._waiting.popleft()
            except IndexError:
                return
            observer = self._observe(task.name, number, self._count)
            outcome = run_task(replace(task, job=self._claiming(task.job)), runner, 0.0, observer, may_wait=True)
            if isinstance(outcome.error, JobBusy):
                self.postponed[number] = observer
            self.outcomes[number] = outcome

    def _claiming(self, take: TakeJob) -> TakeJob:
        """Have each job run by one thread: the store only knows which process holds it."""

        @contextmanager
        def claimed(runner: Runner) -> Iterator[Job]:
            with take(runner) as job:
                with self._lock:
                    if job.job_id in self._at_work:
                        raise JobBusy(f"job {job.job_id} is being run")
                    self._at_work.add(job.job_id)
                try:
                    # Another thread may have ended it since it was found.
                    yield runner.store.get(job.job_id)
                finally:
                    self._at_work.remove(job.job_id)

        return claimed

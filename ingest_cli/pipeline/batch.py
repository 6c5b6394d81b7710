"""Runs several jobs, one after the other; the failure of one does not stop the others."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from ..errors import ExitCode, IngestError, Interrupted, JobBusy
from ..jobs.job import Job
from .observer import Observer
from .runner import Runner
from .shutdown import graceful_shutdown

ObserveTask = Callable[[str, int, int], Observer]
TakeJob = Callable[[Runner], AbstractContextManager[Job]]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be run: the ``name`` a person knows it by, and what yields its job for as long as a runner runs it."""

    name: str
    job: TakeJob


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one task: its job, if it got that far, and the error that ended it, if any."""

    name: str
    job: Job | None
    error: IngestError | None = None


def run_tasks(tasks: list[Task], runner: Runner, grace: float, observe: ObserveTask) -> list[Outcome]:
    """Run the tasks in order. ``observe`` makes an observer from a task's name, its number, and how many there are.

    In the main thread SIGINT and SIGTERM interrupt the current job after the current file, at the latest after
    ``grace`` seconds, and raise Interrupted or KeyboardInterrupt.
    """
    return [
        run_task(task, runner, grace, observe(task.name, number, len(tasks))) for number, task in enumerate(tasks, 1)
    ]


def exit_code(outcomes: Iterable[Outcome]) -> ExitCode:
    """The exit code of a command, from the outcomes of its jobs."""
    return ExitCode.of_errors(outcome.error for outcome in outcomes)


@contextmanager
def as_it_stands(job_id: int, runner: Runner) -> Iterator[Job]:
    """Take a job that there is, whatever has become of it."""
    yield runner.store.get(job_id)


def run_task(task: Task, runner: Runner, grace: float | None, observer: Observer, *, may_wait: bool = False) -> Outcome:
    """Run a task. Where its job is busy and it ``may_wait``, the observer hears that it is run again later.

    Without a ``grace``, signals are the caller's concern.
    """
    job: Job | None = None
    with observer:
        try:
            with task.job(runner) as job:
                with runner.keeping(job):
                    observer.started(job)
                try:
                    with graceful_shutdown(runner, grace) if grace is not None else nullcontext():
                        job = runner.run(job, observer)
                except Exception as error:
                    job = runner.store.get(job.job_id)
                    if not (may_wait and isinstance(error, JobBusy)):
                        observer.settled(job)
                    raise
                observer.settled(job)
        except Interrupted:
            raise
        except IngestError as error:
            if may_wait and isinstance(error, JobBusy):
                observer.postponed()
            else:
                observer.failed(error)
            return Outcome(task.name, job, error)
    return Outcome(task.name, job)

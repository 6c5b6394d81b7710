"""Runs several jobs, one after the other; the failure of one does not stop the others."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..errors import ExitCode, IngestError, Interrupted
from ..jobs.job import Job
from ..jobs.store import JobStore
from .observer import Observer
from .runner import Runner
from .shutdown import graceful_shutdown

ObserveTask = Callable[[str, int, int], Observer]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be run: the ``name`` a person knows it by, and what yields its job for as long as it runs."""

    name: str
    job: AbstractContextManager[Job]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one task: its job, if it got that far, and the error that ended it, if any."""

    name: str
    job: Job | None
    error: IngestError | None = None


def run_tasks(tasks: list[Task], runner: Runner, store: JobStore, grace: float, observe: ObserveTask) -> list[Outcome]:
    """Run the tasks in order. ``observe`` makes an observer from a task's name, its number, and how many there are.

    In the main thread SIGINT and SIGTERM interrupt the current job after the current file, at the latest after
    ``grace`` seconds, and raise Interrupted or KeyboardInterrupt.
    """
    return [
        _run(task, runner, store, grace, observe(task.name, number, len(tasks))) for number, task in enumerate(tasks, 1)
    ]


def exit_code(outcomes: Iterable[Outcome]) -> ExitCode:
    """The exit code of a command, from the outcomes of its jobs."""
    return ExitCode.of_errors(outcome.error for outcome in outcomes)


def _run(task: Task, runner: Runner, store: JobStore, grace: float, observer: Observer) -> Outcome:
    job: Job | None = None
    try:
        with observer, task.job as job:
            observer.started(job)
            try:
                with graceful_shutdown(runner, grace):
                    job = runner.run(job, observer)
            except Exception:
                job = store.get(job.job_id)
                observer.settled(job)
                raise
            observer.settled(job)
    except Interrupted:
        raise
    except IngestError as error:
        observer.failed(error)
        return Outcome(task.name, job, error)
    return Outcome(task.name, job)

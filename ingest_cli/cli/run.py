"""Run the jobs of a command line, one after the other, and end with the exit code of them all."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer

from ..errors import ExitCode, IngestError, Interrupted, SettingsError
from ..jobs.job import Job, JobKind
from ..jobs.process import this_process
from ..jobs.spool import spooled_input
from ..jobs.store import JobStore, open_store
from ..maintenance.receipt import write_receipt
from ..pipeline.runner import Runner
from ..pipeline.shutdown import gentle_shutdown
from ..pipeline.submission import submit
from ..services.base import Services
from ..services.factory import catalog, connect
from ..settings import Settings
from .output import Screen, screen_for

STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True)
class Run:
    """A job to be run: the ``name`` that the screen gives it, and what yields the job, once there is a store."""

    name: str
    job: Callable[[JobStore, Services], AbstractContextManager[Job]]


def run_files(
    kind: JobKind,
    paths: list[Path],
    settings: Settings,
    *,
    again: bool,
    receipt: Path | None,
    json: bool,
    quiet: bool,
) -> None:
    """Ingest every path, then exit as `run_jobs` does; write the ``receipt`` of a single one that is complete."""
    if receipt is not None and len(paths) > 1:
        raise SettingsError("--receipt is for one bundle: run the command once for each")
    runs = [
        Run("standard input", partial(_of_standard_input, kind, settings, again=again))
        if path == STANDARD_INPUT
        else Run(str(path), partial(_of_file, kind, path, settings, again=again))
        for path in paths
    ]
    jobs = run_jobs(runs, settings, again=again, json=json, quiet=quiet)
    if receipt is not None:
        with closing(catalog(settings)) as site_catalog, open_store(settings) as store:
            (job,) = jobs
            write_receipt(receipt, site_catalog, store.get(job.duplicate_of or job.job_id))


def queue_files(
    kind: JobKind,
    paths: list[Path],
    settings: Settings,
    *,
    again: bool,
    receipt: Path | None,
    json: bool,
    quiet: bool,
) -> None:
    """Enter a job for every path, for workers to run. Raises the error of the first that cannot be entered."""
    if receipt is not None:
        raise SettingsError("--receipt and --queue do not go together: there is nothing to write yet")
    if again:
        raise SettingsError("--again and --queue do not go together: a worker ingests what was not ingested before")
    with connect(settings) as services, open_store(settings) as store:
        for path in paths:
            if path == STANDARD_INPUT:
                raise SettingsError("a bundle on standard input cannot wait: give it as a file")
            screen = screen_for(str(path), json=json, quiet=quiet)
            screen.queued(submit(store, services.unique_id, kind, path, user=settings.user))


def run_jobs(runs: list[Run], settings: Settings, *, again: bool, json: bool, quiet: bool) -> list[Job]:
    """Run one after the other and return the jobs as they were settled.

    If any failed, exit: with the error's own code for a single one, else by the table of exit codes.
    SIGTERM and Ctrl-C end the job at hand after the file at hand, at the latest after some seconds; a second one ends
    it at once. The next run resumes it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settled, failures = _run_all(runs, settings, again=again, json=json, quiet=quiet)
    except KeyboardInterrupt:
        raise Interrupted from None
    if failures:
        raise typer.Exit(_exit_code(failures, len(runs)))
    return settled


@contextmanager
def _of_standard_input(
    kind: JobKind, settings: Settings, store: JobStore, services: Services, *, again: bool
) -> Iterator[Job]:
    with (
        spooled_input(sys.stdin.buffer, settings.spool) as spooled,
        _of_file(kind, spooled, settings, store, services, again=again, spooled=True) as job,
    ):
        yield job


@contextmanager
def _of_file(
    kind: JobKind,
    path: Path,
    settings: Settings,
    store: JobStore,
    services: Services,
    *,
    again: bool,
    spooled: bool = False,
) -> Iterator[Job]:
    user, holder = settings.user, this_process()
    yield submit(store, services.unique_id, kind, path, user=user, holder=holder, again=again, spooled=spooled)


def _run_all(
    runs: list[Run], settings: Settings, *, again: bool, json: bool, quiet: bool
) -> tuple[list[Job], list[IngestError]]:
    settled: list[Job] = []
    failures: list[IngestError] = []
    with connect(settings) as services, open_store(settings) as store:
        runner = Runner(settings, services, store, again=again)
        for number, run in enumerate(runs, 1):
            screen = screen_for(run.name, json=json, quiet=quiet, number=number, count=len(runs))
            try:
                with screen, run.job(store, services) as job:
                    settled.append(_run_one(runner, store, settings, job, screen))
            except Interrupted:
                raise
            except IngestError as error:
                if "--debug" in sys.argv:
                    raise
                screen.failed(error)
                failures.append(error)
    return settled, failures


def _run_one(runner: Runner, store: JobStore, settings: Settings, job: Job, screen: Screen) -> Job:
    screen.started(job)
    try:
        with gentle_shutdown(runner, settings.timings.grace):
            settled = runner.run(job, screen)
    except Exception:
        screen.settled(store.get(job.job_id))
        raise
    screen.settled(settled)
    return settled


def _exit_code(failures: list[IngestError], count: int) -> int:
    if len(failures) < count:
        return ExitCode.SOME_FAILED
    return ExitCode.of_failures(error.exit_code for error in failures)

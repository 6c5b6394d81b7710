"""Run the jobs of a command line, one after the other, and end with the exit code of them all."""

import signal
import sys
from pathlib import Path

import typer

from ..errors import ExitCode, IngestError, Interrupted
from ..jobs import JobKind
from ..services import connect
from ..settings import Settings
from ..upload import spooled_input
from ..worker import Worker
from .output import Screen, screen_for

STANDARD_INPUT = Path("-")


def run_jobs(kind: JobKind, paths: list[Path], settings: Settings, *, again: bool, json: bool, quiet: bool) -> None:
    """Ingest every path, then exit: with the error's own code for a single one, else by the table of exit codes.

    SIGTERM counts as Ctrl-C: the job is left for the next run to go on with.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failures = _run_all(kind, paths, settings, again=again, json=json, quiet=quiet)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command goes on from here") from None
    if failures:
        raise typer.Exit(_exit_code(failures, len(paths)))


def _run_all(
    kind: JobKind, paths: list[Path], settings: Settings, *, again: bool, json: bool, quiet: bool
) -> list[IngestError]:
    failures: list[IngestError] = []
    with connect(settings) as services, Worker(settings, services, again=again) as worker:
        for path in paths:
            screen = screen_for(path, json=json, quiet=quiet)
            try:
                if path == STANDARD_INPUT:
                    with spooled_input(sys.stdin.buffer, settings.spool) as spooled:
                        _run_one(worker, kind, spooled, screen)
                else:
                    _run_one(worker, kind, path, screen)
            except IngestError as error:
                if "--debug" in sys.argv:
                    raise
                screen.failed(error)
                failures.append(error)
    return failures


def _run_one(worker: Worker, kind: JobKind, path: Path, screen: Screen) -> None:
    with screen:
        job = worker.submit(kind, path)
        screen.started(job)
        try:
            settled = worker.run(job, screen)
        except Exception:
            screen.settled(worker.state(job.job_id))
            raise
        screen.settled(settled)


def _exit_code(failures: list[IngestError], count: int) -> int:
    if len(failures) < count:
        return ExitCode.SOME_FAILED
    codes = {error.exit_code for error in failures}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED

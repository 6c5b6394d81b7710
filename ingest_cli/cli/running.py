"""What the commands that submit and run jobs have in common."""

from functools import partial
from pathlib import Path

from .. import api
from ..errors import SettingsError
from ..jobs.job import JobKind
from ..settings import Settings
from .display import screen_for
from .options import RunOutput, Submission
from .output import finish, standard_input
from .signals import interruptible

STANDARD_INPUT = Path("-")


def submit_files(
    kind: JobKind, paths: list[Path], settings: Settings, submission: Submission, options: RunOutput
) -> None:
    """Ingest every path, or only queue it, as the options say; then exit as the table of exit codes says."""
    if submission.queue:
        _queue_files(kind, paths, settings, submission, options)
    else:
        _ingest_files(kind, paths, settings, submission, options)


def _ingest_files(
    kind: JobKind, paths: list[Path], settings: Settings, submission: Submission, options: RunOutput
) -> None:
    if submission.receipt is not None and len(paths) > 1:
        raise SettingsError("--receipt takes a single bundle: run the command once for each")
    sources = [standard_input() if path == STANDARD_INPUT else path for path in paths]
    with interruptible(settings.timings.ending):
        outcomes = api.ingest_files(
            kind, sources, partial(screen_for, options), settings=settings, again=submission.again
        )
    finish([outcome.error for outcome in outcomes], debug=options.debug)
    if submission.receipt is not None:
        for outcome in outcomes:
            assert outcome.job is not None
            api.save_receipt(outcome.job.job_id, submission.receipt, settings=settings)


def _queue_files(
    kind: JobKind, paths: list[Path], settings: Settings, submission: Submission, options: RunOutput
) -> None:
    if submission.receipt is not None:
        raise SettingsError("--receipt and --queue cannot be used together: there is nothing to write yet")
    if submission.again:
        raise SettingsError("--again and --queue cannot be used together: workers do not ingest again")
    if STANDARD_INPUT in paths:
        raise SettingsError("a bundle on standard input cannot be queued: give it as a file")
    errors = []
    for outcome in api.queue_each(kind, paths, settings=settings):
        screen = screen_for(options, outcome.name)
        if outcome.job is not None:
            screen.queued(outcome.job)
        if outcome.error is not None:
            screen.not_queued(outcome.error)
        errors.append(outcome.error)
    finish(errors, debug=options.debug)

"""What the commands that submit and run jobs have in common."""

from collections.abc import Sequence
from pathlib import Path

from .. import api
from ..errors import Interrupted, SettingsError
from ..jobs.job import JobKind
from ..pipeline.submission import FolderSource
from ..settings import Settings
from .display import is_live, screen_for
from .options import RunOutput, Submission, with_priority
from .output import finish, standard_input, warn
from .rates import rate_of
from .several import STANDARD_INPUT, Screens, sizes_of
from .signals import interruptible

# The same command would ingest once more what it has ingested.
INTERRUPTED_AGAIN = "interrupted; 'ingest retry --interrupted' resumes what was begun"
NOUNS = {JobKind.BUNDLE: "bundle", JobKind.MOVE: "document"}


def submit_files(
    kind: JobKind, paths: Sequence[Path | FolderSource], settings: Settings, submission: Submission, options: RunOutput
) -> None:
    """Ingest every path, or only queue it, as the options say; then exit as the table of exit codes says."""
    settings = with_priority(settings, submission.priority)
    if submission.queue:
        _queue_files(kind, paths, settings, submission, options)
    else:
        _ingest_files(kind, paths, settings, submission, options)


def _ingest_files(
    kind: JobKind, paths: Sequence[Path | FolderSource], settings: Settings, submission: Submission, options: RunOutput
) -> None:
    if submission.receipt is not None and len(paths) > 1:
        raise SettingsError("--receipt takes a single bundle: run the command once for each")
    sources = [standard_input() if path == STANDARD_INPUT else path for path in paths]
    files = [path for path in paths if isinstance(path, Path)]
    # The size of a document says nothing about those of its files.
    is_seen_together = submission.jobs > 1 and is_live(options)
    sizes = sizes_of(paths) if kind is JobKind.BUNDLE and is_seen_together else None
    noun = NOUNS[kind] if len(files) == len(paths) else "job" if files else "folder"
    screens = Screens(options, noun=noun, at_once=submission.jobs, sizes=sizes)
    rate = rate_of(submission.limit_rate)
    try:
        with interruptible(settings.timings.ending), screens:
            outcomes = api.ingest_files(
                kind,
                sources,
                screens,
                settings=settings,
                again=submission.again,
                at_once=submission.jobs,
                rate=rate,
                tell=warn,
            )
    except Interrupted:
        if not submission.again or len(paths) == 1:
            raise
        raise Interrupted(INTERRUPTED_AGAIN) from None
    finish([outcome.error for outcome in outcomes], debug=options.debug)
    if submission.receipt is not None:
        for outcome in outcomes:
            assert outcome.job is not None
            api.save_receipt(outcome.job.job_id, submission.receipt, settings=settings)


def _queue_files(
    kind: JobKind, paths: Sequence[Path | FolderSource], settings: Settings, submission: Submission, options: RunOutput
) -> None:
    if submission.receipt is not None:
        raise SettingsError("--receipt and --queue cannot be used together: there is nothing to write yet")
    if submission.again:
        raise SettingsError("--again and --queue cannot be used together: workers do not ingest again")
    if submission.jobs > 1 or submission.limit_rate is not None:
        raise SettingsError("--jobs, --limit-rate and --queue cannot be used together: workers run the jobs")
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

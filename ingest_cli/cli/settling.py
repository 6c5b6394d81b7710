"""What is said of jobs that were settled by hand."""

from collections.abc import Callable, Iterable

from ..jobs.fields import job_fields
from ..jobs.job import Job
from ..pipeline.batch import Outcome
from .options import QuietOutput
from .output import error_fields, finish, notify, say, write_json


def show_settled(
    job_ids: list[int], outcomes: Iterable[Outcome], said: Callable[[Job], str], options: QuietOutput
) -> None:
    """Show what came of each job, in what is ``said`` of it where it went well; exit as the table of codes says."""
    errors = []
    for job_id, outcome in zip(job_ids, outcomes, strict=True):
        errors.append(outcome.error)
        if options.json:
            fields = {"job_id": job_id} if outcome.job is None else job_fields(outcome.job)
            write_json({**fields, **error_fields(outcome.error)})
        if outcome.error is not None:
            if len(job_ids) == 1:
                raise outcome.error
            notify(outcome.error)
        elif outcome.job is not None and not (options.quiet or options.json):
            say(said(outcome.job))
    finish(errors, debug=options.debug)

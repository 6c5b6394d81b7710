"""``ingest cancel JOB_ID...``."""

from typing import TYPE_CHECKING, Annotated

import typer

from .chosen import Change, Chooser, Consent
from .command import command
from .completion import unfinished_job_ids
from .job_filter import Jobs
from .options import QuietOutput, Site

if TYPE_CHECKING:
    from ..jobs.job import Job


@command
def cancel(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to cancel.", autocompletion=unfinished_job_ids),
    ] = None,
    *,
    chosen: Jobs,
    consent: Consent,
    site: Site,
    options: QuietOutput,
) -> None:
    """Cancel jobs that are waiting or running.

    A process that works on one stops and rolls back what is stored. Cancelled jobs are never run again.
    """
    from .. import api
    from ..jobs.filter import DEFERRED, RUNNING, WAITING
    from .output import warn
    from .settling import show_settled

    possible = WAITING | DEFERRED | RUNNING
    change = Change("cancel", "cancelled", possible, possible)
    jobs = Chooser(change, chosen, consent, site.settings, json=options.json, quiet=options.quiet).choose(job_ids)
    show_settled(jobs, api.cancel_jobs(jobs, tell=warn, settings=site.settings), _said, options)


def _said(job: "Job") -> str:
    from ..jobs.job import JobState
    from ..jobs.process import Life

    if job.state is JobState.DISCARDED:
        return f"job {job.job_id}: cancelled; nothing of it is left in the archive"
    if job.state is JobState.UNDOING:
        return f"job {job.job_id}: is being rolled back already"
    is_stopped = job.holder is not None and job.holder.life() is Life.STOPPED
    when = "once it is continued" if is_stopped else "now"
    return f"job {job.job_id}: {job.holder} stops working on it {when}, and what is stored is rolled back"

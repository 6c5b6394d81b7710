"""``ingest discard JOB_ID...``."""

from typing import Annotated

import typer

from .chosen import Change, Chooser, Consent
from .command import command
from .completion import unfinished_job_ids
from .job_filter import Jobs
from .options import QuietOutput, Site


@command
def discard(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to discard.", autocompletion=unfinished_job_ids),
    ] = None,
    *,
    chosen: Jobs,
    consent: Consent,
    site: Site,
    options: QuietOutput,
) -> None:
    """Abandon jobs that are not complete.

    What they have stored is rolled back: the archive keeps none of it, and moved files return to their places.
    """
    from .. import api
    from ..jobs.filter import DEFERRED, FAILED, WAITING
    from .output import warn
    from .settling import show_settled

    possible = FAILED | DEFERRED | WAITING
    change = Change("discard", "discarded", possible, possible)
    jobs = Chooser(change, chosen, consent, site.settings, json=options.json, quiet=options.quiet).choose(job_ids)
    show_settled(
        jobs,
        api.discard_jobs(jobs, tell=warn, settings=site.settings),
        lambda job: f"job {job.job_id}: discarded; nothing of it is left in the archive",
        options,
    )

"""``ingest discard JOB_ID...``."""

from typing import Annotated

import typer

from .command import command
from .completion import unfinished_job_ids
from .options import QuietOutput, Site


@command
def discard(
    job_ids: Annotated[
        list[int],
        typer.Argument(metavar="JOB_ID", help="The jobs to discard.", autocompletion=unfinished_job_ids),
    ],
    site: Site,
    options: QuietOutput,
) -> None:
    """Abandon jobs that are not complete.

    What they have stored is rolled back: the archive keeps none of it, and moved files return to their places.
    """
    from .. import api
    from ..jobs.fields import job_fields
    from ..pipeline.batch import exit_code
    from .output import error_fields, notify, say, warn, write_json

    outcomes = []
    for job_id, outcome in zip(job_ids, api.discard_jobs(job_ids, tell=warn, settings=site.settings), strict=True):
        outcomes.append(outcome)
        if options.json:
            fields = {"job_id": job_id} if outcome.job is None else job_fields(outcome.job)
            write_json({**fields, **error_fields(outcome.error)})
        if outcome.error is not None:
            if len(job_ids) == 1:
                raise outcome.error
            notify(outcome.error)
        elif not (options.quiet or options.json):
            say(f"job {job_id}: discarded; nothing of it is left in the archive")
    code = exit_code(outcomes)
    if code:
        raise typer.Exit(code)

"""``ingest retry JOB_ID...``."""

from typing import Annotated

import typer

from ..errors import SettingsError
from .command import command
from .completion import unfinished_job_ids
from .options import Jobs, RunOutput, Site


@command
def retry(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to retry.", autocompletion=unfinished_job_ids),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Retry every failed job, oldest first.")] = False,
    interrupted: Annotated[
        bool, typer.Option("--interrupted", help="Retry every job that was interrupted or whose process died.")
    ] = False,
    jobs: Jobs = 1,
    *,
    site: Site,
    options: RunOutput,
) -> None:
    """Run failed or interrupted jobs again.

    Jobs keep their ids. Each resumes where it stopped, or starts afresh if it has stored nothing.
    """
    from .. import api
    from .output import finish, warn
    from .several import Screens
    from .signals import interruptible

    if bool(job_ids) == (failed or interrupted):
        raise SettingsError("give job ids, or --failed, or --interrupted")
    settings = site.settings
    with interruptible(settings.timings.ending), Screens(options, noun="job", at_once=jobs) as screens:
        outcomes = api.retry_jobs(
            job_ids or [], screens, failed=failed, interrupted=interrupted, settings=settings, at_once=jobs, tell=warn
        )
    finish([outcome.error for outcome in outcomes], debug=options.debug)

"""``ingest retry JOB_ID...``."""

from typing import Annotated

import typer

from ..errors import SettingsError
from .command import command
from .completion import unfinished_job_ids
from .options import RunOutput, Site


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
    *,
    site: Site,
    options: RunOutput,
) -> None:
    """Run failed or interrupted jobs again.

    Jobs keep their ids. Each resumes where it stopped, or starts afresh if it has stored nothing.
    """
    from functools import partial

    from .. import api
    from .display import screen_for
    from .output import finish
    from .signals import interruptible

    if bool(job_ids) == (failed or interrupted):
        raise SettingsError("give job ids, or --failed, or --interrupted")
    settings = site.settings
    with interruptible(settings.timings.ending):
        outcomes = api.retry_jobs(
            job_ids or [], partial(screen_for, options), failed=failed, interrupted=interrupted, settings=settings
        )
    finish([outcome.error for outcome in outcomes], debug=options.debug)

"""``ingest retry JOB_ID...``."""

from typing import Annotated

import typer

from .chosen import Change, Chooser, Consent
from .command import command
from .completion import unfinished_job_ids
from .job_filter import Jobs
from .options import Jobs as AtOnce
from .options import LimitRate, RunOutput, Site


@command
def retry(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to retry.", autocompletion=unfinished_job_ids),
    ] = None,
    interrupted: Annotated[
        bool, typer.Option("--interrupted", help="Only jobs that were interrupted or whose process died.")
    ] = False,
    at_once: AtOnce = 1,
    limit_rate: LimitRate = None,
    *,
    chosen: Jobs,
    consent: Consent,
    site: Site,
    options: RunOutput,
) -> None:
    """Run failed or interrupted jobs again.

    Jobs keep their ids. Each resumes where it stopped, or starts afresh if it has stored nothing. With --failed, those
    that are deferred are run too, at once.
    """
    from .. import api
    from ..jobs.filter import DEFERRED, FAILED, WAITING, JobStatus
    from .output import finish, warn
    from .rates import rate_of
    from .several import DONE_BEFORE, Screens
    from .signals import interruptible

    settings, rate = site.settings, rate_of(limit_rate)
    change = Change(
        "retry", "retried", FAILED | DEFERRED | WAITING, FAILED | DEFERRED | frozenset({JobStatus.INTERRUPTED})
    )
    chooser = Chooser(
        change,
        chosen,
        consent,
        settings,
        interrupted=interrupted,
        also=DEFERRED if chosen.failed else frozenset(),
        unasked=chosen in (Jobs(), Jobs(failed=True)),
        json=options.json,
        quiet=options.quiet,
    )
    jobs = chooser.choose(job_ids)
    if not jobs:
        return
    seen = Screens(options, noun="job", at_once=at_once, known=DONE_BEFORE)
    with interruptible(settings.timings.ending), seen as screens:
        outcomes = api.retry_jobs(jobs, screens, settings=settings, at_once=at_once, rate=rate, tell=warn)
    finish([outcome.error for outcome in outcomes], debug=options.debug)

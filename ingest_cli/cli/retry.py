"""``ingest retry JOB_ID...``."""

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SettingsError
from .completion import unfinished_job_ids
from .options import Config, Db, Debug, Json, Quiet, Verbose, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..jobs.job import Job
    from ..jobs.store import JobStore
    from ..services.base import Services


def retry(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to run again.", autocompletion=unfinished_job_ids),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every job that failed, oldest first.")] = False,
    interrupted: Annotated[
        bool, typer.Option("--interrupted", help="Every job that was interrupted or whose process died.")
    ] = False,
    config: Config = None,
    db: Db = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Run failed or interrupted jobs again.

    They keep their ids, and resume where they stopped, or begin anew where nothing of them is stored.
    """
    from ..jobs.store import open_store
    from ..pipeline.selection import failed_jobs, interrupted_jobs
    from .run import Run, run_jobs
    from .verbosity import set_verbosity

    set_verbosity(verbose, quiet=quiet)
    if bool(job_ids) == (failed or interrupted):
        raise SettingsError("give job ids, or --failed, or --interrupted")
    settings = settings_of(config, db)
    with open_store(settings) as store:
        jobs = [store.get(job_id) for job_id in job_ids or []]
        if failed:
            jobs += failed_jobs(store)
        if interrupted:
            jobs += interrupted_jobs(store)
    runs = [Run(job.source, partial(_again, job.job_id)) for job in jobs]
    run_jobs(runs, settings, again=False, json=json, quiet=quiet)


@contextmanager
def _again(job_id: int, store: "JobStore", services: "Services") -> "Iterator[Job]":
    yield store.get(job_id)

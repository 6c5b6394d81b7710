"""``ingest state [JOB_ID]``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .command import command
from .completion import job_ids
from .describe import describe, describe_fully
from .options import Output, Site
from .output import say, write_json

if TYPE_CHECKING:
    from ..jobs.imported import ImportedJob
    from ..jobs.job import Job
    from ..jobs.store import JobStore

COLUMNS = "{:>8}  {:<11}  {:<17}  {:>7}  {:<19}  {}"


@command
def state(
    job_id: Annotated[
        int | None,
        typer.Argument(metavar="JOB_ID", help="The job to show; the newest jobs if omitted.", autocompletion=job_ids),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many jobs to show.", metavar="NUMBER")] = 20,
    *,
    site: Site,
    output: Output,
) -> None:
    """Show the state of a job, or of the newest jobs."""
    from ..jobs.store import open_store

    with open_store(site.settings, new=False) as store:
        if job_id is None:
            _show_table(store.select(limit=count), store, json=output.json)
        elif (imported := store.imported(job_id)) is not None:
            _show_imported(imported, json=output.json)
        else:
            _show_one(store.get(job_id), store, json=output.json)


def _show_imported(job: "ImportedJob", *, json: bool) -> None:
    from ..jobs.fields import imported_fields

    if json:
        write_json(imported_fields(job))
        return
    rows = {
        "job": f"{job.job_id}, imported from Pacifica Ingest",
        "state": job.state,
        "task": job.task,
        "percent": job.task_percent,
        "created": f"{job.created} UTC",
        "updated": f"{job.updated} UTC",
    }
    _show_rows(rows, job.exception)


def _show_one(job: "Job", store: "JobStore", *, json: bool) -> None:
    from ..jobs.fields import job_fields

    if json:
        write_json(job_fields(job))
        return
    rows: dict[str, Any] = {
        "job": job.job_id,
        "state": describe_fully(job, store),
        "task": job.task,
        "percent": f"{job.task_percent:.1f}",
        "source": job.source,
        **({"origin": job.origin} if job.origin else {}),
        "user": job.user,
        "attempts": job.attempts,
        "created": f"{job.created} UTC",
        "updated": f"{job.updated} UTC",
    }
    if job.override is not None:
        said = f"{job.override.state} at {job.override.task!r}, by an administrator: {job.override.exception}"
        rows["set"] = said
    _show_rows(rows, job.exception)


def _show_rows(rows: dict[str, Any], exception: str) -> None:
    for name, value in rows.items():
        say(f"{name:<10}{value}")
    if exception:
        for line in ("", *exception.split("\n")):
            say(line)


def _show_table(jobs: "list[Job]", store: "JobStore", *, json: bool) -> None:
    from ..jobs.fields import job_fields

    if json:
        write_json([job_fields(job) for job in jobs])
        return
    if not jobs:
        say("no jobs yet")
        return
    say(COLUMNS.format("job", "state", "task", "percent", "updated (UTC)", "source"))
    for job in jobs:
        percent = f"{job.task_percent:.1f}"
        say(COLUMNS.format(job.job_id, describe(job, store), job.task, percent, job.updated[:19], job.name))

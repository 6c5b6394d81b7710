"""``ingest state [JOB_ID...]``."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import IngestError, OutputsConflict, SettingsError
from .command import command
from .completion import job_ids as known_job_ids
from .completion import orders
from .job_filter import Jobs
from .options import Output, Site
from .output import error_fields, finish, notify, say, write_csv, write_json, write_json_list

if TYPE_CHECKING:
    from ..jobs.filter import JobFilter, JobOrder
    from ..jobs.job import Job
    from ..jobs.store import JobStore

USUAL_COUNT = 20
# Of the jobs of a long list so many are in memory at once.
PAGE = 1000
CSV_COLUMNS = ("job_id", "status", "source", "files", "bytes", "user", "created", "updated", "reason")


@command
def state(
    job_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="JOB_ID", help="The jobs to show; the newest if omitted.", autocompletion=known_job_ids),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            help="Sort by job, updated, size, files or name: the newest and the largest first.",
            metavar="ORDER",
            autocompletion=orders,
        ),
    ] = "job",
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many jobs to show.", metavar="NUMBER")
    ] = USUAL_COUNT,
    every: Annotated[bool, typer.Option("--all", help="Show all jobs.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV to standard output.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Show the jobs as they change, until Ctrl-C.")] = False,
    *,
    jobs: Jobs,
    site: Site,
    output: Output,
) -> None:
    """Show the state of jobs, or of the newest ones."""
    from ..jobs.filter import ALL
    from ..jobs.store import open_store

    wanted, order = jobs.filter, _order(sort)
    if job_ids and (wanted != ALL or csv or follow):
        raise SettingsError("give jobs, or options that choose jobs, not both")
    if csv + follow + output.json > 1:
        raise OutputsConflict("--json, --csv and --follow cannot be used together")
    with open_store(site.settings, new=False) as store:
        if job_ids:
            _show_jobs(job_ids, store, output)
        elif follow:
            _follow(store, wanted, order, None if every else count)
        else:
            found = _pages(store, wanted, order, None if every else count)
            if output.json:
                write_json_list(chain.from_iterable(_fields(page, store) for page in found))
            elif csv:
                write_csv(CSV_COLUMNS, map(_as_csv, chain.from_iterable(found)))
            else:
                _show_table(found, store, wanted)


def _fields(jobs: "Sequence[Job]", store: "JobStore") -> "Iterator[dict[str, Any]]":
    from ..jobs.fields import job_fields, place_fields

    places = store.places([job.job_id for job in jobs])
    return ({**job_fields(job), **place_fields(job, places.get(job.job_id))} for job in jobs)


def _order(sort: str) -> "JobOrder":
    from ..jobs.filter import JobOrder

    if sort not in list(JobOrder):
        raise SettingsError(f"--sort {sort!r} is not an order; it is one of {', '.join(JobOrder)}")
    return JobOrder(sort)


def _pages(store: "JobStore", wanted: "JobFilter", order: "JobOrder", count: int | None) -> "Iterator[list[Job]]":
    """The jobs in pieces, so that however many there are, few are in memory."""
    from ..jobs.filter import JobOrder

    if order is not JobOrder.JOB:
        job_ids = store.ids(wanted, order=order, descending=order is not JobOrder.NAME, limit=count)
        for first in range(0, len(job_ids), PAGE):
            yield store.several(job_ids[first : first + PAGE])
        return
    before, left = None, count
    while left is None or left > 0:
        page = store.select(wanted, limit=PAGE if left is None else min(left, PAGE), before=before)
        if not page:
            return
        yield page
        before, left = page[-1].job_id, None if left is None else left - len(page)


def _show_jobs(job_ids: list[int], store: "JobStore", output: Output) -> None:
    errors: list[IngestError] = []
    for number, job_id in enumerate(job_ids):
        if number and not output.json:
            say("")
        try:
            _show_job(job_id, store, json=output.json)
        except IngestError as error:
            errors.append(error)
            if output.json:
                write_json({"job_id": job_id, **error_fields(error)})
            notify(error)
    finish([*errors, *([None] * (len(job_ids) - len(errors)))], debug=output.debug)


def _show_job(job_id: int, store: "JobStore", *, json: bool) -> None:
    from ..jobs.fields import history_fields, imported_fields
    from .job_console import console_for
    from .job_page import imported_page, job_page, lines_of

    imported = store.imported(job_id)
    if json:
        fields = next(_fields([store.get(job_id)], store)) if imported is None else imported_fields(imported)
        write_json({**fields, "log": history_fields(store.history(job_id))})
        return
    page, console = job_page(store.get(job_id), store) if imported is None else imported_page(imported), console_for()
    for line in lines_of(page, None if console is None else console.width - 1):
        say(line)


def _show_table(pages: "Iterator[list[Job]]", store: "JobStore", wanted: "JobFilter") -> None:
    from .job_console import console_for, list_on

    shown = list_on(console_for(), store, wanted)
    for page in pages:
        shown.show(page)
    shown.end()


def _follow(store: "JobStore", wanted: "JobFilter", order: "JobOrder", count: int | None) -> None:
    from .job_console import console_for
    from .job_screen import follow, follow_in_lines

    console = console_for()
    if console is None or console.is_dumb_terminal:
        follow_in_lines(store, wanted, order, count)
    else:
        follow(store, wanted, order, console, count)


def _as_csv(job: "Job") -> tuple[object, ...]:
    return (
        job.job_id,
        job.status,
        job.name,
        job.files,
        job.bytes,
        job.user,
        job.created,
        job.updated,
        job.exception.partition("\n")[0],
    )

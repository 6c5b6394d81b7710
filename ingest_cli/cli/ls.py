"""``ingest ls JOB_ID``."""

from typing import Annotated

import typer

from .command import command
from .completion import recorded_job_ids
from .options import Output, Site

Long = Annotated[bool, typer.Option("--long", "-l", help="Show the hash, the id and the media type of each file too.")]


@command
def ls(
    job_id: Annotated[
        int, typer.Argument(metavar="JOB_ID", help="The job whose files to list.", autocompletion=recorded_job_ids)
    ],
    *,
    long: Long = False,
    site: Site,
    output: Output,
) -> None:
    """List the files of a stored job."""
    from .. import api
    from .files import FileLines
    from .output import notify

    lines = FileLines(has_jobs=False, long=long, json=output.json)
    for recorded, file in api.list_files(job_id, note=notify, settings=site.settings):
        lines.show(recorded, file)
    lines.end()
    if not lines.files:
        notify(f"job {job_id} has no files")

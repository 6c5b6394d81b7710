"""``ingest skip-ids``."""

from typing import Annotated

import typer

from .command import command
from .options import QuietOutput, Site


@command
def skip_ids(
    job: Annotated[
        int | None, typer.Option("--job", min=1, help="Give no new job an id up to this one.", metavar="ID")
    ] = None,
    file: Annotated[
        int | None, typer.Option("--file", min=1, help="Give no new file an id up to this one.", metavar="ID")
    ] = None,
    *,
    site: Site,
    options: QuietOutput,
) -> None:
    """Give out no id again, once a backup is restored.

    Without options, ids go on a million behind the last ones: of jobs, that the id store knows; of files, that the
    archive holds.
    """
    from dataclasses import asdict

    from .. import api
    from .display import meter_for
    from .output import say, write_json

    with meter_for(options, "skip-ids", "archive") as meter:
        skipped = api.skip_ids(job=job, file=file, meter=meter, settings=site.settings)
    if options.json:
        write_json(asdict(skipped))
    elif not options.quiet:
        say(f"job {skipped.last_job_id + 1} and file {skipped.last_file_id + 1} are the next ones")

"""``ingest restore JOB_ID``."""

from pathlib import Path
from typing import Annotated

import typer

from .command import command
from .completion import recorded_job_ids, stored_paths
from .options import QuietOutput, Site


@command
def restore(
    job_id: Annotated[
        int, typer.Argument(metavar="JOB_ID", help="The job to restore.", autocompletion=recorded_job_ids)
    ],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Restore only these files and folders, by their paths in the bundle.",
            autocompletion=stored_paths,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a bundle to this file, or - for standard output.", metavar="FILE"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write the files to this new folder.", metavar="FOLDER")
    ] = None,
    *,
    site: Site,
    options: QuietOutput,
) -> None:
    """Restore a stored job, or some files of it."""
    from .. import api
    from ..errors import OutputsConflict, SettingsError
    from ..text import counted, listed
    from .display import meter_for
    from .left import STANDARD_OUTPUT, saying_what_is_left
    from .output import bundle_output, notify, write_json

    if (output is None) == (to is None):
        raise SettingsError("give either --to FOLDER, for the files, or -o FILE, for a bundle of them")
    if options.json and output == STANDARD_OUTPUT:
        raise OutputsConflict("--json and -o - cannot be used together: both write to standard output")
    target = to or output
    assert target is not None
    out = bundle_output() if output == STANDARD_OUTPUT else target
    with saying_what_is_left(target), meter_for(options, f"job {job_id}", "restore") as meter:
        if to is not None:
            count = api.restore_folder(job_id, to, paths=paths or (), meter=meter, settings=site.settings)
        else:
            count = api.restore_bundle(job_id, out, paths=paths or (), meter=meter, settings=site.settings)
    if options.json:
        write_json({"job_id": job_id, "target": str(target), "files": count})
    elif not options.quiet:
        notify(f"job {job_id}: {counted(count, 'file')} restored to {target}")
        if not paths and (rest := api.rest_of_folder(job_id, settings=site.settings)):
            jobs = f"{'job' if len(rest) == 1 else 'jobs'} {listed([*map(str, rest)])}"
            notify(
                f"it has only what was new in its folder then: {jobs} {'has' if len(rest) == 1 else 'have'} the rest"
            )

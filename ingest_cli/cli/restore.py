"""``ingest restore JOB_ID``."""

from pathlib import Path
from typing import Annotated

import typer

from .completion import recorded_job_ids
from .options import Config, Db, Debug, Json, Quiet, settings_of


def restore(
    job_id: Annotated[int, typer.Argument(metavar="JOB_ID", help="The job.", autocompletion=recorded_job_ids)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The bundle, or - for standard output.", metavar="FILE")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="A new folder for the files.", metavar="FOLDER")] = None,
    config: Config = None,
    db: Db = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Get a stored job back, as the bundle it came from or as files."""
    import json as json_format
    import sys

    from ..errors import SettingsError
    from ..jobs.store import open_store
    from ..pipeline.selection import recorded_as
    from ..retrieval.restore import write_bundle_file, write_folder, write_tar
    from ..services.factory import connect

    if (output is None) == (to is None):
        raise SettingsError("say either -o or --to")
    if json and output == Path("-"):
        raise SettingsError("--json and -o - do not go together: both are of standard output")
    settings = settings_of(config, db)
    with open_store(settings) as store:
        recorded = recorded_as(store, job_id)
    with connect(settings) as services:
        if to is not None:
            count = write_folder(services, recorded, to)
        elif output == Path("-"):
            count = write_tar(services, recorded, sys.stdout.buffer)
        else:
            assert output is not None
            count = write_bundle_file(services, recorded, output)
    if json:
        print(json_format.dumps({"job_id": job_id, "target": str(to or output), "files": count}))
    elif not quiet:
        print(f"ingest: job {job_id}: {count} files are in {to or output}", file=sys.stderr)

"""``ingest discard JOB_ID...``."""

from typing import Annotated

import typer

from .completion import unfinished_job_ids
from .options import Config, Db, Debug, Json, Quiet, settings_of


def discard(
    job_ids: Annotated[
        list[int],
        typer.Argument(metavar="JOB_ID", help="The jobs to give up.", autocompletion=unfinished_job_ids),
    ],
    config: Config = None,
    db: Db = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Give up jobs that are not complete.

    What is stored of them is rolled back: the archive holds nothing of it, and moved files are at their places.
    """
    import json as json_format
    import sys
    from functools import partial

    from ..errors import ExitCode, IngestError
    from ..jobs.store import open_store
    from ..pipeline.settlement import discard as discard_job
    from ..services.factory import connect

    settings = settings_of(config, db)
    codes = []
    with open_store(settings) as store:
        for job_id in job_ids:
            try:
                job = discard_job(store, job_id, settings.timings, partial(connect, settings))
            except IngestError as error:
                if len(job_ids) == 1:
                    raise
                print(f"ingest: {error}", file=sys.stderr)
                codes.append(error.exit_code)
                continue
            if json:
                print(json_format.dumps(job.as_state()), flush=True)
            elif not quiet:
                print(f"job {job_id}: discarded, the archive holds nothing of it", flush=True)
    if codes:
        raise typer.Exit(ExitCode.SOME_FAILED if len(codes) < len(job_ids) else ExitCode.of_failures(codes))

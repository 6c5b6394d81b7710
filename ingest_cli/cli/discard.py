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
    from functools import partial

    from ..jobs.store import open_store
    from ..pipeline.settlement import discard as discard_job
    from ..services import connect

    settings = settings_of(config, db)
    with open_store(settings) as store:
        for job_id in job_ids:
            job = discard_job(store, job_id, settings.timings, partial(connect, settings))
            if json:
                print(json_format.dumps(job.as_state()), flush=True)
            elif not quiet:
                print(f"job {job_id}: discarded, the archive holds nothing of it", flush=True)

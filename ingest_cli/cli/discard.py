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

    What is stored of them is taken back out of the archive; moved files go back to their places.
    """
    import json as json_format

    from ..services import connect
    from ..worker import Worker

    settings = settings_of(config, db)
    with connect(settings) as services, Worker(settings, services) as worker:
        for job_id in job_ids:
            job = worker.discard(job_id)
            if json:
                print(json_format.dumps(job.as_state()), flush=True)
            elif not quiet:
                print(f"job {job_id}: discarded, the archive holds nothing of it", flush=True)

"""``ingest worker``."""

from typing import Annotated

import typer

from .command import command
from .options import RunOutput, Site

MAX_WORKERS = 64


@command
def worker(
    workers: Annotated[
        int,
        typer.Option("--workers", "-n", min=1, max=MAX_WORKERS, help="How many processes to run.", metavar="NUMBER"),
    ] = 1,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="Exit when no job is waiting.")] = False,
    *,
    site: Site,
    options: RunOutput,
) -> None:
    """Run queued jobs, and those whose process died."""
    from contextlib import suppress

    from .. import api
    from ..errors import Interrupted
    from ..pipeline.worker_pool import WorkerPool
    from .display import screens_of_queue
    from .output import record
    from .signals import SPARE_SECONDS, interruptible

    settings = site.settings
    observe = screens_of_queue(json=options.json, quiet=options.quiet, verbose=options.verbose)
    # The others are waited for.
    with interruptible(settings.timings.ending + (SPARE_SECONDS if workers > 1 else 0.0)):
        if workers == 1:
            api.run_queue(observe, record, until_empty=until_empty, settings=settings)
            return
        pool = WorkerPool(settings, workers, observe, record, until_empty=until_empty)
        with suppress(KeyboardInterrupt), pool:
            pool.wait()
        if pool.interrupted:
            raise Interrupted

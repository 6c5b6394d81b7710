"""``ingest worker``."""

from typing import Annotated

import typer

from .options import Config, Db, Debug, Json, Quiet, Verbose, settings_of

MAX_WORKERS = 64


def worker(
    workers: Annotated[int, typer.Option("--workers", "-n", min=1, max=MAX_WORKERS, help="How many processes.")] = 1,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="End when no job waits.")] = False,
    config: Config = None,
    db: Db = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Run the jobs that wait, those included whose process died."""
    import signal
    from contextlib import suppress
    from functools import partial

    from ..errors import Interrupted
    from ..pipeline.worker_pool import WorkerPool, work
    from .output import screen_of_queue
    from .verbosity import set_verbosity

    set_verbosity(verbose, quiet=quiet)
    settings = settings_of(config, db)
    observe = partial(screen_of_queue, json=json, quiet=quiet, verbose=verbose)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if workers == 1:
        work(settings, observe, until_empty=until_empty)
        return
    with suppress(KeyboardInterrupt), WorkerPool(settings, workers, observe, until_empty=until_empty) as pool:
        pool.wait()
    if pool.interrupted:
        raise Interrupted

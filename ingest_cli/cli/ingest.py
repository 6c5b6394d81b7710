"""``ingest BUNDLE...``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Again, Config, Db, Debug, Json, Queue, Quiet, Receipt, User, Verbose, settings_of


def ingest(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Tar files, or - for standard input.")],
    config: Config = None,
    db: Db = None,
    user: User = None,
    again: Again = False,
    receipt: Receipt = None,
    queue: Queue = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Unpack, check and store bundles."""
    from ..jobs.job import JobKind
    from .run import queue_files, run_files
    from .verbosity import set_verbosity

    set_verbosity(verbose, quiet=quiet)
    settings = settings_of(config, db, user)
    enter = queue_files if queue else run_files
    enter(JobKind.BUNDLE, bundles, settings, again=again, receipt=receipt, json=json, quiet=quiet)

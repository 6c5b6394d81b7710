"""``ingest BUNDLE...``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Again, Config, Db, Debug, Json, Queue, Quiet, Receipt, User, settings_of


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
    debug: Debug = False,
) -> None:
    """Unpack, check and store bundles."""
    from ..jobs import JobKind
    from .run import queue_files, run_files

    settings = settings_of(config, db, user)
    enter = queue_files if queue else run_files
    enter(JobKind.BUNDLE, bundles, settings, again=again, receipt=receipt, json=json, quiet=quiet)

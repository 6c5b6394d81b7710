"""``ingest BUNDLE...``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Again, Config, Db, Debug, Json, Quiet, User, settings_of


def ingest(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Tar files, or - for standard input.")],
    config: Config = None,
    db: Db = None,
    user: User = None,
    again: Again = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Unpack, check and store bundles."""
    from ..jobs import JobKind
    from .run import run_files

    run_files(JobKind.BUNDLE, bundles, settings_of(config, db, user), again=again, json=json, quiet=quiet)

"""``ingest backup FOLDER``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Db, Debug, Quiet, settings_of


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the copies.")],
    config: Config = None,
    db: Db = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Copy the job store, the catalogue and the ids, while others may use them. The archive is not copied."""
    import sys

    from ..backup import back_up

    for path in back_up(settings_of(config, db), folder):
        if not quiet:
            print(f"ingest: {path}: {path.stat().st_size} bytes", file=sys.stderr)

"""``ingest backup FOLDER``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Db, Debug, Json, Quiet, settings_of


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the copies.")],
    config: Config = None,
    db: Db = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Copy the job store, the catalogue and the ids.

    Others may use them meanwhile. The archive is not copied.
    """
    import json as json_format
    import sys

    from ..maintenance.backup import back_up

    sizes = {path: path.stat().st_size for path in back_up(settings_of(config, db), folder)}
    if json:
        answer = {"target": str(folder), "files": len(sizes), "bytes": sum(sizes.values())}
        print(json_format.dumps(answer))
    elif not quiet:
        for path, size in sizes.items():
            print(f"ingest: {path}: {size} bytes", file=sys.stderr)

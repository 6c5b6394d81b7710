"""``ingest backup FOLDER``."""

from pathlib import Path
from typing import Annotated

import typer

from .command import command
from .options import QuietOutput, Site


@command
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the backup.")],
    *,
    site: Site,
    options: QuietOutput,
) -> None:
    """Back up the job store, the catalogue and the ids.

    The databases may be in use meanwhile. The archive is not copied.
    """
    from rich.filesize import decimal

    from .. import api
    from ..maintenance.backup import elsewhere
    from .display import meter_for
    from .left import saying_what_is_left
    from .output import notify, warn, write_json

    with saying_what_is_left(folder), meter_for(options, str(folder), "backup") as meter:
        copies = api.back_up(folder, meter=meter, settings=site.settings)
    for name, place in elsewhere(site.settings).items():
        warn(f"the {name} in {place} {'are' if name.endswith('s') else 'is'} not copied: that is for pg_dump")
    sizes = {path: path.stat().st_size for path in copies}
    if options.json:
        answer = {"target": str(folder), "files": len(sizes), "bytes": sum(sizes.values())}
        write_json(answer)
    elif not options.quiet:
        for path, size in sizes.items():
            notify(f"{path}: {decimal(size)}")

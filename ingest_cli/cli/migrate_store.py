"""``ingest migrate-store FROM TO``."""

from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .options import QuietOutput, Site

if TYPE_CHECKING:
    from ..maintenance.moving.migration import Moved

PLACE = "a file, sqlite:PATH or postgresql://USER@HOST/DATABASE"


@command
def migrate_store(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help=f"The job store that is left, {PLACE}; or its configuration file.")
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="TO", help="The new job store, or the configuration file that names the new places."),
    ],
    *,
    site: Site,
    options: QuietOutput,
) -> None:
    """Move the job store, the catalogue and the ids to another place.

    Nobody may use them meanwhile. What is left can be used no more. If it is interrupted, the same command goes on.
    """
    import time

    from .. import api
    from ..errors import Interrupted
    from .display import meter_for
    from .output import notify, write_json

    begun = time.monotonic()
    try:
        with meter_for(options, target, "copy") as meter:
            moved = api.migrate_store(source, target, meter=meter, note=notify, settings=site.settings)
    except Interrupted:
        raise Interrupted("interrupted; the same command goes on from here") from None
    seconds = time.monotonic() - begun
    if options.json:
        write_json(
            {"from": moved[-1].source, "to": moved[-1].target, "seconds": seconds, "stores": list(map(_fields, moved))}
        )
    elif not options.quiet:
        _tell(moved)


def _fields(moved: "Moved") -> dict[str, object]:
    """A database as programs are told of it."""
    from dataclasses import asdict

    return {
        "name": moved.what,
        "from": moved.source,
        "to": moved.target,
        "rows": moved.rows,
        "tables": {name: asdict(same) for name, same in moved.tables.items()},
    }


def _tell(moved: "list[Moved]") -> None:
    from ..text import counted
    from .output import say

    for one in moved:
        rows = f"{counted(one.rows, 'row')}, the same on both sides" if one.tables else "had moved before"
        say(f"{one.what}: {rows}")
    say("have the configuration name these places:")
    for one in moved:
        say(f"{one.what:<10} {one.target}")

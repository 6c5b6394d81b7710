"""``ingest prune``."""

from array import array
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SettingsError
from .command import command
from .options import Output, Site

if TYPE_CHECKING:
    from datetime import timedelta

UNITS = {"d": "days", "h": "hours", "w": "weeks"}


@command
def prune(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            help="Remove only jobs and events that ended at least this long ago, such as 90d, 12h or 8w.",
            metavar="AGE",
        ),
    ] = "90d",
    yes: Annotated[bool, typer.Option("--yes", help="Remove them instead of only listing them.")] = False,
    *,
    site: Site,
    output: Output,
) -> None:
    """Remove old jobs, events and orphaned spool files.

    A job is kept while its bundle is still there, so that the bundle is not ingested again.
    """
    from ..api.housekeeping import prune_in_pieces
    from ..text import counted
    from .output import notify, say, write_json

    job_ids, paths, events = array("q"), list[str](), 0
    for piece in prune_in_pieces(_age(older_than), remove=yes, settings=site.settings):
        job_ids.extend(job.job_id for job in piece.jobs)
        paths.extend(map(str, piece.files))
        events += len(piece.events)
        if not output.json:
            for job in piece.jobs:
                say(f"job {job.job_id}: {job.name}")
            for path in piece.files:
                say(path)
    if output.json:
        write_json({"removed": yes, "job_ids": job_ids.tolist(), "paths": paths, "removed_events": events})
        return
    verb = "removed" if yes else "can be removed; --yes removes them"
    and_events = f", {counted(events, 'event')}" if events else ""
    notify(f"{counted(len(job_ids), 'job')}{and_events} and {counted(len(paths), 'file')} {verb}")


def _age(text: str) -> "timedelta":
    from datetime import timedelta

    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) < 6 and unit in UNITS):
        raise SettingsError(f"--older-than {text!r} is not an age, such as 90d, 12h or 8w")
    return timedelta(**{UNITS[unit]: int(number)})

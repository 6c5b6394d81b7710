"""``ingest import-jobs SOURCE``: what the earlier service knows of its jobs."""

from typing import Annotated

import typer

from .command import command
from .options import QuietOutput, Site

TOLD_SECONDS = 10


@command
def import_jobs(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Pacifica Ingest's configuration file, or its database: a URL, or an SQLite file."
        ),
    ],
    *,
    site: Site,
    options: QuietOutput,
) -> None:
    """Import the states of Pacifica Ingest's jobs.

    They can be asked for here then, under their ids. The service's database is only read, and it may be at work.
    Import again to bring everything up to date.
    """
    import time
    from dataclasses import asdict

    from .. import api
    from ..maintenance.import_jobs import Tally
    from ..text import counted, duration
    from .output import Warnings, notify, say, write_json

    begun = told = time.monotonic()
    tally = Tally()
    with Warnings(notify) as warnings:
        for _ in api.import_jobs(source, settings=site.settings, tally=tally, note=warnings.warn):
            if not (options.quiet or options.json) and time.monotonic() - told > TOLD_SECONDS:
                told = time.monotonic()
                notify(f"{counted(tally.read, 'job')} read")
    seconds = time.monotonic() - begun
    if options.json:
        write_json({**asdict(tally), "unchanged": tally.unchanged, "seconds": seconds})
    elif not options.quiet:
        say(
            f"{counted(tally.read, 'job')} read in {duration(seconds)}: {tally.new:,} new, {tally.changed:,} changed,"
            f" {tally.unchanged:,} unchanged, {tally.own + tally.bad:,} not imported"
        )
        if tally.unfinished:
            say(f"{counted(tally.unfinished, 'job')} had not come to an end: import again later")
    if tally.bad:
        from ..errors import ExitCode

        raise typer.Exit(ExitCode.SOME_FAILED if tally.bad < tally.read else ExitCode.FAILED)

"""``ingest watch FOLDER...``."""

from pathlib import Path
from typing import Annotated

import typer

from .command import command
from .options import RunTalk, UserSite


@command
def watch(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="The drop folders.")],
    once: Annotated[bool, typer.Option("--once", help="Ingest what is settled, then end: for cron.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Look for documents of files to be moved.")] = False,
    pack: Annotated[
        Path | None,
        typer.Option("--pack", help="Pack sub-folders, with the records of this JSON file.", metavar="TEMPLATE"),
    ] = None,
    settle: Annotated[float, typer.Option("--settle", min=0, help="Seconds that a file must hold still.")] = 5.0,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds more for one that is no whole tar yet.")
    ] = 60.0,
    marker: Annotated[bool, typer.Option("--marker", help="Take NAME when there is a NAME.done, not before.")] = False,
    pattern: Annotated[
        list[str] | None, typer.Option("--pattern", help="Names to look for, such as '*.tar'.", metavar="GLOB")
    ] = None,
    done: Annotated[
        Path | None, typer.Option("--done", help="Where ingested files are moved.", metavar="FOLDER")
    ] = None,
    failed: Annotated[
        Path | None, typer.Option("--failed", help="Where failed files are moved.", metavar="FOLDER")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete ingested files.")] = False,
    poll: Annotated[bool, typer.Option("--poll", help="Look all the time, as is done on network shares.")] = False,
    scan: Annotated[float, typer.Option("--scan", min=0.1, help="Seconds between looks without any event.")] = 60.0,
    workers: Annotated[int, typer.Option("--workers", "-n", min=1, max=64, help="How many jobs run at once.")] = 1,
    *,
    site: UserSite,
    talk: RunTalk,
) -> None:
    """Ingest what settles in drop folders."""
    from contextlib import suppress

    from ..bundle.pack import read_template
    from ..errors import Interrupted, SettingsError
    from ..jobs.job import Job, JobKind
    from ..watch.disposition import Aftermath
    from ..watch.folder import Rules
    from ..watch.watcher import Watch
    from .display import screens_of_queue
    from .output import say
    from .signals import interruptible

    if delete and done is not None:
        raise SettingsError("--done and --delete do not go together")
    if move and pack is not None:
        raise SettingsError("--move and --pack do not go together")
    rules = Rules(
        kind=JobKind.MOVE if move else JobKind.BUNDLE,
        settle=settle,
        patience=patience,
        marker=marker,
        patterns=tuple(pattern or ()),
        template=None if pack is None else read_template(pack),
    )
    watching = Watch(site.settings, folders, rules, Aftermath(done=done, failed=failed, delete=delete))
    screen = screens_of_queue(json=talk.json, quiet=talk.quiet, verbose=talk.verbose)

    def queued(job: Job) -> None:
        if talk.json:
            screen(job).queued(job)

    if once:
        with interruptible():
            raise typer.Exit(watching.once(screen, say, queued))
    with suppress(Interrupted), interruptible():
        watching.forever(screen, say, queued, workers=workers, scan_seconds=scan, poll=poll)

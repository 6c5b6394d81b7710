"""``ingest watch FOLDER...``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Db, Debug, Json, Quiet, User, Verbose, settings_of


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
    config: Config = None,
    db: Db = None,
    user: User = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Ingest what settles in drop folders."""
    import signal
    import sys
    from contextlib import suppress
    from functools import partial

    from ..bundle.pack import read_template
    from ..errors import SettingsError
    from ..jobs.job import Job, JobKind
    from ..watch.disposition import Disposition
    from ..watch.rules import WatchRules
    from ..watch.watcher import Watcher
    from .output import screen_of_queue
    from .verbosity import set_verbosity

    set_verbosity(verbose, quiet=quiet)
    if delete and done is not None:
        raise SettingsError("--done and --delete do not go together")
    if move and pack is not None:
        raise SettingsError("--move and --pack do not go together")
    rules = WatchRules(
        kind=JobKind.MOVE if move else JobKind.BUNDLE,
        settle=settle,
        patience=patience,
        marker=marker,
        patterns=tuple(pattern or ()),
        template=None if pack is None else read_template(pack),
    )
    disposition = Disposition(done=done, failed=failed, delete=delete)
    watching = Watcher(settings_of(config, db, user), folders, rules, disposition)
    screen = partial(screen_of_queue, json=json, quiet=quiet, verbose=verbose)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def say(text: str) -> None:
        print(f"ingest: {text}", file=sys.stderr, flush=True)

    def queued(job: Job) -> None:
        if json:
            screen(job).queued(job)

    if once:
        raise typer.Exit(watching.once(screen, say, queued))
    with suppress(KeyboardInterrupt):
        watching.forever(
            screen,
            say,
            queued,
            workers=workers,
            scan_seconds=scan,
            poll=poll,
        )

"""``ingest move DOCUMENT...``."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import SettingsError
from .options import Again, Config, Db, Debug, Json, Queue, Quiet, Receipt, User, Verbose, settings_of


def move(
    documents: Annotated[
        list[Path], typer.Argument(metavar="DOCUMENT", help="Metadata documents whose files have a 'source'.")
    ],
    config: Config = None,
    db: Db = None,
    user: User = None,
    again: Again = False,
    remote_sources: Annotated[
        bool,
        typer.Option(
            "--remote-sources",
            help="Only the archive sees the files: their hashes are not checked"
            " [env: ARCHIVEINTERFACE_REMOTE_SOURCES].",
        ),
    ] = False,
    receipt: Receipt = None,
    queue: Queue = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Check files that lie on a disk and move them into the archive."""
    from ..jobs.job import JobKind
    from .run import queue_files, run_files
    from .verbosity import set_verbosity

    set_verbosity(verbose, quiet=quiet)
    if queue and remote_sources:
        raise SettingsError("--remote-sources and --queue do not go together: say it in the workers' configuration")
    settings = settings_of(config, db, user, remote_sources=remote_sources)
    enter = queue_files if queue else run_files
    enter(JobKind.MOVE, documents, settings, again=again, receipt=receipt, json=json, quiet=quiet)

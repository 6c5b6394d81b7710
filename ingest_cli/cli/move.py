"""``ingest move DOCUMENT...``."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import SettingsError
from .command import command
from .options import RunOutput, Submission, UserSite, settings_under


@command
def move(
    documents: Annotated[
        list[Path], typer.Argument(metavar="DOCUMENT", help="Metadata documents that give each file a 'source'.")
    ],
    remote_sources: Annotated[
        bool,
        typer.Option(
            "--remote-sources",
            help="Only the archive can see the files; their hashes are not checked"
            " [env: ARCHIVEINTERFACE_REMOTE_SOURCES].",
        ),
    ] = False,
    *,
    site: UserSite,
    submission: Submission,
    options: RunOutput,
) -> None:
    """Check files on a disk and move them into the archive."""
    from ..jobs.job import JobKind
    from .running import submit_files

    if submission.queue and remote_sources:
        raise SettingsError(
            "--remote-sources and --queue cannot be used together: set remote_sources in the workers' configuration"
        )
    settings = settings_under(**vars(site), remote_sources=remote_sources)
    submit_files(JobKind.MOVE, documents, settings, submission, options)

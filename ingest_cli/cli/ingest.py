"""``ingest BUNDLE...``."""

from pathlib import Path
from typing import Annotated

import typer

from .command import command
from .options import RunOutput, Submission, UserSite


@command
def ingest(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE", help="The bundles to ingest, or - for standard input.")
    ],
    site: UserSite,
    submission: Submission,
    options: RunOutput,
) -> None:
    """Check bundles and store them."""
    from ..jobs.job import JobKind
    from .running import submit_files

    submit_files(JobKind.BUNDLE, bundles, site.settings, submission, options)

"""``ingest PATH...``."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import SettingsError
from .command import command
from .options import Describing, DryRun, Each, Packing, RunOutput, Submission, UserSite


@command
def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="The bundles and folders to ingest, or - for a bundle on standard input."),
    ],
    each: Each = False,
    dry_run: DryRun = False,
    *,
    describing: Describing,
    packing: Packing,
    site: UserSite,
    submission: Submission,
    options: RunOutput,
) -> None:
    """Check bundles and folders and store them."""
    from ..jobs.job import JobKind
    from .dry_run import show_plans
    from .folders import Folders
    from .running import submit_files
    from .several import STANDARD_INPUT

    is_of_folders = each or dry_run or describing != Describing() or packing != Packing()
    bundles = [path for path in paths if not path.is_dir() and (path.exists() or path == STANDARD_INPUT)]
    if is_of_folders and bundles and (dry_run or not any(path.is_dir() for path in paths)):
        hint = f"; 'ingest check {bundles[0]}' checks a bundle" if dry_run else ""
        raise SettingsError(f"{bundles[0]} is not a folder, and these options are of folders{hint}")
    settings = site.settings
    folders = Folders(describing.description, packing.rules, settings)
    if dry_run:
        # Of what is not there that is said.
        show_plans([source for path in paths for source in folders.sources(path, each=each)], settings, options)
        return
    sources = [source for path in paths for source in (folders.sources(path, each=each) if path.is_dir() else [path])]
    submit_files(JobKind.BUNDLE, sources, settings, submission, options)

"""``ingest pack PATH...``."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import SettingsError
from .command import command
from .options import Describing, DryRun, Packing, QuietOutput, Site


@command
def pack(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="The files and folders to pack.")],
    describing: Describing,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the bundle to this file, or - for standard output.", metavar="FILE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing bundle.")] = False,
    dry_run: DryRun = False,
    *,
    packing: Packing,
    site: Site,
    options: QuietOutput,
) -> None:
    """Pack files and folders into a bundle."""
    from rich.filesize import decimal

    from .. import api
    from ..pipeline.describing import folders_of
    from ..text import counted
    from .display import meter_for
    from .dry_run import show_plan_of_bundle
    from .folders import Folders
    from .left import STANDARD_OUTPUT, saying_what_is_left
    from .output import bundle_output, notify, warn, write_json

    if output is None and len(paths) > 1:
        raise SettingsError("with several paths, name the bundle with -o")
    target = output or Path(f"{paths[0].resolve().name}.tar")
    if options.json and target == STANDARD_OUTPUT:
        raise SettingsError("--json and -o - cannot be used together: both write to standard output")
    given = describing.description
    # A bundle can be packed where nothing else of a site can be done.
    settings = site.settings if given.missing else None
    request = Folders(given, packing.rules, settings).request(paths[0], folders_of(paths))
    if dry_run:
        show_plan_of_bundle(target, paths, request, options)
        return
    out = bundle_output() if target == STANDARD_OUTPUT else None
    with saying_what_is_left(target), meter_for(options, str(target), "pack") as meter:
        packed = api.pack_requested(paths, request, out or target, replace=force, meter=meter)
    if not options.quiet:
        for warning in packed.warnings:
            warn(warning)
    if options.json:
        left_out = [{"path": entry.name, "reason": entry.reason} for entry in packed.left_out]
        write_json({"target": str(target), "files": packed.files, "bytes": packed.bytes, "left_out": left_out})
    elif not options.quiet:
        notify(f"{target}: {counted(packed.files, 'file')}, {decimal(packed.bytes)}")

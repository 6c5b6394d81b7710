"""``ingest pack PATH...``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import IngestError, Interrupted, OutputsConflict, SettingsError
from .command import command
from .options import Describing, DryRun, Packing, QuietOutput, Site

if TYPE_CHECKING:
    from ..bundle.folder import FolderRequest
    from .folders import Folders


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that is to be made at ``target`` of what is at ``paths``."""

    target: Path
    paths: list[Path]
    request: "FolderRequest"


@command
def pack(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="The files and folders to pack.")],
    describing: Describing,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the bundle to this file, or - for standard output.", metavar="FILE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing bundle.")] = False,
    each: Annotated[
        bool, typer.Option("--each", help="Make a bundle of each folder in the given folders, in the folder of -o.")
    ] = False,
    dry_run: DryRun = False,
    *,
    packing: Packing,
    site: Site,
    options: QuietOutput,
) -> None:
    """Pack files and folders into a bundle."""
    from .dry_run import show_plan_of_bundle
    from .folders import Folders
    from .output import finish, notify

    given = describing.description
    # A bundle can be packed where nothing else of a site can be done.
    settings = site.settings if given.missing or each else None
    folders = Folders(given, packing.rules, settings)
    if not each:
        bundle = _one(paths, output, folders, options)
        if dry_run:
            show_plan_of_bundle(bundle.target, bundle.paths, bundle.request, options)
        else:
            _pack(bundle, options, force=force)
        return
    errors: list[IngestError | None] = []
    for bundle in _several(paths, output, folders):
        try:
            if dry_run:
                show_plan_of_bundle(bundle.target, bundle.paths, bundle.request, options)
            else:
                _pack(bundle, options, force=force)
        except Interrupted:
            raise
        except IngestError as error:
            notify(*error.lines)
            errors.append(error)
        else:
            errors.append(None)
    finish(errors, debug=options.debug)


def _one(paths: list[Path], output: Path | None, folders: "Folders", options: QuietOutput) -> Bundle:
    from ..pipeline.describing import folders_of
    from .left import STANDARD_OUTPUT

    if output is None and len(paths) > 1:
        raise SettingsError("with several paths, name the bundle with -o")
    target = output or Path(f"{paths[0].resolve().name}.tar")
    if options.json and target == STANDARD_OUTPUT:
        raise OutputsConflict("--json and -o - cannot be used together: both write to standard output")
    return Bundle(target, paths, folders.request(paths[0], folders_of(paths)))


def _several(paths: list[Path], output: Path | None, folders: "Folders") -> list[Bundle]:
    if output is not None and not output.is_dir():
        raise SettingsError(f"{output} is not a folder, and --each writes several bundles into it")
    for path in paths:
        if not path.is_dir():
            raise SettingsError(f"{path} is not a folder, and --each packs the folders in one")
    sources = [source for path in paths for source in folders.sources(path, each=True)]
    return [Bundle((output or Path()) / f"{source.path.name}.tar", [source.path], source.request) for source in sources]


def _pack(bundle: Bundle, options: QuietOutput, *, force: bool) -> None:
    """Make a bundle, and say what is in it."""
    from rich.filesize import decimal

    from .. import api
    from ..text import counted
    from .display import meter_for
    from .left import STANDARD_OUTPUT, saying_what_is_left
    from .output import bundle_output, notify, warn, write_json

    target = bundle.target
    out = bundle_output() if target == STANDARD_OUTPUT else None
    with saying_what_is_left(target), meter_for(options, str(target), "pack") as meter:
        packed = api.pack_requested(bundle.paths, bundle.request, out or target, replace=force, meter=meter)
    if not options.quiet:
        for warning in packed.warnings:
            warn(warning)
    if options.json:
        left_out = [{"path": entry.name, "reason": entry.reason} for entry in packed.left_out]
        write_json({"target": str(target), "files": packed.files, "bytes": packed.bytes, "left_out": left_out})
    elif not options.quiet:
        notify(f"{target}: {counted(packed.files, 'file')}, {decimal(packed.bytes)}")

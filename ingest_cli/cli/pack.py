"""``ingest pack PATH...``."""

from pathlib import Path
from typing import Annotated

import typer

from .command import command
from .options import INSTRUMENT, PROJECT, SUBMITTER, Keys, Packing, QuietOutput, pairs_of


@command
def pack(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="The files and folders to pack.")],
    submitter: Annotated[int, SUBMITTER],
    project: Annotated[str, PROJECT],
    instrument: Annotated[int, INSTRUMENT],
    key: Keys = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the bundle to this file, or - for standard output.", metavar="FILE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing bundle.")] = False,
    *,
    packing: Packing,
    options: QuietOutput,
) -> None:
    """Pack files and folders into a bundle."""
    from rich.filesize import decimal

    from ..bundle.pack import pack as pack_to
    from ..bundle.pack import write_bundle
    from ..bundle.records import transaction_records
    from ..errors import SettingsError
    from ..text import counted
    from .display import meter_for
    from .left import STANDARD_OUTPUT, saying_what_is_left
    from .output import bundle_output, notify, warn, write_json

    pairs = pairs_of(key)
    if output is None and len(paths) > 1:
        raise SettingsError("with several paths, name the bundle with -o")
    records = transaction_records(submitter, project, instrument, pairs)
    target = output or Path(f"{paths[0].resolve().name}.tar")
    if options.json and target == STANDARD_OUTPUT:
        raise SettingsError("--json and -o - cannot be used together: both write to standard output")
    # A folder is packed, be it that a link leads to it.
    tops = [path.resolve() if path.is_dir() and path.is_symlink() else path for path in paths]
    out = bundle_output() if target == STANDARD_OUTPUT else None
    with saying_what_is_left(target), meter_for(options, str(target), "pack") as meter:
        if out is not None:
            packed = pack_to(tops, records, out, packing.rules, meter=meter)
        else:
            packed = write_bundle(tops, records, target, packing.rules, replace=force, meter=meter)
    if not options.quiet:
        for warning in packed.warnings:
            warn(warning)
    if options.json:
        left_out = [{"path": entry.name, "reason": entry.reason} for entry in packed.left_out]
        write_json({"target": str(target), "files": packed.files, "bytes": packed.bytes, "left_out": left_out})
    elif not options.quiet:
        notify(f"{target}: {counted(packed.files, 'file')}, {decimal(packed.bytes)}")

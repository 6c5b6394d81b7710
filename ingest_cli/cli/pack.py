"""``ingest pack PATH...``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Debug, Json, Quiet

STANDARD_OUTPUT = Path("-")


def pack(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files and folders.")],
    submitter: Annotated[int, typer.Option("--submitter", min=0, help="The id of who submits it.")],
    project: Annotated[str, typer.Option("--project", help="The id of the project.")],
    instrument: Annotated[int, typer.Option("--instrument", min=0, help="The id of the instrument.")],
    key: Annotated[list[str] | None, typer.Option("--key", help="A key and its value.", metavar="KEY=VALUE")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The bundle, or - for standard output.", metavar="FILE")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the bundle if it is there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a bundle of files and folders."""
    import json as json_format
    import signal
    import sys

    from ..bundle.pack import pack as pack_to
    from ..bundle.pack import transaction_records, write_bundle
    from ..errors import Interrupted, SettingsError

    pairs = [tuple(text.split("=", 1)) for text in key or []]
    for pair in pairs:
        if len(pair) != 2:
            raise SettingsError(f"--key {pair[0]!r} is not of the form KEY=VALUE")
    if output is None and len(paths) > 1:
        raise SettingsError("say by -o how the bundle of several paths is to be called")
    records = transaction_records(submitter, project, instrument, [(pair[0], pair[1]) for pair in pairs])
    target = output or Path(f"{paths[0].resolve().name}.tar")
    if json and target == STANDARD_OUTPUT:
        raise SettingsError("--json and -o - do not go together: both are of standard output")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if target == STANDARD_OUTPUT:
            packed = pack_to(paths, records, sys.stdout.buffer)
        else:
            packed = write_bundle(paths, records, target, replace=force)
    except KeyboardInterrupt:
        raise Interrupted from None
    if json:
        print(json_format.dumps({"target": str(target), "files": packed.files, "bytes": packed.bytes}))
    elif not quiet:
        print(f"ingest: {target}: {packed.files} files, {packed.bytes} bytes", file=sys.stderr)

"""The command line: one file per command, and no logic; everything it does can be called from Python.

Commands are imported when they are asked for, and import what they use when they run, so that ``ingest --help`` does
not wait for all of it.
"""

from typing import Annotated

import typer

from .. import __version__
from .group import IngestGroup

app = typer.Typer(
    cls=IngestGroup,
    help="Ingest bundles of scientific data. 'ingest BUNDLE...' is short for 'ingest ingest BUNDLE...'.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    # typer's own messages would come in colours, which the guarded streams show as what they are.
    context_settings={"help_option_names": ["-h", "--help"], "color": False},
)


def _show_version(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:  # as while a shell completes
        print(f"ingest {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass

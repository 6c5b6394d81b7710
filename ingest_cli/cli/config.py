"""``ingest config``: the settings in effect, and where they come from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .config_init import config_init
from .options import Output, UserSite
from .output import say, warn, write_json
from .usage import Command, Group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..settings import Value


@command
def config(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", "-a", help="Show those that have their defaults too.")] = False,
    *,
    site: UserSite,
    output: Output,
) -> None:
    """Show the settings, their values and where they come from.

    'ingest config init' writes a configuration file.
    """
    from ..settings import homeless, settings_of

    if ctx.invoked_subcommand is not None:
        _refuse_options_of_another(ctx)
        return
    values = site.values
    wanted = homeless(values)
    if wanted is None:
        settings_of(values)  # says what cannot be used
    else:
        warn(wanted)
    if output.json:
        write_json([_row(value) for value in values], indent=2)
        return
    _say(f"configuration file: {_file(site.config)}")
    shown = [value for value in values if every or _matters(value, of=values)]
    for value in shown:
        row = _row(value)
        say(f"[{row['section']}] {row['key']} = {row['value'] or '(none)'}")
        _say(f"    {row['meaning']}; from: {row['origin']}; variable: {row['variable']}")
    if not every:
        _say(f"{len(values) - len(shown)} others have their defaults: 'ingest config --all' shows them")


# Below this, breaking words is better than leaving them whole.
NARROWEST = 30

app = typer.Typer(
    cls=Group,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(config)
app.command("init", cls=Command)(config_init)


def _row(value: "Value") -> dict[str, str]:
    return {
        "section": value.option.section,
        "key": value.option.key,
        "value": value.shown,
        "origin": value.origin,
        "variable": value.option.variable,
        "meaning": value.option.meaning,
    }


def _say(text: str) -> None:
    """Print a line; on a terminal, as many as it takes without breaking a word."""
    import shutil
    import sys
    import textwrap

    if sys.stdout is None or not sys.stdout.isatty():
        say(text)
        return
    width = max(shutil.get_terminal_size().columns, NARROWEST)
    for line in textwrap.wrap(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False):
        say(line)


def _matters(value: "Value", *, of: "Sequence[Value]") -> bool:
    """Whether it was set, or says where everything lies."""
    from ..settings.options import DATABASE, DATABASE_URL, PLACES

    if value.origin != "default":
        return True
    is_elsewhere = any(other.text for other in of if other.option is DATABASE_URL)
    return value.option in PLACES and not (value.option is DATABASE and is_elsewhere)


def _file(given: Path | None) -> str:
    import os

    from ..settings import config_path

    path = given or config_path(os.environ)
    if path is None:
        return "none, as there is no home folder"
    return str(path) if path.is_file() else f"{path}, which is not there: 'ingest config init' writes it"


def _refuse_options_of_another(ctx: typer.Context) -> None:
    from ..errors import SettingsError

    for parameter in ctx.command.params:
        if ctx.params.get(parameter.name or "") not in (None, False):
            name = max(parameter.opts, key=len)
            raise SettingsError(f"write {name} behind {ctx.invoked_subcommand}, if it is an option of that")

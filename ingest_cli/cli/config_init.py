"""``ingest config init``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .options import Config, Db, Debug, User
from .output import notify, say, warn

if TYPE_CHECKING:
    from ..settings import Option, Settings


@command
def config_init(
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: write what options say, and defaults for the rest.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file that is there, which is kept as 'config.ini.old'.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Keep the archive and all databases in this folder.", metavar="FOLDER"),
    ] = None,
    server: Annotated[
        bool, typer.Option("--server", help="Make a token for clients of 'ingest serve' on other machines.")
    ] = False,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Set any key, as in 'uniqueid.url=http://ids:8051'; can be repeated.",
            metavar="SECTION.KEY=VALUE",
        ),
    ] = None,
    config: Config = None,
    db: Db = None,
    user: User = None,
    debug: Debug = False,
) -> None:
    """Write a configuration file, by asking what it is to say.

    Every key is in it, with its meaning and its default. It is read back, and what it leads to is checked as
    'ingest doctor' does.
    """
    from ..errors import SettingsError
    from ..maintenance.config_file import settings_in, there_already, write_config
    from .asking import is_attended
    from .config_questions import ask_for, new_token

    path = _path(config)
    if not force and os.path.lexists(path):
        raise there_already(path)
    if not yes and not is_attended():
        raise SettingsError("there is nobody to ask: give --yes to write what options say, and defaults for the rest")
    chosen = _chosen(data, db, user, given) | (new_token() if server else {})
    settings_in(chosen, path)  # says what cannot be used before anything is asked
    if not yes:
        chosen = ask_for(chosen, path)
    settings = write_config(chosen, path, replace=force)
    say(f"wrote {path}")
    _check(settings)
    _tell_what_else_counts(path)
    if not yes:
        _tell_what_next(settings)


def _path(given: Path | None) -> Path:
    from ..errors import SettingsError
    from ..settings import config_path

    path = given or config_path(os.environ)
    if path is None:
        raise SettingsError("there is no home folder: name the file by --config")
    return path.absolute()


def _chosen(data: Path | None, db: Path | None, user: str | None, given: list[str] | None) -> "dict[Option, str]":
    """What the options say. Raises SettingsError."""
    from ..settings.options import DATABASE, DEFAULT_USER, PLACES
    from ..settings.values import places_in

    chosen: dict[Option, str] = {}
    if data is not None:
        places = places_in(data.absolute())
        chosen = {option: places[option] for option in PLACES}
    if db is not None:
        chosen[DATABASE] = str(db.absolute())
    if user is not None:
        chosen[DEFAULT_USER] = user
    return chosen | dict(map(_setting, given or []))


def _setting(text: str) -> "tuple[Option, str]":
    from difflib import get_close_matches

    from ..errors import SettingsError
    from ..settings.options import OPTIONS

    name, equals, value = text.partition("=")
    known = {f"{option.section}.{option.key}": option for option in OPTIONS}
    if not equals:
        raise SettingsError(f"--set {name!r} is not of the form SECTION.KEY=VALUE")
    if name.strip() not in known:
        close = get_close_matches(name, known, 1)
        raise SettingsError(f"--set: there is no {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    return known[name.strip()], value.strip()


def _check(settings: "Settings") -> None:
    """Say what works of what was configured, and what not yet."""
    from ..maintenance.doctor import diagnose
    from .doctor import show

    all_ok = True
    for finding in diagnose(settings):
        show(finding)
        all_ok &= finding.ok
    if not all_ok:
        notify("the file is written, but not everything works yet: 'ingest doctor' checks it again")


def _tell_what_else_counts(path: Path) -> None:
    """Say what keeps the file from being heard."""
    from ..settings import config_path
    from ..settings.options import OPTIONS

    if config_path(os.environ) != path:
        notify(f"for this file to count, give --config {path}, or set INGEST_CONFIG to it")
    for option in OPTIONS:
        if os.environ.get(option.variable):
            warn(f"{option.variable} is set, and wins over [{option.section}] {option.key} of the file")


def _tell_what_next(settings: "Settings") -> None:
    """Say what the person who was asked can do now."""
    for folder in settings.watch.folders[:1]:
        notify(f"'ingest watch' takes what is put into {folder}")
    if settings.server.token:
        notify("'ingest serve --host 0.0.0.0' takes bundles from those with the token")
    notify("'ingest BUNDLE' stores one; 'ingest deploy systemd' has it run by itself")

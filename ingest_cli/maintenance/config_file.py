"""Writes the configuration file, so that it is whole, as private as what it holds, and read back before it counts."""

from collections.abc import Mapping
from pathlib import Path

from ..disk import durable_write, explained, make_folder
from ..errors import SettingsError
from ..settings import Option, Settings, settings_of
from ..settings.options import URLS
from ..settings.values import values_in
from ..settings.writing import config_text

PUBLIC, PRIVATE = 0o644, 0o600


def settings_in(chosen: Mapping[Option, str], path: Path) -> Settings:
    """What a file at ``path`` with these values says by itself. Raises SettingsError where that cannot be used."""
    return settings_of(values_in(config_text(chosen, path), path))


def write_config(chosen: Mapping[Option, str], path: Path, *, replace: bool) -> Settings:
    """Write the values to the file at ``path``, and read it back.

    With ``replace`` the file that is there is kept beside it, as ``config.ini.old``. Raises SettingsError where there
    is one otherwise, where the values cannot be used, and where it cannot be written.
    """
    text = config_text(chosen, path)
    settings = settings_of(values_in(text, path))
    if replace:  # a link stays one
        path = path.resolve()
    try:
        make_folder(path.absolute().parent)
        if replace and path.exists():
            with durable_write(path.with_name(f"{path.name}.old"), replace=True) as file:
                file.write(path.read_bytes())
        with durable_write(path, mode=PRIVATE if holds_secret(chosen) else PUBLIC, replace=replace) as file:
            file.write(text.encode())
        written = path.read_text("utf-8")
    except FileExistsError:
        raise there_already(path) from None
    except OSError as error:
        raise explained(error, f"cannot write {path}", SettingsError, path) from error
    if values_in(written, path) != settings.values:
        raise SettingsError(f"{path} does not hold what was written to it")
    return settings


def there_already(path: Path) -> SettingsError:
    """The error where there is a file that is not to be replaced."""
    return SettingsError(f"{path} is there already: change it with an editor, or replace it with --force")


def holds_secret(chosen: Mapping[Option, str]) -> bool:
    """Whether a password or a token is among the values."""
    return any(text and (option.secret or (option in URLS and "@" in text)) for option, text in chosen.items())

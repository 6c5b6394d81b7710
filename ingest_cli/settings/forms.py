"""What a value must look like, and what it is then: a path, a number, a switch. All raise SettingsError."""

import os
import re
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

from ..errors import SettingsError
from .options import NOTIFICATIONS_COMMAND
from .values import Value, where

MAX_TIMEOUT_SECONDS = 86_400
BYTES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "kib": 1 << 10, "mib": 1 << 20}


def path_of(value: Value, text: str | None = None) -> Path:
    """The path that the value is, or the ``text`` in it."""
    text = value.text if text is None else text
    if "\0" in text:
        raise SettingsError(f"{where(value)} contains a NUL character")
    try:
        path = Path(text).expanduser().absolute()
        str(path).encode()
    except RuntimeError as error:
        raise SettingsError(f"{where(value)}: there is no home folder for the ~ of {text!r}") from error
    except FileNotFoundError as error:
        raise SettingsError(f"{where(value)}: {text!r} is relative, and the working directory is gone") from error
    except UnicodeEncodeError as error:
        raise SettingsError(f"{where(value)}: {str(path)!r} is not valid UTF-8") from error
    return path


def folders_of(value: Value) -> tuple[Path, ...]:
    """Folders as they stand in PATH, or each on a line of its own."""
    names = [name.strip() for name in re.split(rf"[\n{os.pathsep}]", value.text)]
    for name in names:
        if re.search(r"\s/", name):
            raise SettingsError(f"{where(value)}: {name!r}: separate folders by {os.pathsep!r}, not by blanks")
    return tuple(path_of(replace(value, text=name)) for name in names if name)


def number_of(value: Value, least: int, most: int) -> int:
    """A whole number within bounds, both of which it may be."""
    digits = value.text if value.text.isascii() and value.text.isdigit() else ""
    if not digits or len(digits) > len(str(most)) or not least <= int(digits) <= most:
        raise SettingsError(f"{where(value)}: {value.text!r} is not a number from {least} to {most}")
    return int(digits)


def bytes_of(value: Value, most: int) -> int:
    """A number of bytes up to this many, with a unit or without."""
    found = re.fullmatch(r"([0-9]{1,12})\s*([A-Za-z]*)", value.text)
    unit = BYTES.get(found[2].lower()) if found is not None else None
    if found is None or unit is None or int(found[1]) * unit > most:
        raise SettingsError(
            f"{where(value)}: {value.text!r} is not a number of bytes up to {most >> 10} KiB, as in 64KiB"
        )
    return int(found[1]) * unit


def seconds_of(value: Value) -> float:
    """A number of seconds, which may have a fraction."""
    number = re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value.text)
    if number is None or not 0 < float(value.text) <= MAX_TIMEOUT_SECONDS:
        raise SettingsError(f"{where(value)}: {value.text!r} is not a number of seconds up to {MAX_TIMEOUT_SECONDS}")
    return float(value.text)


def printable_of(value: Value) -> str:
    """A text in which every character can be shown."""
    if not value.text.isprintable():
        raise SettingsError(f"{where(value)} contains an unprintable character")
    return value.text


def header_name_of(value: Value) -> str:
    """The name of a header of HTTP."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value.text):
        raise SettingsError(f"{where(value)}: {value.text!r} is not a valid header name (RFC 9110, 5.1)")
    return value.text


def switch_of(value: Value) -> bool:
    """Whether it is on."""
    try:
        return ConfigParser.BOOLEAN_STATES[value.text.lower()]
    except KeyError:
        raise SettingsError(f"{where(value)}: {value.text!r} is neither yes nor no") from None


def refuse_quotes(value: Value) -> None:
    """Raise where a value stands in quotes, which config.ini has no use for."""
    if value.option == NOTIFICATIONS_COMMAND:
        return
    quote = value.text[:1]
    if quote in ('"', "'") and len(value.text) > 1 and value.text.endswith(quote) and not value.option.secret:
        raise SettingsError(f"{where(value)}: write {value.shown} without its quotes")

"""The text of a ``config.ini``: every key with its meaning and its default, made from the options themselves."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from ..errors import SettingsError
from .options import OPTIONS, Option
from .values import values_in

WIDTH = 80
HEAD = (
    "The configuration of ingest, as 'ingest config init' has written it.",
    "A key behind a # has the default that it shows: to change it, remove the # and write another value. Values stand"
    " without quotes, and a % is written %%, but in passwords and tokens as it is. The variable in brackets wins over"
    " the file. 'ingest help config.5' says more of each key.",
)


def config_text(chosen: Mapping[Option, str], path: Path) -> str:
    """The text of the file at ``path`` with the ``chosen`` values. Raises SettingsError where it cannot hold one."""
    defaults = {value.option: value.text for value in values_in("", path)}
    lines = [line for paragraph in HEAD for line in _comment(paragraph)]
    for section in dict.fromkeys(option.section for option in OPTIONS):
        lines += ["", f"[{section}]"]
        for option in OPTIONS:
            if option.section == section:
                lines += ["", *_comment(f"{option.meaning} [{option.variable}]")]
                lines += _setting(option, chosen.get(option, ""), defaults[option])
    text = "".join(f"{line}\n" for line in lines)
    _require_all(chosen, text, path)
    return text


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _setting(option: Option, text: str, default: str) -> list[str]:
    if not text:
        return [f"#{option.key} = {_escaped(option, default)}".rstrip()]
    # Further lines of a value are indented.
    return f"{option.key} = {_escaped(option, text)}".replace("\n", "\n    ").split("\n")


def _escaped(option: Option, text: str) -> str:
    return text if option.secret else text.replace("%", "%%")


def _require_all(chosen: Mapping[Option, str], text: str, path: Path) -> None:
    try:
        # As it is read from a disk, every end of a line is one.
        values = values_in(re.sub(r"\r\n?", "\n", text), path)
    except SettingsError:
        raise SettingsError("no configuration file can hold these values") from None
    for value in values:
        wanted = chosen.get(value.option, "").strip()
        if wanted and value.text != wanted:
            option = value.option
            raise SettingsError(f"no configuration file can hold this value of [{option.section}] {option.key}")

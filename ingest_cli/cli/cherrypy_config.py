"""What counts of a configuration file for CherryPy, Pacifica Ingest's server: where to listen, and how much to take."""

import ast
import os
import re
from collections.abc import Iterator
from configparser import Error as ConfigError
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..text import listed

HOST, PORT, SOCKET = "server.socket_host", "server.socket_port", "server.socket_file"
MOST = "server.max_request_body_size"
# What cannot be done without, with what to do instead.
WANTED = {
    r"server\.ssl_(certificate|private_key)": "this server does not speak TLS: have a proxy before it do so",
    r"tools\.\w*auth\w*\.on": "CherryPy's tools are not there: set username and password, or token, in [server] of the"
    " configuration file",
}
# What is done here in any case, or has nothing to do here.
NEEDLESS = r"request\.dispatch|tools\.response_headers\..*|engine\.autoreload\..*"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen, how large a body may be (None: of any size), and which keys have no effect.

    Where there is a ``unix`` socket, nothing listens at the host and port.
    """

    host: str
    port: int
    unix: Path | None = None
    most: int | None = None
    ignored: tuple[str, ...] = ()


def listening(path: Path, host: str, port: int, *, required: bool) -> Listening:
    """What the file at ``path`` says; the others are for what it does not, as CherryPy has it.

    Raises SettingsError where it says what would be missed, as TLS is, or cannot be read; and where it is not there,
    though it is ``required``.
    """
    if not required and not path.exists():
        return Listening(host, port)
    values: dict[str, Any] = {HOST: host, PORT: port, SOCKET: "", MOST: 0}
    ignored = []
    for section, key, text in _entries(path):
        value = _value(text)
        for pattern, advice in WANTED.items():
            if re.fullmatch(pattern, key) and value not in (None, False, ""):
                raise SettingsError(f"{path}: {key}: {advice}")
        if section == "global" and key in values:
            if value is not None:
                values[key] = _checked(path, key, value, values[key])
        elif not re.fullmatch(NEEDLESS, key):
            ignored.append(key)
    unix = Path(values[SOCKET]) if values[SOCKET] else None
    return Listening(values[HOST], values[PORT], unix, values[MOST] or None, tuple(ignored))


def ignored_keys(path: Path, found: Listening) -> str:
    """What is said of the keys that have no effect; empty where there are none."""
    return f"{path}: no effect here: {listed(found.ignored)}" if found.ignored else ""


def _entries(path: Path) -> Iterator[tuple[str, str, str]]:
    parser = RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(path.read_text("utf-8-sig"), os.fspath(path))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (ConfigError, UnicodeDecodeError):
        raise SettingsError(f"{path} is not a configuration file for CherryPy") from None
    for section in parser.sections():
        for key, text in parser.items(section):
            yield section, key, text


def _value(text: str) -> Any:
    """The value that Python's notation is of, as CherryPy takes it; the text itself where it is no plain one."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _checked(path: Path, key: str, value: Any, default: Any) -> Any:
    most = 65535 if key == PORT else float("inf")
    if type(value) is not type(default) or (isinstance(value, int) and not 0 <= value <= most):
        raise SettingsError(f"{path}: {key} is not {'a name in quotes' if isinstance(default, str) else 'a number'}")
    return value

"""Where the values of the options come from: flags over environment over ``config.ini`` over defaults."""

import codecs
import getpass
import os
import sys
from collections.abc import Iterable, Mapping
from configparser import ConfigParser, MissingSectionHeaderError, ParsingError
from configparser import Error as ConfigError
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ..errors import SettingsError
from .options import (
    ARCHIVE_URL,
    AUTH_HEADER,
    CATALOG_URL,
    CONFIRM,
    DATABASE,
    DEFAULT_USER,
    DIGEST,
    DOCUMENT_LIMIT,
    DOWNLOADS,
    EVENT_ID,
    EVENT_SOURCE,
    EVENT_TYPE,
    LISTEN,
    NOTIFICATIONS_DISABLED,
    NOTIFICATIONS_EVENTS,
    NOTIFICATIONS_FORMAT,
    OPTIONS,
    PACIFICA_KEYS,
    PACIFICA_SECTIONS,
    PACK_BELOW,
    PLACES,
    POLICY_URL,
    PRIORITY,
    REMOTE_SOURCES,
    RETRIES,
    S3_REGION,
    SERVICE_TIMEOUT,
    THREADS,
    UNIQUEID_URL,
    UPLOADS,
    URLS,
    USUAL_DOCUMENT_MIB,
    USUAL_PRIORITY,
    USUAL_RETRIES,
    VOLUME_PATH,
    Option,
)

APPLICATION = "pacifica-ingest-cli"
HIDDEN = "(hidden)"
# How the URL of a database begins.
POSTGRES = ("postgresql:", "postgres:")


@dataclass(frozen=True, slots=True)
class Value:
    """An effective value and where it came from."""

    option: Option
    text: str
    origin: str

    @property
    def rank(self) -> int:
        """Which of two settings that exclude each other counts: that of the higher rank."""
        return {"default": 0, self.option.variable: 2, "command line": 3}.get(self.origin, 1)

    @property
    def shown(self) -> str:
        """The value as it may be printed: secrets and passwords within URLs are left out."""
        if self.option.secret and self.text:
            return HIDDEN
        if self.text.startswith(POSTGRES):
            return without_password(self.text)
        before, at, after = self.text.rpartition("@")
        if not at or self.option not in URLS or self.text.startswith("file:"):
            return self.text
        scheme, separator, _ = before.partition("://")
        return f"{scheme}://{HIDDEN}@{after}" if separator else f"{HIDDEN}@{after}"


def read_values(
    *,
    config: Path | None = None,
    flags: Mapping[Option, str | None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Value, ...]:
    """The effective value of every option, whether it can be used or not. Raises SettingsError."""
    environment = os.environ if environment is None else environment
    file = _read_config(config, environment)
    defaults = _defaults(environment)
    return tuple(_effective(option, flags or {}, environment, file, defaults) for option in OPTIONS)


def values_in(text: str, path: Path, *, environment: Mapping[str, str] | None = None) -> tuple[Value, ...]:
    """The value of every option where ``text`` is the configuration file at ``path`` and nothing else is said.

    Raises SettingsError.
    """
    file = path, _parsed(text, path)
    defaults = _defaults(os.environ if environment is None else environment)
    return tuple(_effective(option, {}, {}, file, defaults) for option in OPTIONS)


def homeless(values: Iterable[Value]) -> str | None:
    """What is to be set where there is no home folder for places that are not set; None where nothing is."""
    missing = [value.option for value in values if value.option in PLACES and not value.text]
    if not missing:
        return None
    named = ", ".join(f"[{option.section}] {option.key} ({option.variable})" for option in missing)
    return f"there is no home folder: set HOME, or XDG_DATA_HOME, or each of {named}"


def config_path(environment: Mapping[str, str]) -> Path | None:
    """The configuration file: INGEST_CONFIG, else ``config.ini`` in the platform's place for configuration, if any."""
    if environment.get("INGEST_CONFIG"):
        return Path(environment["INGEST_CONFIG"])
    folder = _platform_folder(environment, "XDG_CONFIG_HOME", ".config")
    return None if folder is None else folder / "config.ini"


def _platform_folder(environment: Mapping[str, str], xdg: str, below_home: str) -> Path | None:
    """This program's folder for one kind of files; None where it would be below a home folder that there is not."""
    # The XDG base directory specification: a relative path there is to be ignored.
    if sys.platform not in ("darwin", "win32") and environment.get(xdg, "").startswith("/"):
        return Path(environment[xdg]) / APPLICATION
    if sys.platform == "win32" and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"]) / APPLICATION
    below = {"darwin": "Library/Application Support", "win32": "AppData/Local"}.get(sys.platform, below_home)
    home = _home()
    return None if home is None else home / below / APPLICATION


def _home() -> Path | None:
    """The user's home folder; None where neither HOME nor the system says which it is, as in some containers."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if home.is_absolute() else None


def _defaults(environment: Mapping[str, str]) -> dict[Option, str]:
    data = _platform_folder(environment, "XDG_DATA_HOME", ".local/share")
    return {
        **({} if data is None else places_in(data)),
        DEFAULT_USER: login_name(),
        AUTH_HEADER: "X-Http-Authed-User",
        SERVICE_TIMEOUT: "30",
        RETRIES: str(USUAL_RETRIES),
        DOCUMENT_LIMIT: str(USUAL_DOCUMENT_MIB),
        POLICY_URL: "",
        THREADS: "",
        REMOTE_SOURCES: "no",
        CONFIRM: "sample",
        DIGEST: "none",
        PACK_BELOW: "0",
        S3_REGION: "us-east-1",
        NOTIFICATIONS_DISABLED: "no",
        NOTIFICATIONS_EVENTS: "ingest",
        NOTIFICATIONS_FORMAT: "0.1",
        EVENT_TYPE: "org.pacifica.metadata.ingest",
        EVENT_SOURCE: "http://metadata.pacifica.org/transactions?_id={_id}",
        EVENT_ID: "metadata.ingest.{_id}",
        DOWNLOADS: "no",
        LISTEN: "yes",
        PRIORITY: str(USUAL_PRIORITY),
    }


def places_in(data: Path) -> dict[Option, str]:
    """Where everything is that this program keeps, if it is in one folder."""
    return {
        DATABASE: str(data / "jobs.sqlite3"),
        VOLUME_PATH: str(data / "spool"),
        UNIQUEID_URL: (data / "ids.sqlite3").as_uri(),
        ARCHIVE_URL: (data / "archive").as_uri(),
        CATALOG_URL: (data / "catalogue.sqlite3").as_uri(),
        UPLOADS: str(data / "uploads"),
    }


def login_name() -> str:
    """The name of the user who runs this process, or the number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return str(os.getuid())


def _read_config(given: Path | None, environment: Mapping[str, str]) -> tuple[Path | None, ConfigParser]:
    path, parser = given or config_path(environment), ConfigParser()
    if path is None:
        return path, parser
    required = given is not None or bool(environment.get("INGEST_CONFIG"))
    try:
        return path, _parsed(_text_of(path), path)
    except (FileNotFoundError, NotADirectoryError) as error:  # such as a home folder /dev/null
        if required:
            raise SettingsError(f"there is no configuration file {path}") from error
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    return path, parser


def _parsed(text: str, path: Path) -> ConfigParser:
    parser = ConfigParser()
    try:
        parser.read_string(text, str(path))
    except ParsingError as error:
        # The error's own text quotes the lines, which may hold secrets.
        first = error.lineno if isinstance(error, MissingSectionHeaderError) else error.errors[0][0]
        raise SettingsError(f"{path} is malformed at line {first}") from None
    except ConfigError as error:
        raise SettingsError(f"{path} is malformed: {' '.join(str(error).split())}") from error
    _refuse_unknown(path, parser)
    return parser


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # which some editors begin with a mark
    except UnicodeDecodeError as error:
        is_utf_16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        what = "UTF-16: save it as UTF-8" if is_utf_16 else f"not UTF-8 (byte {error.start})"
        raise SettingsError(f"{path} is {what}") from error


def _refuse_unknown(path: Path, parser: ConfigParser) -> None:
    known: dict[str, list[str]] = {section: list(keys) for section, keys in PACIFICA_KEYS.items()}
    for option in OPTIONS:
        known.setdefault(option.section, []).append(option.key)
    for section in parser.sections():
        if section in PACIFICA_SECTIONS:
            continue
        if section not in known:
            raise SettingsError(f"{path}: unknown section [{section}]; {_known_names(section, list(known))}")
        for key in parser[section]:
            if key not in known[section]:
                raise SettingsError(f"{path}: unknown key {key!r} in [{section}]; {_known_names(key, known[section])}")


def _known_names(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(sorted(known))}"


def _effective(
    option: Option,
    flags: Mapping[Option, str | None],
    environment: Mapping[str, str],
    file: tuple[Path | None, ConfigParser],
    defaults: Mapping[Option, str],
) -> Value:
    flag = flags.get(option)
    if flag is not None:
        return Value(option, flag, "command line")
    for variable in (option.variable, *option.also):
        if environment.get(variable):
            return Value(option, environment[variable], variable)
    path, parser = file
    try:
        # A password may hold a "%".
        text = parser.get(option.section, option.key, fallback="", raw=option.secret).strip()
    except ConfigError:
        # The error's own text quotes the value, which may hold a password.
        raise SettingsError(f"{path}: [{option.section}] {option.key}: write a % as %%") from None
    if text:
        return Value(option, text, str(path))
    return Value(option, defaults.get(option, ""), "default")


def without_password(url: str) -> str:
    """The URL of a database without a password, be it beside the user's name or behind the question mark."""
    try:
        parts = urlsplit(url)
        if "@" in f"{parts.path}{parts.fragment}":
            return HIDDEN
    except ValueError:
        return HIDDEN
    user, at, host = parts.netloc.rpartition("@")
    query = "&".join(part for part in parts.query.split("&") if "password" not in unquote(part.partition("=")[0]))
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query=query))


def where(value: Value) -> str:
    """Where the value was set, for messages."""
    return f"{value.origin}: [{value.option.section}] {value.option.key}"

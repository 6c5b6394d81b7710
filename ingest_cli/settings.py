"""The settings: flags over environment over ``config.ini`` over defaults, built once, then frozen.

The file's sections and the variables' names are those of Pacifica Ingest, so that a site can point at the file it
has. What only Pacifica's own processes need (celery, peewee) is accepted and ignored.
"""

import codecs
import getpass
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from configparser import ConfigParser, MissingSectionHeaderError, ParsingError
from configparser import Error as ConfigError
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import SplitResult, unquote, urlsplit

from .errors import SettingsError

APPLICATION = "pacifica-ingest-cli"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its place in config.ini, its environment variable, and what it means."""

    section: str
    key: str
    variable: str
    meaning: str
    secret: bool = False


DATABASE = Option("database", "path", "INGEST_DB", "the job store, an SQLite file")
VOLUME_PATH = Option("ingest", "volume_path", "VOLUME_PATH", "the spool folder, for incoming bundles")
DEFAULT_USER = Option("ingest", "default_user", "INGEST_DEFAULT_USER", "the user the policy applies to")
AUTH_HEADER = Option(
    "ingest", "auth_header", "INGEST_AUTH_HEADER", "the header that names the user to a policy service"
)
SERVICE_TIMEOUT = Option(
    "ingest", "service_timeout", "INGEST_SERVICE_TIMEOUT", "how many seconds a service over HTTP may take to answer"
)
RETRIES = Option(
    "ingest", "retries", "INGEST_RETRIES", "how many times a job that fails for now is retried; 0: it has failed"
)
UNIQUEID_URL = Option("uniqueid", "url", "UNIQUEID_URL", "where ids come from: an SQLite file, or a service")
POLICY_URL = Option(
    "policy",
    "ingest_url",
    "POLICY_INGEST_URL",
    "who may ingest what: a JSON Schema for metadata documents, or a service",
)
ARCHIVE_URL = Option("archiveinterface", "url", "ARCHIVEINTERFACE_URL", "where files are kept: a folder, or a service")
CATALOG_URL = Option(
    "metadata", "ingest_url", "METADATA_INGEST_URL", "where metadata is kept: an SQLite file, or a service"
)
TRANSFERS = Option(
    "archiveinterface", "transfers", "ARCHIVEINTERFACE_TRANSFERS", "how many files an archive service takes at once"
)
REMOTE_SOURCES = Option(
    "archiveinterface",
    "remote_sources",
    "ARCHIVEINTERFACE_REMOTE_SOURCES",
    "yes if only the archive service can see the files to move",
)
CONFIRM = Option(
    "archiveinterface",
    "confirm",
    "ARCHIVEINTERFACE_CONFIRM",
    "which files' stored sizes to confirm with an archive service: sample or all",
)
SERVER_TOKEN = Option(
    "server", "token", "INGEST_SERVER_TOKEN", "the bearer token that the server requires", secret=True
)
SERVER_USERNAME = Option("server", "username", "INGEST_SERVER_USERNAME", "the user name that the server requires")
SERVER_PASSWORD = Option(
    "server", "password", "INGEST_SERVER_PASSWORD", "the password that the server requires", secret=True
)
TRUSTED_PROXIES = Option(
    "server",
    "trusted_proxies",
    "INGEST_TRUSTED_PROXIES",
    "the addresses of proxies, separated by spaces, whose auth_header and X-Forwarded headers the server trusts",
)
ROOT_PATH = Option("server", "root_path", "INGEST_ROOT_PATH", "the path below which a proxy offers the server")
MOVE_FROM = Option(
    "server",
    "move_from",
    "INGEST_MOVE_FROM",
    f"the folders, separated by {os.pathsep!r}, from which the server moves files; none if it is empty",
)
NOTIFICATIONS_URL = Option("notifications", "url", "NOTIFICATIONS_URL", "where events are sent: a service over HTTP")
NOTIFICATIONS_COMMAND = Option(
    "notifications", "command", "NOTIFICATIONS_COMMAND", "a command that is given each event on its standard input"
)
NOTIFICATIONS_DISABLED = Option("notifications", "disabled", "NOTIFICATIONS_DISABLED", "yes if no events are sent")
NOTIFICATIONS_EVENTS = Option(
    "notifications", "events", "NOTIFICATIONS_EVENTS", "what events are sent of: ingest, failed, deferred"
)
NOTIFICATIONS_FORMAT = Option(
    "notifications", "format", "NOTIFICATIONS_FORMAT", "the form of events: 0.1, structured or binary"
)
EVENT_TYPE = Option(
    "notifications", "ingest_eventtype", "NOTIFICATIONS_INGEST_EVENT_TYPE", "the type of the event of a recorded job"
)
EVENT_SOURCE = Option(
    "notifications", "ingest_source", "NOTIFICATIONS_INGEST_SOURCE", "the source of events; {_id} is the job"
)
EVENT_ID = Option(
    "notifications",
    "ingest_eventid",
    "NOTIFICATIONS_INGEST_EVENTID",
    "the id of the event of a recorded job; {_id} is the job",
)
DOWNLOADS = Option(
    "server", "downloads", "INGEST_DOWNLOADS", "yes if the server returns what is stored to those who submitted it"
)
READERS = Option(
    "server",
    "readers",
    "INGEST_READERS",
    "the users, separated by spaces, to whom the server returns what anyone has submitted; * for all of them",
)
UPLOAD_URL = Option("upload", "url", "INGEST_UPLOAD_URL", "the server that 'ingest upload' sends to")
UPLOAD_POLICY_URL = Option(
    "upload",
    "policy_url",
    "INGEST_UPLOAD_POLICY_URL",
    "the policy service that 'ingest upload' asks, for uploader_config",
)
UPLOADER_CONFIG = Option(
    "upload", "uploader_config", "UPLOADER_CONFIG", "what 'ingest upload' asks it: an uploader.json of pacifica-cli"
)
UPLOADS = Option("upload", "folder", "INGEST_UPLOADS", "where 'ingest upload' keeps what it needs to resume uploads")
# What must be somewhere.
PLACES = (DATABASE, VOLUME_PATH, UNIQUEID_URL, ARCHIVE_URL, CATALOG_URL)
SERVICES = {"UNIQUEID": UNIQUEID_URL, "POLICY": POLICY_URL, "ARCHIVEINTERFACE": ARCHIVE_URL, "METADATA": CATALOG_URL}


@dataclass(frozen=True, slots=True)
class Access:
    """The settings for credentials and certificates of one service over HTTP."""

    username: Option
    password: Option
    token: Option
    auth: Option
    ca_file: Option
    client_cert: Option
    client_key: Option

    @classmethod
    def of(cls, prefix: str, section: str) -> "Access":
        """Those of the service whose section this is and whose variables begin with ``prefix``."""

        def option(key: str, meaning: str, *, secret: bool = False) -> Option:
            return Option(section, key, f"{prefix}_{key.upper()}", meaning, secret)

        return cls(
            username=option("username", "the user name for basic authentication"),
            password=option("password", "the password for basic authentication", secret=True),
            token=option("token", "a bearer token", secret=True),
            auth=option("auth", "negotiate, for the user's Kerberos ticket in place of credentials"),
            ca_file=option("ca_file", "CA certificates to trust instead of the system's (PEM)"),
            client_cert=option("client_cert", "a client certificate (PEM)"),
            client_key=option("client_key", "the client certificate's key, if it is in a separate file (PEM)"),
        )

    @property
    def options(self) -> tuple[Option, ...]:
        """All seven."""
        return (self.username, self.password, self.token, self.auth, self.ca_file, self.client_cert, self.client_key)


ACCESS = {
    url: Access.of(prefix, url.section)
    for prefix, url in {**SERVICES, "NOTIFICATIONS": NOTIFICATIONS_URL, "INGEST_UPLOAD": UPLOAD_URL}.items()
}
OPTIONS = (
    DATABASE,
    VOLUME_PATH,
    DEFAULT_USER,
    AUTH_HEADER,
    SERVICE_TIMEOUT,
    RETRIES,
    *SERVICES.values(),
    TRANSFERS,
    REMOTE_SOURCES,
    CONFIRM,
    SERVER_TOKEN,
    SERVER_USERNAME,
    SERVER_PASSWORD,
    TRUSTED_PROXIES,
    ROOT_PATH,
    MOVE_FROM,
    NOTIFICATIONS_URL,
    NOTIFICATIONS_COMMAND,
    NOTIFICATIONS_DISABLED,
    NOTIFICATIONS_EVENTS,
    NOTIFICATIONS_FORMAT,
    EVENT_TYPE,
    EVENT_SOURCE,
    EVENT_ID,
    DOWNLOADS,
    READERS,
    UPLOAD_URL,
    UPLOAD_POLICY_URL,
    UPLOADER_CONFIG,
    UPLOADS,
    *(option for access in ACCESS.values() for option in access.options),
)
MAX_TRANSFERS = 64
MAX_TIMEOUT_SECONDS = 86_400
MOST_RETRIES = 1000
USUAL_RETRIES = 19
# Stands for whoever uses a Unix socket of the server.
UNIX = "unix"
Confirm = Literal["sample", "all"]
EventKind = Literal["ingest", "failed", "deferred"]
EventFormat = Literal["0.1", "structured", "binary"]
ReceiverKind = Literal["url", "command"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
EVENT_FORMATS: tuple[EventFormat, ...] = get_args(EventFormat)
HIDDEN = "(hidden)"

PACIFICA_SECTIONS = ("celery",)
PACIFICA_KEYS = {
    "ingest": ("transfer_size",),
    "database": ("peewee_url", "connect_attempts", "connect_wait"),
    "notifications": tuple(
        f"{kind}_{key}" for kind in ("orm", "doientry", "doiupdate") for key in ("eventtype", "source", "eventid")
    ),
}


# Whose values may hold a password.
URLS = {*ACCESS, UPLOAD_POLICY_URL}


@dataclass(frozen=True, slots=True)
class Value:
    """An effective value and where it came from."""

    option: Option
    text: str
    origin: str

    @property
    def shown(self) -> str:
        """The value as it may be printed: secrets and passwords within URLs are left out."""
        if self.option.secret and self.text:
            return HIDDEN
        before, at, after = self.text.rpartition("@")
        if not at or self.option not in URLS or self.text.startswith("file:"):
            return self.text
        scheme, separator, _ = before.partition("://")
        return f"{scheme}://{HIDDEN}@{after}" if separator else f"{HIDDEN}@{after}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A service over HTTP. Its basic credentials, token and files of TLS are None where there are none.

    With ``negotiate`` it is shown the user's Kerberos ticket. ``timeout`` is how many seconds it may take to answer
    what gives it little to do, and to take or send a piece of what is longer.
    """

    url: str
    timeout: float = 30.0
    basic: tuple[str, str] | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    negotiate: bool = False
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAccess:
    """Who may use the HTTP server: clients with the ``token`` or ``basic`` credentials, or behind a trusted proxy.

    A proxy is trusted at its address, or, where ``trusts_unix``, at a Unix socket. Clients find the server below
    ``root_path``, "" for the root. They may have it move files that lie below the folders ``move_from``, and no others.
    With ``downloads`` they get what they have submitted, and the ``readers`` what anyone has.
    """

    token: str | None = field(default=None, repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    trusts_unix: bool = False
    root_path: str = ""
    move_from: tuple[Path, ...] = ()
    downloads: bool = False
    readers: frozenset[str] = frozenset()

    @property
    def has_proxies(self) -> bool:
        """Whether any proxy is trusted."""
        return self.trusts_unix or bool(self.trusted_proxies)


@dataclass(frozen=True, kw_only=True, slots=True)
class Notifications:
    """Who is sent events: an ``url`` over HTTP, a ``command`` on its standard input, or both; and of which ``kinds``.

    In ``source`` and ``event_id`` stands ``{_id}`` for the job.
    """

    url: Endpoint | None = None
    command: tuple[str, ...] = ()
    kinds: frozenset[EventKind] = frozenset()
    format: EventFormat = "0.1"
    event_type: str = ""
    source: str = ""
    event_id: str = ""

    @property
    def receivers(self) -> tuple[ReceiverKind, ...]:
        """Those that there are."""
        url: tuple[ReceiverKind, ...] = ("url",) if self.url is not None else ()
        return (*url, "command") if self.command else url


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadSettings:
    """Where `ingest upload` sends to, the policy service and the file of what to ask it, each None where it is not set;
    and the ``folder`` for unfinished uploads, None where there is no home folder."""

    server: Endpoint | None = None
    policy_url: str | None = None
    uploader_config: Path | None = None
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Intervals and timeouts, in seconds; ``runs`` is the number of attempts after which a job counts as failed.

    ``retries`` is how many times a job is retried that failed for now; with 0 it is rolled back at once, as any that
    fails. Runs that are interrupted or killed are resumed all the same, until there were ``runs`` of them.
    A run sends a ``heartbeat`` this often, and counts as dead when none is seen for ``stale`` seconds. A transient
    failure is retried after ``first_backoff``, then after twice as long each time, up to ``longest_backoff``.
    ``checkpoint`` is how much work a kill or a loss of power may cost; ``grace`` is how long the current file may take
    after a first signal. ``busy`` is how long to wait for a locked database, ``poll`` how often an idle worker looks
    for a job, and ``pause`` how long it waits after the store could not be used.
    """

    heartbeat: float = 1.0
    stale: float = 30.0
    runs: int = 20
    retries: int = USUAL_RETRIES
    first_backoff: float = 10.0
    longest_backoff: float = 600.0
    checkpoint: float = 10.0
    grace: float = 2.0
    busy: float = 60.0
    poll: float = 0.2
    pause: float = 1.0

    @property
    def attempts(self) -> int:
        """How many runs that fail for now a job may have."""
        return min(self.runs, self.retries + 1)

    @property
    def ending(self) -> float:
        """How long after a first signal a process that runs jobs has ended."""
        return self.grace + 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can be set. Paths are absolute.

    A service is a Path where it is embedded and an Endpoint where it is reached over HTTP; ``policy`` is None where
    every document is allowed. ``service_timeout`` is how many seconds an Endpoint may take. ``transfers``,
    ``remote_sources`` and ``confirm`` are of an archive over HTTP: how many files it takes at once, whether it alone
    sees the files that are to be moved, and of which files it is asked for the size that it stored.
    """

    database: Path
    spool: Path
    user: str
    auth_header: str
    service_timeout: float
    unique_id: Path | Endpoint
    policy: Path | Endpoint | None
    archive: Path | Endpoint
    catalog: Path | Endpoint
    transfers: int
    remote_sources: bool
    confirm: Confirm
    server: ServerAccess
    notifications: Notifications
    upload: UploadSettings
    timings: Timings
    values: tuple[Value, ...]

    def where(self, option: Option) -> str:
        """Where an option was set, for messages."""
        return next(_where(value) for value in self.values if value.option == option)


def load_settings(
    *,
    config: Path | None = None,
    flags: Mapping[Option, str | None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Build the settings. ``environment`` is the process's own unless given. Raises SettingsError."""
    return settings_of(read_values(config=config, flags=flags, environment=environment))


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


def homeless(values: Iterable[Value]) -> str | None:
    """What is to be set where there is no home folder for places that are not set; None where nothing is."""
    missing = [value.option for value in values if value.option in PLACES and not value.text]
    if not missing:
        return None
    named = ", ".join(f"[{option.section}] {option.key} ({option.variable})" for option in missing)
    return f"there is no home folder: set HOME, or XDG_DATA_HOME, or each of {named}"


def settings_of(effective: tuple[Value, ...]) -> Settings:
    """Build the settings from the value of every option. Raises SettingsError."""
    if wanted := homeless(effective):
        raise SettingsError(wanted)
    for value in effective:
        _refuse_quotes(value)
    values = {value.option: value for value in effective}
    archive = _service(values, ARCHIVE_URL)
    remote_sources = _switch(values[REMOTE_SOURCES])
    if remote_sources and isinstance(archive, Path):
        raise SettingsError(f"{_where(values[REMOTE_SOURCES])}: the archive {archive} is on this machine, not remote")
    catalog = _service(values, CATALOG_URL)
    return Settings(
        database=_path(values[DATABASE]),
        spool=_path(values[VOLUME_PATH]),
        user=_printable(values[DEFAULT_USER]),
        auth_header=_header_name(values[AUTH_HEADER]),
        service_timeout=_seconds(values[SERVICE_TIMEOUT]),
        unique_id=_service(values, UNIQUEID_URL),
        policy=_service(values, POLICY_URL) if values[POLICY_URL].text else None,
        archive=archive,
        catalog=catalog,
        transfers=_number(values[TRANSFERS], 1, MAX_TRANSFERS),
        remote_sources=remote_sources,
        confirm=_confirm(values[CONFIRM]),
        server=_server_access(values),
        notifications=_notifications(values, is_catalog_embedded=isinstance(catalog, Path)),
        upload=_upload_settings(values),
        timings=_timings(_number(values[RETRIES], 0, MOST_RETRIES)),
        values=effective,
    )


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
        **({} if data is None else _places_in(data)),
        DEFAULT_USER: login_name(),
        AUTH_HEADER: "X-Http-Authed-User",
        SERVICE_TIMEOUT: "30",
        RETRIES: str(USUAL_RETRIES),
        POLICY_URL: "",
        TRANSFERS: "1",
        REMOTE_SOURCES: "no",
        CONFIRM: "sample",
        NOTIFICATIONS_DISABLED: "no",
        NOTIFICATIONS_EVENTS: "ingest",
        NOTIFICATIONS_FORMAT: "0.1",
        EVENT_TYPE: "org.pacifica.metadata.ingest",
        EVENT_SOURCE: "http://metadata.pacifica.org/transactions?_id={_id}",
        EVENT_ID: "metadata.ingest.{_id}",
        DOWNLOADS: "no",
    }


def _places_in(data: Path) -> dict[Option, str]:
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
        parser.read_string(_text_of(path), str(path))
    except (FileNotFoundError, NotADirectoryError) as error:  # such as a home folder /dev/null
        if required:
            raise SettingsError(f"there is no configuration file {path}") from error
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except ParsingError as error:
        # The error's own text quotes the lines, which may hold secrets.
        first = error.lineno if isinstance(error, MissingSectionHeaderError) else error.errors[0][0]
        raise SettingsError(f"{path} is malformed at line {first}") from None
    except ConfigError as error:
        raise SettingsError(f"{path} is malformed: {' '.join(str(error).split())}") from error
    _refuse_unknown(path, parser)
    return path, parser


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
    if environment.get(option.variable):
        return Value(option, environment[option.variable], option.variable)
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


def _path(value: Value, text: str | None = None) -> Path:
    """The path that the value is, or the ``text`` in it."""
    text = value.text if text is None else text
    if "\0" in text:
        raise SettingsError(f"{_where(value)} contains a NUL character")
    try:
        path = Path(text).expanduser().absolute()
        str(path).encode()
    except RuntimeError as error:
        raise SettingsError(f"{_where(value)}: there is no home folder for the ~ of {text!r}") from error
    except FileNotFoundError as error:
        raise SettingsError(f"{_where(value)}: {text!r} is relative, and the working directory is gone") from error
    except UnicodeEncodeError as error:
        raise SettingsError(f"{_where(value)}: {str(path)!r} is not valid UTF-8") from error
    return path


def _refuse_quotes(value: Value) -> None:
    if value.option == NOTIFICATIONS_COMMAND:
        return
    quote = value.text[:1]
    if quote in ('"', "'") and len(value.text) > 1 and value.text.endswith(quote) and not value.option.secret:
        raise SettingsError(f"{_where(value)}: write {value.shown} without its quotes")


def _folders(value: Value) -> tuple[Path, ...]:
    """Folders as they stand in PATH, or each on a line of its own."""
    names = [name.strip() for name in re.split(rf"[\n{os.pathsep}]", value.text)]
    for name in names:
        if re.search(r"\s/", name):
            raise SettingsError(f"{_where(value)}: {name!r}: separate folders by {os.pathsep!r}, not by blanks")
    return tuple(_path(replace(value, text=name)) for name in names if name)


def _service(values: Mapping[Option, Value], option: Option) -> Path | Endpoint:
    value = values[option]
    parts = split_http_url(value.text)
    if parts is not None:
        return _endpoint(parts, values, value, ACCESS[option])
    path = re.fullmatch(r"file:(?://(?:localhost)?)?(/[^?#]*)", value.text)
    if path is None:
        raise SettingsError(f"{_where(value)}: {value.shown!r} is neither file:///absolute/path nor an http(s) URL")
    return _path(value, unquote(path[1], errors="surrogateescape"))


def split_http_url(text: str) -> SplitResult | None:
    """The parts of an http(s) URL; None where it is none, or where a part of a password may stand in another part."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text quotes the URL
        return None
    return parts if usable and "@" not in f"{parts.path}{parts.query}{parts.fragment}" else None


def _endpoint(parts: SplitResult, values: Mapping[Option, Value], url: Value, access: Access) -> Endpoint:
    def text(option: Option) -> str | None:
        return values[option].text or None

    def path(option: Option) -> Path | None:
        return _path(values[option]) if text(option) else None

    username, password, token = text(access.username), text(access.password), text(access.token)
    if username is None and parts.username:
        username, password = unquote(parts.username), unquote(parts.password or "")
    if ":" in (username or ""):
        named = values[access.username] if text(access.username) else url
        raise SettingsError(f"{_where(named)}: a user name cannot contain ':' (RFC 7617)")
    if password is not None and username is None:
        raise SettingsError(f"{_where(values[access.password])} needs a {access.username.key}")
    if username is not None and token is not None:
        raise SettingsError(f"{_where(values[access.token])}: give a {access.username.key} or a token, not both")
    negotiate = _negotiate(values[access.auth])
    if negotiate and (username is not None or token is not None):
        raise SettingsError(f"{_where(values[access.auth])}: give negotiate or credentials, not both")
    if text(access.client_key) and not text(access.client_cert):
        raise SettingsError(f"{_where(values[access.client_key])} needs a {access.client_cert.key}")
    for option in (access.username, access.password, access.token):
        _printable(values[option])
    if not (token or "").isascii():
        raise SettingsError(
            f"{_where(values[access.token])} contains a character that is not allowed in a token (RFC 6750)"
        )
    return Endpoint(
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        timeout=_seconds(values[SERVICE_TIMEOUT]),
        basic=(username, password or "") if username is not None else None,
        token=token,
        negotiate=negotiate,
        ca_file=path(access.ca_file),
        client_cert=path(access.client_cert),
        client_key=path(access.client_key),
    )


def _server_access(values: Mapping[Option, Value]) -> ServerAccess:
    username, password = values[SERVER_USERNAME].text, values[SERVER_PASSWORD].text
    if bool(username) != bool(password):
        given = SERVER_USERNAME if username else SERVER_PASSWORD
        raise SettingsError(f"{_where(values[given])}: username and password go together")
    if ":" in username:
        raise SettingsError(f"{_where(values[SERVER_USERNAME])}: a user name cannot contain ':' (RFC 7617)")
    proxies = values[TRUSTED_PROXIES].text.split()
    try:
        networks = tuple(ip_network(text) for text in proxies if text != UNIX)
    except ValueError as error:
        raise SettingsError(f"{_where(values[TRUSTED_PROXIES])}: {error}") from error
    for option in (SERVER_TOKEN, SERVER_USERNAME, SERVER_PASSWORD):
        _printable(values[option])
    return ServerAccess(
        token=values[SERVER_TOKEN].text or None,
        basic=(username, password) if username else None,
        trusted_proxies=networks,
        trusts_unix=UNIX in proxies,
        root_path=_root_path(values[ROOT_PATH]),
        move_from=_folders(values[MOVE_FROM]),
        downloads=_switch(values[DOWNLOADS]),
        readers=frozenset(values[READERS].text.split()),
    )


def _upload_settings(values: Mapping[Option, Value]) -> UploadSettings:
    server, policy = values[UPLOAD_URL], values[UPLOAD_POLICY_URL]
    for value in (server, policy):
        if value.text and split_http_url(value.text) is None:
            raise SettingsError(f"{_where(value)}: {value.shown!r} is not an http(s) URL")
    if "@" in policy.text:
        raise SettingsError(f"{_where(policy)}: its credentials are those of the server: give none here")
    parts = split_http_url(server.text) if server.text else None
    return UploadSettings(
        server=None if parts is None else _endpoint(parts, values, server, ACCESS[UPLOAD_URL]),
        policy_url=policy.text or None,
        uploader_config=_path(values[UPLOADER_CONFIG]) if values[UPLOADER_CONFIG].text else None,
        folder=_path(values[UPLOADS]) if values[UPLOADS].text else None,
    )


def _root_path(value: Value) -> str:
    try:
        return root_path_of(value.text)
    except ValueError:
        raise SettingsError(f"{_where(value)}: {value.text!r} is not a path such as /ingest") from None


def root_path_of(text: str) -> str:
    """A path as ``/a/b``, "" for the root. Raises ValueError where it is none, or holds what a link has to escape."""
    path = text.rstrip("/")
    if path and not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", path):
        raise ValueError(text)
    return path


def _notifications(values: Mapping[Option, Value], *, is_catalog_embedded: bool) -> Notifications:
    if _switch(values[NOTIFICATIONS_DISABLED]):
        return Notifications()
    # A metadata service sends its events itself, to the URL that stands in the file it shares.
    is_ours = is_catalog_embedded or values[NOTIFICATIONS_EVENTS].origin != "default"
    url = _receiver(values) if is_ours and values[NOTIFICATIONS_URL].text else None
    command = _words(values[NOTIFICATIONS_COMMAND])
    if url is None and not command:
        return Notifications()
    return Notifications(
        url=url,
        command=command,
        kinds=_event_kinds(values[NOTIFICATIONS_EVENTS]),
        format=_event_format(values[NOTIFICATIONS_FORMAT]),
        event_type=_printable(values[EVENT_TYPE]),
        source=_of_a_job(values[EVENT_SOURCE]),
        event_id=_of_a_job(values[EVENT_ID]),
    )


def _receiver(values: Mapping[Option, Value]) -> Endpoint:
    value = values[NOTIFICATIONS_URL]
    parts = split_http_url(value.text)
    if parts is None:
        raise SettingsError(f"{_where(value)}: {value.shown!r} is not an http(s) URL")
    return _endpoint(parts, values, value, ACCESS[NOTIFICATIONS_URL])


def _words(value: Value) -> tuple[str, ...]:
    """The words of a command, as a shell splits them."""
    try:
        words = tuple(shlex.split(_printable(value)))
    except ValueError as error:
        raise SettingsError(f"{_where(value)}: {value.text!r}: {error}") from error
    if words and not words[0]:
        raise SettingsError(f"{_where(value)}: {value.text!r} names no program")
    return words


def _event_kinds(value: Value) -> frozenset[EventKind]:
    names = value.text.replace(",", " ").split()
    for name in names:
        if name not in EVENT_KINDS:
            raise SettingsError(f"{_where(value)}: {name!r} is not one of {', '.join(EVENT_KINDS)}")
    return frozenset(kind for kind in EVENT_KINDS if kind in names)


def _event_format(value: Value) -> EventFormat:
    for known in EVENT_FORMATS:
        if value.text == known:
            return known
    raise SettingsError(f"{_where(value)}: {value.text!r} is not one of {', '.join(EVENT_FORMATS)}")


def _of_a_job(value: Value) -> str:
    """A text in which ``{_id}`` stands for a job's id."""
    try:
        _printable(value).format(_id=1)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise SettingsError(f"{_where(value)}: in {value.text!r} only {{_id}} may stand in braces") from error
    return value.text


def _timings(retries: int) -> Timings:
    usual = Timings()
    return replace(usual, retries=retries, runs=usual.runs + max(0, retries - usual.retries))


def _number(value: Value, least: int, most: int) -> int:
    digits = value.text if value.text.isascii() and value.text.isdigit() else ""
    if not digits or len(digits) > len(str(most)) or not least <= int(digits) <= most:
        raise SettingsError(f"{_where(value)}: {value.text!r} is not a number from {least} to {most}")
    return int(digits)


def _seconds(value: Value) -> float:
    number = re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value.text)
    if number is None or not 0 < float(value.text) <= MAX_TIMEOUT_SECONDS:
        raise SettingsError(f"{_where(value)}: {value.text!r} is not a number of seconds up to {MAX_TIMEOUT_SECONDS}")
    return float(value.text)


def _negotiate(value: Value) -> bool:
    if value.text not in ("", "negotiate"):
        raise SettingsError(f"{_where(value)}: {value.text!r} is not negotiate")
    return value.text != ""


def _confirm(value: Value) -> Confirm:
    match value.text:
        case "sample" | "all" as choice:
            return choice
    raise SettingsError(f"{_where(value)}: {value.text!r} is neither sample nor all")


def _printable(value: Value) -> str:
    if not value.text.isprintable():
        raise SettingsError(f"{_where(value)} contains an unprintable character")
    return value.text


def _header_name(value: Value) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value.text):
        raise SettingsError(f"{_where(value)}: {value.text!r} is not a valid header name (RFC 9110, 5.1)")
    return value.text


def _switch(value: Value) -> bool:
    try:
        return ConfigParser.BOOLEAN_STATES[value.text.lower()]
    except KeyError:
        raise SettingsError(f"{_where(value)}: {value.text!r} is neither yes nor no") from None


def _where(value: Value) -> str:
    return f"{value.origin}: [{value.option.section}] {value.option.key}"

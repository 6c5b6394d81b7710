"""Where the parts of an installation of many hosts are: a PostgreSQL database, and storage that speaks S3."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import SettingsError
from .endpoint import split_http_url
from .forms import folders_of, number_of, path_of, printable_of, seconds_of, switch_of
from .options import (
    HOST,
    JOBS_PER_PROJECT,
    LISTEN,
    PRIORITY,
    S3_ADDRESSING,
    S3_CA_FILE,
    S3_ENDPOINT,
    S3_KEY_ID,
    S3_REGION,
    S3_SECRET,
    S3_TOKEN,
    SERVICE_TIMEOUT,
    SHARED,
    USUAL_PRIORITY,
    Option,
)
from .values import POSTGRES, Value, where, without_password

# Part of the name of a queue, of which PostgreSQL makes the name of a channel, of 63 bytes at most.
MAX_HOST = 32
MAX_PRIORITY = 100
MAX_JOBS = 10_000


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A database of PostgreSQL. ``text`` is the URL as libpq takes it, ``shown`` the same without its password."""

    text: str = field(repr=False)
    shown: str

    def __str__(self) -> str:
        """As it can be shown."""
        return self.shown


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """What lies in a ``bucket``, below a ``prefix``, which is empty or ends with no slash."""

    bucket: str
    prefix: str

    def overlaps(self, other: "ObjectStore") -> bool:
        """Whether one of the two is the other, or lies in it."""
        own, others = (f"{place.prefix}/".lstrip("/") for place in (self, other))
        return self.bucket == other.bucket and (own.startswith(others) or others.startswith(own))

    def __str__(self) -> str:
        """As a URL."""
        return "/".join(filter(None, [f"s3://{self.bucket}", self.prefix]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What this host is to the others of an installation of many, which share a job store on PostgreSQL.

    The ``host`` is its name; empty, it is the machine's. The folders ``shared`` are seen by all hosts at the same
    place. Jobs are submitted with a ``priority``, the highest of which are run first. ``jobs_per_project`` is how many
    jobs of one project are run at once, None where that does not matter. Where a worker does not ``listen``, it polls.
    """

    host: str = ""
    shared: tuple[Path, ...] = ()
    priority: int = USUAL_PRIORITY
    jobs_per_project: int | None = None
    listen: bool = True


def cluster_of(values: Mapping[Option, Value]) -> Cluster:
    """What this host is to the others. Raises SettingsError."""
    limit = values[JOBS_PER_PROJECT]
    return Cluster(
        host=_host_of(values[HOST]),
        shared=folders_of(values[SHARED]),
        priority=number_of(values[PRIORITY], 0, MAX_PRIORITY),
        jobs_per_project=number_of(limit, 1, MAX_JOBS) if limit.text else None,
        listen=switch_of(values[LISTEN]),
    )


def _host_of(value: Value) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{0,{MAX_HOST}}}", value.text):
        raise SettingsError(
            f"{where(value)}: {value.shown!r} is not the name of a host, of up to {MAX_HOST} characters"
        )
    return value.text


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Access:
    """How storage that speaks S3 is reached.

    ``endpoint`` is its URL, without the bucket and without a slash at its end. With ``in_path`` a bucket's name is the
    first part of a path, else the first of the host's name. ``timeout`` is how many seconds it may take to answer, and
    to take or send a piece of what is longer.
    """

    endpoint: str
    region: str
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    in_path: bool = True
    timeout: float = 30.0


def postgres_url_of(value: Value) -> PostgresUrl | None:
    """The database that a value names; None where it names something else. Raises SettingsError."""
    if not value.text.startswith(POSTGRES):
        return None
    try:
        parts = urlsplit(value.text)
        usable = parts.path.strip("/") != "" and parts.port != 0 and "@" not in f"{parts.path}{parts.fragment}"
    except ValueError:  # its text quotes the URL
        usable = False
    if not usable or not value.text.isprintable():
        raise SettingsError(f"{where(value)} is not postgresql://USER@HOST/DATABASE")
    return PostgresUrl(value.text, without_password(value.text))


def object_store_of(value: Value) -> ObjectStore | None:
    """The place that a value names; None where it names something else. Raises SettingsError."""
    if not value.text.startswith("s3:"):
        return None
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^?#]*))?", value.text)
    if found is None:
        raise SettingsError(f"{where(value)}: {value.shown!r} is not s3://BUCKET/PREFIX")
    prefix = unquote(found[2] or "").strip("/")
    if not prefix.isprintable() or "//" in prefix or {".", ".."} & set(prefix.split("/")):
        raise SettingsError(f"{where(value)}: {value.shown!r} has a prefix that cannot be used")
    return ObjectStore(found[1], prefix)


def s3_access_of(values: Mapping[Option, Value]) -> S3Access:
    """How the storage is reached that a site has its object stores in. Raises SettingsError."""
    for option in (S3_KEY_ID, S3_SECRET):
        if not values[option].text:
            raise SettingsError(f"s3:// needs [s3] {option.key}, or {option.variable}")
    endpoint, region = values[S3_ENDPOINT], printable_of(values[S3_REGION])
    parts = split_http_url(endpoint.text) if endpoint.text else urlsplit(f"https://s3.{region}.amazonaws.com")
    if parts is None or parts.username or parts.query or parts.path.strip("/"):
        raise SettingsError(f"{where(endpoint)}: {endpoint.shown!r} is not http(s)://HOST or http(s)://HOST:PORT")
    addressing = values[S3_ADDRESSING]
    if addressing.text not in ("", "path", "host"):
        raise SettingsError(f"{where(addressing)}: {addressing.text!r} is neither path nor host")
    return S3Access(
        endpoint=f"{parts.scheme}://{parts.netloc}",
        region=region,
        key_id=printable_of(values[S3_KEY_ID]),
        secret=printable_of(values[S3_SECRET]),
        token=printable_of(values[S3_TOKEN]) or None,
        ca_file=path_of(values[S3_CA_FILE]) if values[S3_CA_FILE].text else None,
        in_path=addressing.text == "path" or (not addressing.text and bool(endpoint.text)),
        timeout=seconds_of(values[SERVICE_TIMEOUT]),
    )

"""Where the parts of an installation of many hosts are: a PostgreSQL database, and storage that speaks S3."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ..errors import SettingsError
from .values import POSTGRES, Value, where, without_password


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

    def __str__(self) -> str:
        """As a URL."""
        return "/".join(filter(None, [f"s3://{self.bucket}", self.prefix]))


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

"""Storage that speaks S3: which part of it is meant, and how it is reached."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import SettingsError
from .endpoint import split_http_url
from .forms import path_of, printable_of, seconds_of
from .options import (
    S3_ADDRESSING,
    S3_CA_FILE,
    S3_ENDPOINT,
    S3_KEY_ID,
    S3_REGION,
    S3_SECRET,
    S3_TOKEN,
    SERVICE_TIMEOUT,
    Option,
)
from .values import Value, where


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
class S3Access:
    """How storage that speaks S3 is reached.

    ``endpoint`` is its URL, without the bucket and without a slash at its end. With ``in_path`` a bucket's name is the
    first part of a path, else the first of the host's name. ``timeout`` is how many seconds it may take to answer, and
    to take or send a piece of what is longer. The access key is empty where it is to be looked for elsewhere.
    """

    endpoint: str
    region: str
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    in_path: bool = True
    timeout: float = 30.0

    def has_in_path(self, bucket: str) -> bool:
        """Whether the bucket is in the path: also where no certificate is of a host's name with the dots of its own."""
        return self.in_path or ("." in bucket and self.endpoint.startswith("https:"))


def object_store_of(value: Value) -> ObjectStore | None:
    """The place that a value names; None where it names something else. Raises SettingsError."""
    if not value.text.startswith("s3:"):
        return None
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^?#]*))?", value.text)
    if found is None:
        raise SettingsError(f"{where(value)}: {value.shown!r} is not s3://BUCKET/PREFIX")
    prefix = unquote(found[2] or "").strip("/")
    # Some storage takes a backslash for a slash.
    if not prefix.isprintable() or "//" in prefix or "\\" in prefix or {".", ".."} & set(prefix.split("/")):
        raise SettingsError(f"{where(value)}: {value.shown!r} has a prefix that cannot be used")
    return ObjectStore(found[1], prefix)


def s3_access_of(values: Mapping[Option, Value]) -> S3Access:
    """How the storage is reached that a site has its object stores in. Raises SettingsError."""
    missing = [option for option in (S3_KEY_ID, S3_SECRET) if not values[option].text]
    if len(missing) == 1:
        raise SettingsError(f"s3:// needs [s3] {missing[0].key}, or {missing[0].variable}")
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

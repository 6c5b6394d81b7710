"""Where a service is: on this machine, or over HTTP with credentials and certificates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import SettingsError
from .forms import path_of, printable_of, seconds_of
from .options import ACCESS, SERVICE_TIMEOUT, Access, Option
from .values import Value, where


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


def service_of(values: Mapping[Option, Value], option: Option) -> Path | Endpoint:
    """Where a service is: a Path on this machine, or an Endpoint."""
    value = values[option]
    parts = split_http_url(value.text)
    if parts is not None:
        return endpoint_of(parts, values, value, ACCESS[option])
    path = re.fullmatch(r"file:(?://(?:localhost)?)?(/[^?#]*)", value.text)
    if path is None:
        raise SettingsError(f"{where(value)}: {value.shown!r} is neither file:///absolute/path nor an http(s) URL")
    return path_of(value, unquote(path[1], errors="surrogateescape"))


def split_http_url(text: str) -> SplitResult | None:
    """The parts of an http(s) URL; None where it is none, or where a part of a password may stand in another part."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text quotes the URL
        return None
    return parts if usable and "@" not in f"{parts.path}{parts.query}{parts.fragment}" else None


def endpoint_of(parts: SplitResult, values: Mapping[Option, Value], url: Value, access: Access) -> Endpoint:
    """The service at the URL whose ``parts`` these are, with the values of its ``access``."""

    def text(option: Option) -> str | None:
        return values[option].text or None

    def path(option: Option) -> Path | None:
        return path_of(values[option]) if text(option) else None

    username, password, token = text(access.username), text(access.password), text(access.token)
    if username is None and parts.username:
        username, password = unquote(parts.username), unquote(parts.password or "")
    if ":" in (username or ""):
        named = values[access.username] if text(access.username) else url
        raise SettingsError(f"{where(named)}: a user name cannot contain ':' (RFC 7617)")
    if password is not None and username is None:
        raise SettingsError(f"{where(values[access.password])} needs a {access.username.key}")
    if username is not None and token is not None:
        raise SettingsError(f"{where(values[access.token])}: give a {access.username.key} or a token, not both")
    negotiate = _negotiate(values[access.auth])
    if negotiate and (username is not None or token is not None):
        raise SettingsError(f"{where(values[access.auth])}: give negotiate or credentials, not both")
    if text(access.client_key) and not text(access.client_cert):
        raise SettingsError(f"{where(values[access.client_key])} needs a {access.client_cert.key}")
    for option in (access.username, access.password, access.token):
        printable_of(values[option])
    if not (token or "").isascii():
        raise SettingsError(
            f"{where(values[access.token])} contains a character that is not allowed in a token (RFC 6750)"
        )
    return Endpoint(
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        timeout=seconds_of(values[SERVICE_TIMEOUT]),
        basic=(username, password or "") if username is not None else None,
        token=token,
        negotiate=negotiate,
        ca_file=path(access.ca_file),
        client_cert=path(access.client_cert),
        client_key=path(access.client_key),
    )


def _negotiate(value: Value) -> bool:
    if value.text not in ("", "negotiate"):
        raise SettingsError(f"{where(value)}: {value.text!r} is not negotiate")
    return value.text != ""

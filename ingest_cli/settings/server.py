"""The section of the HTTP server: who may use it, and for what."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from ..errors import SettingsError
from .forms import folders_of, printable_of, switch_of
from .options import (
    ADMINISTRATORS,
    DOWNLOADS,
    MOVE_FROM,
    READERS,
    ROOT_PATH,
    SERVER_PASSWORD,
    SERVER_TOKEN,
    SERVER_USERNAME,
    TRUSTED_PROXIES,
    Option,
)
from .values import Value, where

# Stands for whoever uses a Unix socket of the server.
UNIX = "unix"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAccess:
    """Who may use the HTTP server: clients with the ``token`` or ``basic`` credentials, or behind a trusted proxy.

    A proxy is trusted at its address, or, where ``trusts_unix``, at a Unix socket. Clients find the server below
    ``root_path``, "" for the root. They may have it move files that lie below the folders ``move_from``, and no others.
    With ``downloads`` they get what they have submitted, and the ``readers`` what anyone has. The ``administrators``
    may act on the jobs that anyone has submitted.
    """

    token: str | None = field(default=None, repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    trusts_unix: bool = False
    root_path: str = ""
    move_from: tuple[Path, ...] = ()
    downloads: bool = False
    readers: frozenset[str] = frozenset()
    administrators: frozenset[str] = frozenset()

    @property
    def has_proxies(self) -> bool:
        """Whether any proxy is trusted."""
        return self.trusts_unix or bool(self.trusted_proxies)


def server_access_of(values: Mapping[Option, Value]) -> ServerAccess:
    """Who may use the server. Raises SettingsError."""
    username, password = values[SERVER_USERNAME].text, values[SERVER_PASSWORD].text
    if bool(username) != bool(password):
        given = SERVER_USERNAME if username else SERVER_PASSWORD
        raise SettingsError(f"{where(values[given])}: username and password go together")
    if ":" in username:
        raise SettingsError(f"{where(values[SERVER_USERNAME])}: a user name cannot contain ':' (RFC 7617)")
    proxies = values[TRUSTED_PROXIES].text.split()
    try:
        networks = tuple(ip_network(text) for text in proxies if text != UNIX)
    except ValueError as error:
        raise SettingsError(f"{where(values[TRUSTED_PROXIES])}: {error}") from error
    for option in (SERVER_TOKEN, SERVER_USERNAME, SERVER_PASSWORD):
        printable_of(values[option])
    return ServerAccess(
        token=values[SERVER_TOKEN].text or None,
        basic=(username, password) if username else None,
        trusted_proxies=networks,
        trusts_unix=UNIX in proxies,
        root_path=_root_path(values[ROOT_PATH]),
        move_from=folders_of(values[MOVE_FROM]),
        downloads=switch_of(values[DOWNLOADS]),
        readers=frozenset(values[READERS].text.split()),
        administrators=frozenset(values[ADMINISTRATORS].text.split()),
    )


def _root_path(value: Value) -> str:
    try:
        return root_path_of(value.text)
    except ValueError:
        raise SettingsError(f"{where(value)}: {value.text!r} is not a path such as /ingest") from None


def root_path_of(text: str) -> str:
    """A path as ``/a/b``, "" for the root. Raises ValueError where it is none, or holds what a link has to escape."""
    path = text.rstrip("/")
    if path and not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", path):
        raise ValueError(text)
    return path

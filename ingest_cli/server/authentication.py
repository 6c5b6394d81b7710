"""Authentication: who may use the server, and as which user."""

import binascii
import hmac
import ipaddress
import socket
from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from ..errors import SettingsError
from ..settings import Settings
from ..text import quoted

OPEN_PATHS = ("/healthz",)
LONGEST_USER = 255


class Refusal(Exception):
    """A refused request: it is answered with ``status`` and ``headers``."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection: a process of this machine, a proxy that is trusted, both or neither."""

    is_local: bool
    is_trusted: bool


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Knows in which user's name a request is made, and refuses those of which it does not.

    ``hosts`` are the names under which this server may be asked: a page of another site that a browser was made to
    take for this machine (DNS rebinding) asks under its own. Whose ``auth_header`` is believed is the peer's matter;
    where ``proxies_only``, nobody else is answered but who is on this machine.
    """

    hosts: frozenset[str]
    proxies_only: bool
    auth_header: str
    user: str
    token: str | None
    basic: tuple[str, str] | None

    @classmethod
    def for_hosts(cls, settings: Settings, hosts: Iterable[str | None], more_hosts: Iterable[str]) -> "Authenticator":
        """The authenticator of a server that listens at ``hosts``, None for a Unix socket, and has more names.

        Raises SettingsError where others than this machine's users could reach it, and nothing says who may.
        """
        server = settings.server
        names = set(more_hosts)
        for host in hosts:
            if host is None or _is_loopback(host):
                names |= {"localhost", "127.0.0.1", "::1", *([host] if host else [])}
            elif server.token or server.basic or server.has_proxies:
                names |= {host, *_own_names()}
            else:
                raise SettingsError(
                    f"anyone who can reach {host} could store bundles: set token, or username and password,"
                    " or trusted_proxies in [server]"
                )
        return cls(
            hosts=frozenset(name.lower() for name in names),
            proxies_only=server.has_proxies,
            auth_header=settings.auth_header,
            user=settings.user,
            token=server.token,
            basic=server.basic,
        )

    def authenticate(self, request: HTTPConnection, peer: Peer) -> str:
        """The user in whose name the ``peer`` makes the request. Raises Refusal."""
        self._refuse_other_sites(request)
        if request.scope["path"] in OPEN_PATHS:
            return self.user
        if peer.is_trusted:
            return _usable(request.headers.get(self.auth_header, "")) or self.user
        if self.token is None and self.basic is None:
            if self.proxies_only and not peer.is_local:
                raise Refusal(403, "this server answers only its trusted proxies")
            return self.user
        return self._user_of(request.headers.get("authorization", ""))

    def _refuse_other_sites(self, request: HTTPConnection) -> None:
        """Refuse what the page of another site has a browser ask. Other programs ask under a name, an address or none.

        No page has an address of this machine as its own name, unless it comes from there.
        """
        headers = request.headers
        host = _host_name(headers.get("host", ""))
        is_unnamed = "host" not in headers and request.scope["http_version"] == "1.0"
        if not (host in self.hosts or is_unnamed or _is_address(host)):
            raise Refusal(400, f"this server does not answer to the host name {quoted(host)}")
        origin = headers.get("origin")
        if origin is not None and _host_name(urlsplit(origin).netloc) not in {*self.hosts, host} - {""}:
            raise Refusal(403, "this server refuses requests from the pages of other sites")
        # A link may lead here.
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            raise Refusal(403, "this server refuses requests from the pages of other sites")

    def _user_of(self, authorization: str) -> str:
        scheme, _, given = authorization.partition(" ")
        if self.token is not None and scheme.lower() == "bearer" and _same(given.strip(), self.token):
            return self.user
        if self.basic is not None and scheme.lower() == "basic" and _same(_decoded(given), ":".join(self.basic)):
            return self.basic[0]
        wanted = 'Bearer realm="ingest"' if self.basic is None else 'Basic realm="ingest", charset="UTF-8"'
        raise Refusal(401, "credentials are required", {"WWW-Authenticate": wanted})


def _usable(user: str) -> str:
    """The name of a user as a proxy gives it, in UTF-8. Raises Refusal where it is none that a job can have."""
    with suppress(UnicodeDecodeError):
        user = user.encode("latin-1").decode()  # Starlette reads headers as Latin-1
    if len(user) > LONGEST_USER or not user.isprintable():
        raise Refusal(400, f"the name of the user is longer than {LONGEST_USER} characters, or not printable")
    return user


def _own_names() -> set[str]:
    names = {socket.gethostname()}
    with suppress(UnicodeError):  # not every name of a host is one that can be looked up
        names.add(socket.getfqdn())
    return names


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str:
    """The name without its port and without the dot of the root; of an IPv6 address without its brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower().removesuffix(".")
    except ValueError:
        return ""


def _decoded(given: str) -> str:
    try:
        return b64decode(given, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())

"""What a proxy in front of the server says of a request: who made it, and below which path clients find this server.

Only a trusted proxy is believed. Links are paths, never whole URLs: the browser or the client of a proxy knows its own
scheme, host and port, and nothing that a request claims of them can end up in an answer.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from ..errors import SettingsError
from ..settings import Settings, root_path_of
from ..settings.options import ROOT_PATH
from ..text import quoted
from .authentication import Peer, Refusal

# What has paths of its own below: it could not be told from a prefix of the same name that a proxy takes off or not.
FOLDERS = ("/files", "/jobs", "/status")


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies that are trusted: at addresses of ``networks``, and, if ``unix``, whoever uses a Unix socket.

    ``root_path`` is the path below which they offer this server, "" for the root.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    unix: bool
    root_path: str

    @classmethod
    def of(cls, settings: Settings) -> "Proxies":
        """Those of a site. Raises SettingsError where the root path is one that the server needs for itself."""
        server = settings.server
        if server.root_path in FOLDERS:
            raise SettingsError(
                f"{settings.where(ROOT_PATH)}: {server.root_path} is a path of the server itself: choose another"
            )
        return cls(server.trusted_proxies, server.trusts_unix, server.root_path)

    def resolve(self, scope: Scope) -> Peer:
        """Have ``scope`` be of the client behind the proxy and have the path that the server itself knows.

        Returns the peer, which may be the proxy. Raises Refusal where a trusted proxy says what cannot be.
        """
        peer = self._peer(scope)
        scope.setdefault("state", {})["root_path"] = self.root_path
        if peer.is_trusted:
            headers = Headers(scope=scope)
            if (client := self._client(headers)) is not None:
                scope["client"] = (str(client), 0)
            if (prefix := headers.get("x-forwarded-prefix")) is not None:
                scope["state"]["root_path"] = _prefix(prefix)
        scope["path"] = _own_path(scope["path"], scope["method"], scope["state"]["root_path"])
        return peer

    def _peer(self, scope: Scope) -> Peer:
        server, client = scope.get("server"), scope.get("client")
        if server is not None and server[1] is None:
            return Peer(is_local=True, is_trusted=self.unix)
        address = _address(client[0]) if client else None
        if address is None:  # it is gone already
            return Peer(is_local=False, is_trusted=False)
        return Peer(is_local=address.is_loopback, is_trusted=self._trusts(address))

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.networks)

    def _client(self, headers: Headers) -> IPv4Address | IPv6Address | None:
        """The client by the one header or the other; None where neither says it.

        A proxy that sets the one may hand on the other as the client made it up, so they must agree.
        """
        by_one = self._first_untrusted(_split(",".join(headers.getlist("x-forwarded-for"))))
        by_other = self._first_untrusted(_forwarded_for(",".join(headers.getlist("forwarded"))))
        if by_one and by_other and by_one != by_other:
            raise Refusal(400, "the headers Forwarded and X-Forwarded-For disagree on the client")
        return by_one or by_other

    def _first_untrusted(self, chain: list[str]) -> IPv4Address | IPv6Address | None:
        """The client of a chain of addresses, of which each proxy has added the last: who told lies begins there."""
        client = None
        for text in reversed(chain):
            address = _address(_without_port(text))
            if address is None:
                break
            client = address
            if not self._trusts(address):
                break
        return client


def external_path(request: HTTPConnection, path: str) -> str:
    """The path by which clients find what is at ``path`` of this server, to be resolved against their request's URL."""
    root_path: str = request.state.root_path
    return root_path + path


def _own_path(path: str, method: str, root_path: str) -> str:
    """The path without the prefix, which a proxy may have taken off already, and without slashes at its end."""
    # The prefix can be the name of one of our own paths, such as /ingest. Nobody posts to the page.
    is_page = path == root_path and method != "POST"
    if root_path and (is_page or path.startswith(f"{root_path}/")):
        path = path[len(root_path) :]
    return path.rstrip("/") or "/"


def _prefix(value: str) -> str:
    try:
        prefix = root_path_of("".join(part.rstrip("/") for part in _split(value)))  # of several proxies, in turn
    except ValueError:
        raise Refusal(400, f"the X-Forwarded-Prefix {quoted(value)} is not a path") from None
    if prefix in FOLDERS:
        raise Refusal(400, f"the X-Forwarded-Prefix {quoted(value)} is a path of the server itself")
    return prefix


def _forwarded_for(value: str) -> list[str]:
    """What the elements of Forwarded (RFC 7239) say they are for."""
    found, pair = [], ""
    # A quoted string may hold any of the separators.
    for token in [*re.findall(r'"(?:[^"\\]|\\.)*"?|[^",;]+|[,;]', value), ","]:
        if token not in (",", ";"):
            pair += token
            continue
        name, _, given = pair.partition("=")
        if name.strip().lower() == "for":
            found.append(given.strip().strip('"'))
        pair = ""
    return found


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _without_port(text: str) -> str:
    """The address of ``1.2.3.4:80``, ``[::1]:80`` or ``::1``."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address; that of IPv4 where a socket for both has it in the form of IPv6."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address

"""Sessions with an endpoint: its credentials, its certificates, the proxy that leads there; and what comes of it."""

import re
import ssl
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from requests import PreparedRequest, Request, Session
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth, HTTPProxyAuth
from requests.utils import get_auth_from_url, get_netrc_auth, select_proxy
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout
from urllib3.exceptions import NewConnectionError

from . import __version__
from .errors import SettingsError
from .settings import Endpoint, split_http_url
from .text import number_of, one_line

# How urllib3 begins what it says.
OF_A_CONNECTION = re.compile(r"^HTTPS?Connection(?:Pool)?\(.*?\): ")


def session(endpoint: Endpoint, connections: int = 1) -> Session:
    """A session with the endpoint, which so many threads may use at once.

    What the environment says of proxies and authorities, and ~/.netrc of credentials, is read here, once; nothing of it
    takes the place of what the endpoint has. Who sends a request with it gives a timeout. No redirect is followed: what
    is sent, and the credentials with it, goes to the endpoint only.

    Raises SettingsError where the endpoint's certificates, the environment's proxy or Kerberos cannot be used.
    """
    made = _Session()
    environment = made.merge_environment_settings(endpoint.url, {}, None, None, None)
    made.trust_env = False
    made.auth = _auth(endpoint)
    proxy = _proxy(endpoint.url, environment["proxies"])
    if proxy is not None:
        made.proxies = {"all": proxy}
    # What was stored compressed is to come as it is stored.
    made.headers.update({"User-Agent": f"pacifica-ingest-cli/{__version__}", "Accept-Encoding": "identity"})
    context = _tls(endpoint, environment["verify"]) if endpoint.url.startswith("https:") else None
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter(context, connections))
    return made


def unwrapped(error: BaseException) -> Iterator[BaseException]:
    """An error of requests or urllib3, the one that it tells of, and so on to the innermost."""
    yield error
    inner = (getattr(error, "reason", None), getattr(error, "original_error", None), *error.args)
    for found in inner:
        if isinstance(found, BaseException):
            yield from unwrapped(found)
            return


def reason_of(error: BaseException) -> str:
    """Why there was no answer, in a line, without what requests and urllib3 say around it."""
    *_, innermost = unwrapped(error)
    if isinstance(innermost, NewConnectionError) and isinstance(innermost.__cause__, OSError):
        innermost = innermost.__cause__
    said = getattr(innermost, "strerror", None) or str(innermost) or type(innermost).__name__
    return one_line(OF_A_CONNECTION.sub("", said))


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that a Retry-After header asks for (RFC 9110, 10.2.3); its form as a date is not read."""
    return float(number_of(headers.get("Retry-After", "")) or 0)


class FilePool:
    """The connections under a session with the endpoint, for requests that send files.

    For a small file a request of the session's own spends more time than the network does.
    """

    def __init__(self, session: Session, url: str) -> None:
        self._session, self._url = session, url
        adapter = session.get_adapter(url)
        assert isinstance(adapter, HTTPAdapter)
        self._adapter, self._proxies = adapter, dict(session.proxies)
        self._is_signed_anew = isinstance(session.auth, _Negotiate)
        self._sample = session.prepare_request(Request("PUT", url, auth=_unsigned if self._is_signed_anew else None))
        self._headers = dict(self._sample.headers)
        self._target = adapter.request_url(self._sample, self._proxies).rstrip("/")
        self._pool: HTTPConnectionPool | None = None

    def close(self) -> None:
        """Close the connections that are idle, with those of the session; others take their place when needed."""
        self._session.close()
        self._pool = None

    def put(self, path: str, body: Any, headers: Mapping[str, str], timeout: Timeout) -> BaseHTTPResponse:
        """Send a body to the ``path`` below the endpoint. Raises urllib3's HTTPError where there is no answer."""
        own = self._headers
        if self._is_signed_anew:
            own = dict(self._session.prepare_request(Request("PUT", self._url)).headers)
        return self._connections().urlopen(
            "PUT",
            self._target + path,
            body=body,
            headers={**own, **headers},
            timeout=timeout,
            retries=False,
            redirect=False,
            assert_same_host=False,  # the pool is the proxy's, where there is one
            preload_content=False,
        )

    def _connections(self) -> HTTPConnectionPool:
        pool = self._pool
        if pool is None:
            found = self._adapter.get_connection_with_tls_context(self._sample, verify=True, proxies=self._proxies)
            assert isinstance(found, HTTPConnectionPool)
            pool = self._pool = found
        return pool


def _unsigned(request: PreparedRequest) -> PreparedRequest:
    """Takes the place of a session's own credentials."""
    return request


class _Session(Session):
    def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
        """None, whatever a caller says; where a redirect leads is not even looked at, which odd ones would fail at."""
        return iter(())


class _Adapter(HTTPAdapter):
    """Connections with the TLS of ``context``, which has the trusted authorities and the client's certificate.

    requests itself would trust the authorities of a package instead of the system's.
    """

    def __init__(self, context: ssl.SSLContext | None, connections: int) -> None:
        self._context = context
        super().__init__(pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **options)

    def cert_verify(self, *_: Any) -> None:
        """The context has all of it."""

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        username, password = get_auth_from_url(proxy)
        if not username:
            return {}
        request = PreparedRequest()
        request.prepare_headers({})
        return dict(HTTPProxyAuth(username.encode(), password.encode())(request).headers)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Negotiate(AuthBase):
    """A Kerberos ticket with each request, before it is asked for: the body of a file is not sent twice."""

    def __init__(self, url: str) -> None:
        try:
            self._new = import_module("requests_gssapi").HTTPSPNEGOAuth
        except ImportError as error:
            extra = f"{error}; install the extra pacifica-ingest-cli[kerberos]"
            raise SettingsError(f"cannot use Kerberos for {url}: {extra}") from error

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        # Each is of one request: several threads must not take steps of one negotiation.
        authorized: PreparedRequest = self._new(opportunistic_auth=True)(request)
        return authorized


def _auth(endpoint: Endpoint) -> AuthBase | None:
    """The endpoint's credentials, else those that ~/.netrc has of its host."""
    if endpoint.negotiate:
        return _Negotiate(endpoint.url)
    if endpoint.token is not None:
        return _Bearer(endpoint.token)
    basic = endpoint.basic or get_netrc_auth(endpoint.url)
    # RFC 7617 leaves the encoding to the server; UTF-8 is the only one that it can ask for.
    return None if basic is None else HTTPBasicAuth(*(part.encode() for part in basic))


def _tls(endpoint: Endpoint, environments: object) -> ssl.SSLContext:
    authorities = endpoint.ca_file
    if authorities is None and isinstance(environments, str):
        authorities = Path(environments)
    try:
        if authorities is not None and authorities.is_dir():
            context = ssl.create_default_context(capath=authorities)
        else:
            context = ssl.create_default_context(cafile=authorities)
        if endpoint.client_cert is not None:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(endpoint.client_cert, endpoint.client_key, password="")
    except (OSError, ssl.SSLError) as error:
        files = [authorities, endpoint.client_cert, endpoint.client_key]
        named = ", ".join(str(file) for file in files if file is not None)
        raise SettingsError(f"cannot use the certificates for {endpoint.url} ({named}): {error}") from error
    return context


def _proxy(url: str, environments: Mapping[str, str]) -> str | None:
    """The proxy that http_proxy, https_proxy, all_proxy and no_proxy of the environment give, if any."""
    proxy = select_proxy(url, dict(environments))
    if not proxy:
        return None
    scheme, separator, rest = proxy.partition("://")
    if not separator:
        scheme, rest = "http", proxy
    is_socks = scheme.lower() in ("socks4", "socks4a", "socks5", "socks5h")
    if split_http_url(f"http://{rest}" if is_socks else f"{scheme}://{rest}") is None:
        raise SettingsError(f"the proxy that the environment sets for {url} is not a URL of HTTP or SOCKS")
    if is_socks:
        _require_socks(url)
    return f"{scheme}://{rest}"


def _require_socks(url: str) -> None:
    try:
        import_module("socks")
    except ImportError as error:
        needed = "needs SOCKS: install the extra pacifica-ingest-cli[socks]"
        raise SettingsError(f"the proxy that the environment sets for {url} {needed}") from error

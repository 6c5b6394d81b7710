"""Connections to an endpoint: credentials, certificates and proxy."""

import ssl
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from ...errors import SettingsError
from ...settings import Endpoint, split_http_url


def credentials(endpoint: Endpoint) -> dict[str, str]:
    """The headers with the endpoint's credentials."""
    if endpoint.basic is not None:
        return {"Authorization": _basic(*endpoint.basic)}
    return {"Authorization": f"Bearer {endpoint.token}"} if endpoint.token is not None else {}


def _basic(username: str, password: str) -> str:
    # RFC 7617 leaves the encoding to the server; UTF-8 is the only one that it can ask for.
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


def pools(endpoint: Endpoint, connections: int, timeout: urllib3.Timeout) -> Callable[[], urllib3.PoolManager]:
    """What makes pools of so many connections to the endpoint.

    Raises SettingsError where its certificates or the environment's proxy cannot be used.
    """
    context = _tls(endpoint) if endpoint.url.startswith("https:") else None
    proxy = _proxy(endpoint.url)
    if proxy is None:
        return partial(urllib3.PoolManager, maxsize=connections, retries=False, timeout=timeout, ssl_context=context)
    parts = split_http_url(proxy)
    if parts is None:
        raise SettingsError(f"the proxy that the environment sets for {endpoint.url} is not an http(s) URL")
    headers = None
    if parts.username is not None:
        headers = {"Proxy-Authorization": _basic(unquote(parts.username), unquote(parts.password or ""))}
    return partial(
        urllib3.ProxyManager,
        parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        proxy_headers=headers,
        maxsize=connections,
        retries=False,
        timeout=timeout,
        ssl_context=context,
    )


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_file)
        if endpoint.client_cert is not None:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(endpoint.client_cert, endpoint.client_key, password="")
    except (OSError, ssl.SSLError) as error:
        files = [endpoint.ca_file, endpoint.client_cert, endpoint.client_key]
        named = ", ".join(str(file) for file in files if file is not None)
        raise SettingsError(f"cannot use the certificates for {endpoint.url} ({named}): {error}") from error
    return context


def _proxy(url: str) -> str | None:
    """The proxy that http_proxy, https_proxy, all_proxy and no_proxy of the environment give, if any."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy and not proxy_bypass(parts.netloc) else None

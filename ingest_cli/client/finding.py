"""Which server an upload goes to: what the settings say, else what pacifica-cli is configured with."""

from dataclasses import replace

from ..errors import SettingsError
from ..settings import Endpoint, Settings, split_http_url, upload_endpoint
from ..settings.options import DEFAULT_USER
from ..text import quoted
from .pacifica_cli import PacificaCli, read_pacifica_cli
from .target import Target, without_upload


def find_target(settings: Settings, url: str | None = None) -> Target:
    """The server to send to: the one at ``url``, if that is given. Raises SettingsError."""
    own = settings.upload if url is None else replace(settings.upload, server=_at(url, settings))
    others = read_pacifica_cli() if own.server is None or own.policy_url is None else None
    target = _of_settings(own.server) if own.server is not None else _of_pacifica_cli(others, settings)
    return replace(
        target,
        policy_url=own.policy_url or (None if others is None else others.policy_url),
        auth_header=settings.auth_header,
        user=_user(settings),
    )


def _at(url: str, settings: Settings) -> Endpoint:
    if split_http_url(url) is None:
        raise SettingsError(f"{quoted(url)} is not an http(s) URL")
    return upload_endpoint(url, settings.values)


def _of_settings(server: Endpoint) -> Target:
    base = without_upload(server.url)
    return Target(endpoint=replace(server, url=base), status_url=f"{base}/get_state")


def _of_pacifica_cli(others: PacificaCli | None, settings: Settings) -> Target:
    target = None if others is None else others.target()
    if target is None:
        raise SettingsError("no server to send to: give --to, or set url in [upload]")
    return replace(target, endpoint=_preferring(upload_endpoint(target.url, settings.values), target.endpoint))


def _preferring(own: Endpoint, other: Endpoint) -> Endpoint:
    """The endpoint with its own credentials and certificates, else those of the other one."""
    certified = own if own.client_cert is not None else other
    known = own if own.basic is not None or own.token is not None or own.negotiate else other
    return replace(
        own,
        basic=known.basic,
        token=known.token,
        negotiate=known.negotiate,
        ca_file=own.ca_file or other.ca_file,
        client_cert=certified.client_cert,
        client_key=certified.client_key,
    )


def _user(settings: Settings) -> str | None:
    """The user to name to the server: none that nobody has named to us."""
    is_named = any(value.option == DEFAULT_USER and value.origin != "default" for value in settings.values)
    return settings.user if is_named else None

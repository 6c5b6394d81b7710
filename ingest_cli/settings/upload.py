"""The section of `ingest upload`: where it sends to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError
from .endpoint import Endpoint, endpoint_of, split_http_url
from .forms import path_of
from .options import ACCESS, UPLOAD_POLICY_URL, UPLOAD_URL, UPLOADER_CONFIG, UPLOADS, Option
from .values import Value, where


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadSettings:
    """Where `ingest upload` sends to, the policy service and the file of what to ask it, each None where it is not set;
    and the ``folder`` for unfinished uploads, None where there is no home folder."""

    server: Endpoint | None = None
    policy_url: str | None = None
    uploader_config: Path | None = None
    folder: Path | None = None


def upload_settings_of(values: Mapping[Option, Value]) -> UploadSettings:
    """Where uploads are sent to. Raises SettingsError."""
    server, policy = values[UPLOAD_URL], values[UPLOAD_POLICY_URL]
    for value in (server, policy):
        if value.text and split_http_url(value.text) is None:
            raise SettingsError(f"{where(value)}: {value.shown!r} is not an http(s) URL")
    if "@" in policy.text:
        raise SettingsError(f"{where(policy)}: its credentials are those of the server: give none here")
    parts = split_http_url(server.text) if server.text else None
    return UploadSettings(
        server=None if parts is None else endpoint_of(parts, values, server, ACCESS[UPLOAD_URL]),
        policy_url=policy.text or None,
        uploader_config=path_of(values[UPLOADER_CONFIG]) if values[UPLOADER_CONFIG].text else None,
        folder=path_of(values[UPLOADS]) if values[UPLOADS].text else None,
    )


def upload_endpoint(url: str, values: Iterable[Value]) -> Endpoint:
    """The server at this URL, whoever has named it, with the credentials and certificates of the settings."""
    by_option = {value.option: value for value in values}
    parts = split_http_url(url)
    assert parts is not None
    return endpoint_of(parts, by_option, by_option[UPLOAD_URL], ACCESS[UPLOAD_URL])

"""What obstore sends its requests with: how long each may take, and what is trusted."""

from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store

from ...errors import SettingsError
from ...settings import ObjectStore, S3Access
from ...text import one_line
from .client import SECONDS_A_BYTE
from .credentials import Credentials
from .patience import FIRST_BACKOFF, LONGEST_BACKOFF, RETRIES, RETRYING_TIMEOUTS

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

LONGEST_BODY = timedelta(days=7)


class Stores:
    """The ways to a bucket. Raises SettingsError where there is none by what is set."""

    def __init__(self, place: ObjectStore, access: S3Access, credentials: Credentials) -> None:
        self._place, self._access, self._credentials = place, access, credentials
        self._authorities = _authorities(access)
        self.make()

    def make(self) -> None:
        """Have them be new: those from before may keep an access key that has ended."""
        self._senders: dict[int, S3Store] = {}
        read_timeout = timedelta(seconds=self._access.timeout)
        self.reader = self._made(timeout=LONGEST_BODY, read_timeout=read_timeout)

    def sending(self, body: int) -> S3Store:
        """What sends bodies of so many bytes at most, with the time that they may take."""
        size = 1 << max(20, body.bit_length())
        if size not in self._senders:
            allowed = timedelta(seconds=self._access.timeout + size * SECONDS_A_BYTE)
            self._senders[size] = self._made(timeout=allowed)
        return self._senders[size]

    def _made(self, **timeouts: timedelta) -> S3Store:
        access, bucket = self._access, self._place.bucket
        in_path = access.has_in_path(bucket)
        config: S3Config = {
            "endpoint": access.endpoint if in_path else _with_bucket(access.endpoint, bucket),
            "region": access.region,
            "virtual_hosted_style_request": not in_path,
        }
        if self._credentials.are_set:
            config |= {"access_key_id": access.key_id, "secret_access_key": access.secret}
            if access.token is not None:
                config["session_token"] = access.token
        client: ClientConfig = {
            "allow_http": access.endpoint.startswith("http:"),
            "connect_timeout": timedelta(seconds=access.timeout),
            **timeouts,  # type: ignore[typeddict-item]
        }
        if self._authorities is not None:
            client["root_certificate"] = self._authorities
        retry: RetryConfig = {
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=access.timeout * RETRYING_TIMEOUTS),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_BACKOFF),
                "max_backoff": timedelta(seconds=LONGEST_BACKOFF),
                "base": 2,
            },
        }
        asked = None if self._credentials.are_set else self._key
        try:
            return S3Store(bucket, config=config, client_options=client, retry_config=retry, credential_provider=asked)
        except (BaseError, ValueError) as error:
            trouble = one_line(str(error).partition("Debug source")[0])
            raise SettingsError(f"cannot use {self._place} at {access.endpoint}: {trouble}") from error

    def _key(self) -> "S3Credential":
        key = self._credentials.key()
        return {
            "access_key_id": key.key_id,
            "secret_access_key": key.secret,
            "token": key.token,
            "expires_at": key.expires,
        }


def _authorities(access: S3Access) -> str | None:
    if access.ca_file is None:
        return None
    try:
        return access.ca_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot use the certificates for {access.endpoint} ({access.ca_file}): {error}") from error


def _with_bucket(endpoint: str, bucket: str) -> str:
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"

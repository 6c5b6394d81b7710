"""The access key that storage is reached with: one that is set, or one that is found, and got anew before it ends."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ...errors import ServiceUnavailable
from ...settings import S3Access
from .key_sources import Key, of_a_container, of_a_profile, of_a_token, of_the_instance

# In this order, as other programs have it.
SOURCES = (of_a_token, of_a_profile, of_a_container, of_the_instance)
# A key is got anew so long before it ends, and asked for so often where there is no other one yet.
BEFORE_THE_END = timedelta(minutes=5)
SECONDS_BETWEEN = 10.0
WHERE = "see [s3] access_key_id and secret_access_key, or the other places that ingest-config(5) names"


class Credentials:
    """The access key of a site whose storage is reached by ``access``; for several threads."""

    def __init__(self, access: S3Access) -> None:
        self._access = access
        self._key: Key | None = None
        self._asked = self._renewed = -SECONDS_BETWEEN
        self._lock = threading.Lock()

    @property
    def are_set(self) -> bool:
        """Whether there is one key, which stays."""
        return bool(self._access.key_id)

    def access(self) -> S3Access:
        """How the storage is reached, with the key to use now. Raises ServiceUnavailable where there is none."""
        if self.are_set:
            return self._access
        key = self.key()
        return replace(self._access, key_id=key.key_id, secret=key.secret, token=key.token)

    def key(self) -> Key:
        """The key to use now, where none is set."""
        with self._lock:
            if self._key is None or (_ends_within(self._key, BEFORE_THE_END) and self._may_ask()):
                self._asked = time.monotonic()
                self._key = self._found(self._key)
            return self._key

    def renew(self, key_id: str) -> bool:
        """Look for another key, where this one is refused since it has ended; whether there is another."""
        if self.are_set:
            return False
        with self._lock:
            now = time.monotonic()
            if self._key is not None and self._key.key_id == key_id and now - self._renewed >= SECONDS_BETWEEN:
                self._asked = self._renewed = now
                self._key = self._found(None)
            return self._key is not None and self._key.key_id != key_id

    def _may_ask(self) -> bool:
        is_over = self._key is None or _ends_within(self._key)
        return is_over or time.monotonic() - self._asked >= SECONDS_BETWEEN

    def _found(self, former: Key | None) -> Key:
        try:
            for source in SOURCES:
                if (key := source(self._access)) is not None:
                    return key
        except ServiceUnavailable as error:
            if former is not None and not _ends_within(former):
                return former
            raise ServiceUnavailable(f"no access key for {self._access.endpoint}: {error}; {WHERE}") from error
        raise ServiceUnavailable(f"no access key for {self._access.endpoint}: none is set; {WHERE}")


def _ends_within(key: Key, span: timedelta = timedelta(0)) -> bool:
    return key.expires is not None and key.expires - datetime.now(UTC) <= span

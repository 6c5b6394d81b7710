"""The objects that pieces of uploads lie in: each is written once, under a name of its own, and never changed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from ..errors import ResourceUnavailable, ServiceUnavailable
from ..settings import ObjectStore, S3Access

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

MOST_RETRIES = 3


class Objects:
    """What lies in ``place``. Its methods may be called by several threads at once.

    They raise ServiceUnavailable where the storage cannot be used now.
    """

    def __init__(self, place: ObjectStore, access: S3Access) -> None:
        self.place = place
        self._store = _opened(place, access)

    def put(self, key: str, data: bytes | bytearray) -> str:
        """Write an object, and return its entity tag."""
        with self._explained("write", key):
            return str(obstore.put(self._store, key, data, use_multipart=False)["e_tag"])

    def read(self, key: str, etag: str) -> memoryview:
        """What is in an object that has this entity tag still. Raises ResourceUnavailable where it has not."""
        try:
            with self._explained("read", key):
                found = obstore.get(self._store, key, options={"if_match": etag})
                # Some storage does not look at the condition.
                if found.meta["e_tag"] == etag:
                    return memoryview(found.bytes())
        except (PreconditionError, FileNotFoundError):
            pass
        raise ResourceUnavailable(f"the object {key} in {self.place} is not there, or is not what was written")

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, as far as they are there."""
        if keys:
            with self._explained("delete", keys[0]):
                obstore.delete(self._store, list(keys))

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of all objects below a prefix."""
        with self._explained("list", prefix):
            for page in obstore.list(self._store, prefix or None, chunk_size=1000):
                yield from (entry["path"] for entry in page)

    @contextmanager
    def _explained(self, what: str, key: str) -> Iterator[None]:
        try:
            yield
        except PreconditionError:
            raise
        except BaseError as error:
            raise ServiceUnavailable(f"cannot {what} {key} in {self.place}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _opened(place: ObjectStore, access: S3Access) -> S3Store:
    config: S3Config = {
        "endpoint": access.endpoint,
        "region": access.region,
        "access_key_id": access.key_id,
        "secret_access_key": access.secret,
        "virtual_hosted_style_request": not access.in_path,
    }
    if access.token is not None:
        config["session_token"] = access.token
    options: ClientConfig = {"allow_http": True, "timeout": timedelta(seconds=access.timeout)}
    if access.ca_file is not None:
        options["root_certificate"] = access.ca_file.read_bytes()
    retries: RetryConfig = {"max_retries": MOST_RETRIES, "retry_timeout": timedelta(seconds=access.timeout)}
    return S3Store(place.bucket, config=config, client_options=options, retry_config=retries)

"""What is asked of storage that speaks S3 by requests of our own, since obstore cannot ask for it: uploads that are not
finished, objects of other buckets, copies."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ...settings import ObjectStore, S3Access
from .client import Client
from .copies import MOST_COPIED, PARTS_AT_ONCE, copy
from .credentials import Credentials
from .objects import At, Stored, find

LISTED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in parts that was not finished."""

    key: str
    upload_id: str


class SignedBucket:
    """The objects of ``place``, and of other buckets, reached by ``access``. Keys are those below the archive's prefix
    unless a bucket is named.

    Raises ServiceUnavailable where storage does not answer or fails, or where settings are to be mended; ArchiveError
    where it cannot do what it is asked for.
    """

    def __init__(self, place: ObjectStore, access: S3Access, connections: int, most_copied: int = MOST_COPIED) -> None:
        self.place, self.access = place, access
        self._below = f"{place.prefix}/" if place.prefix else ""
        self._credentials, self.most_copied = Credentials(access), most_copied
        self._client = Client(place, access, self._credentials, connections * PARTS_AT_ONCE)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def location(self, key: str) -> str:
        """Where an object is, for messages."""
        return f"s3://{self.place.bucket}/{self._below}{key}"

    def key_at(self, location: str) -> str:
        """The key of an object whose location this is."""
        return location.removeprefix(self.location(""))

    def whole(self, key: str) -> At:
        """The bucket and the whole key of an object of the archive."""
        return self.place.bucket, self._below + key

    def uploads(self, action: str) -> Iterator[Upload]:
        """The uploads in parts that are not finished."""
        asked = {"uploads": "", "prefix": self._below, "max-uploads": str(LISTED_AT_ONCE)}
        is_truncated = True
        while is_truncated:
            answer = self._client.ask("GET", asked, action)
            if not answer.ok:
                return
            root = self._client.parsed(answer, action)
            for upload in root.iterfind("{*}Upload"):
                key, upload_id = upload.findtext("{*}Key", ""), upload.findtext("{*}UploadId", "")
                if key.startswith(self._below):
                    yield Upload(key.removeprefix(self._below), upload_id)
            is_truncated = root.findtext("{*}IsTruncated") == "true"
            marker = root.findtext("{*}NextKeyMarker", ""), root.findtext("{*}NextUploadIdMarker", "")
            asked |= {"key-marker": marker[0], "upload-id-marker": marker[1]}

    def abort(self, upload: Upload, action: str) -> None:
        """End an upload: no part of it is stored any more, and it cannot be finished."""
        self._client.ask("DELETE", {"uploadId": upload.upload_id}, action, self.whole(upload.key))

    def object_at(self, bucket: str, key: str, action: str) -> Stored | None:
        """An object anywhere in the storage, by its whole key; None where there is none."""
        return find(self._client, (bucket, key), action)

    def copy(self, source: At, target: At, found: Stored, action: str) -> None:
        """Have storage itself copy what was ``found`` at ``source``, with other notes; both are a bucket and a key."""
        copy(self._client, source, target, found, action, self.most_copied)

    def delete_at(self, bucket: str, key: str, action: str) -> None:
        """Delete an object anywhere in the storage."""
        self._client.ask("DELETE", {}, action, (bucket, key))

    def clock(self, action: str) -> datetime | None:
        """What time it is at the storage, as far as it says so."""
        said = self._client.ask("GET", {"list-type": "2", "max-keys": "1", "prefix": self._below}, action).headers.get(
            "Date"
        )
        with suppress(TypeError, ValueError):
            return parsedate_to_datetime(said or "").astimezone(UTC)
        return None

"""What is asked of storage that speaks S3 by requests of our own, since obstore cannot ask for it: uploads that are not
finished, objects of other buckets, copies."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote
from xml.etree import ElementTree

from requests import PreparedRequest, Response

from ...connections import FAILURES as NO_ANSWER
from ...connections import reason_of, session
from ...errors import ServiceUnavailable
from ...settings import Endpoint, ObjectStore, S3Access
from .faults import CODE, said
from .patience import Patience
from .signing import signed_headers, url_of

# What is sent or received at once may take this long for each byte, besides the timeout.
SECONDS_A_BYTE = 1 / (1 << 20)
LISTED_AT_ONCE = 1000
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its size, and what was noted with it."""

    size: int
    etag: str
    notes: dict[str, str]


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

    def __init__(self, place: ObjectStore, access: S3Access, connections: int) -> None:
        self.place, self.access = place, access
        self._below = f"{place.prefix}/" if place.prefix else ""
        self._session = session(Endpoint(url=access.endpoint, ca_file=access.ca_file), connections)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def location(self, key: str) -> str:
        """Where an object is, for messages."""
        return f"s3://{self.place.bucket}/{self._below}{key}"

    def key_at(self, location: str) -> str:
        """The key of an object whose location this is."""
        return location.removeprefix(self.location(""))

    def whole(self, key: str) -> tuple[str, str]:
        """The bucket and the whole key of an object of the archive."""
        return self.place.bucket, self._below + key

    def uploads(self, action: str) -> Iterator[Upload]:
        """The uploads in parts that are not finished."""
        asked = {"uploads": "", "prefix": self._below, "max-uploads": str(LISTED_AT_ONCE)}
        is_truncated = True
        while is_truncated:
            answer = self._asked("GET", asked, action)
            if not answer.ok:
                return
            root = _parsed(answer, self.place)
            for upload in root.iterfind("{*}Upload"):
                key, upload_id = upload.findtext("{*}Key", ""), upload.findtext("{*}UploadId", "")
                if key.startswith(self._below):
                    yield Upload(key.removeprefix(self._below), upload_id)
            is_truncated = root.findtext("{*}IsTruncated") == "true"
            marker = root.findtext("{*}NextKeyMarker", ""), root.findtext("{*}NextUploadIdMarker", "")
            asked |= {"key-marker": marker[0], "upload-id-marker": marker[1]}

    def abort(self, upload: Upload, action: str) -> None:
        """End an upload: no part of it is stored any more, and it cannot be finished."""
        self._asked("DELETE", {"uploadId": upload.upload_id}, action, self._below + upload.key)

    def object_at(self, bucket: str, key: str, action: str) -> Stored | None:
        """An object anywhere in the storage, by its whole key; None where there is none."""
        answer = self._asked("HEAD", {}, action, key, bucket=bucket)
        if not answer.ok:
            return None
        return Stored(int(answer.headers.get("Content-Length", -1)), bare(answer.headers.get("ETag")), {})

    def copy(self, source: tuple[str, str], target: tuple[str, str], found: Stored, action: str) -> None:
        """Have storage itself copy what was ``found`` at ``source``, with other notes; both are a bucket and a key."""
        headers = {
            "x-amz-copy-source": quote("/".join(source), safe="/-_.~"),
            "x-amz-copy-source-if-match": f'"{found.etag}"',
            "x-amz-metadata-directive": "REPLACE",
            **{f"x-amz-meta-{name}": text for name, text in found.notes.items()},
        }
        patience = self.access.timeout + found.size * SECONDS_A_BYTE
        bucket, key = target
        answer = self._asked("PUT", {}, action, key, bucket=bucket, headers=headers, timeout=patience)
        # What takes long is answered before it is known whether it can be done.
        if (code := CODE.search(answer.text)) is not None:
            raise said(self.place, self.access, action, None, code[1], code[1])

    def delete_at(self, bucket: str, key: str, action: str) -> None:
        """Delete an object anywhere in the storage."""
        self._asked("DELETE", {}, action, key, bucket=bucket)

    def clock(self, action: str) -> datetime | None:
        """What time it is at the storage, as far as it says so."""
        said = self._asked("GET", {"list-type": "2", "max-keys": "1", "prefix": self._below}, action).headers.get(
            "Date"
        )
        with suppress(TypeError, ValueError):
            return parsedate_to_datetime(said or "").astimezone(UTC)
        return None

    def _asked(
        self,
        method: str,
        query: dict[str, str],
        action: str,
        key: str = "",
        *,
        bucket: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """The answer to a request that obstore cannot make, which is sent again as obstore does it."""
        patience = Patience(self.access.timeout)
        while True:
            url = url_of(self.access, bucket or self.place.bucket, query, key)
            signed = signed_headers(self.access, method, url, query, headers)
            allowed = timeout or self.access.timeout
            try:
                answer = self._session.request(method, url, headers=signed, auth=_signed, timeout=allowed)
            except NO_ANSWER as error:
                trouble = said(self.place, self.access, action, None, "", reason_of(error))
            else:
                code = CODE.search(answer.text)
                name = code[1] if code else ""
                # One that is to be ended may have ended; and some storage says so of a list that is empty.
                if answer.ok or name == "NoSuchUpload" or (method == "HEAD" and answer.status_code == NOT_FOUND):
                    return answer
                trouble = said(self.place, self.access, action, answer.status_code, name, answer.reason)
            patience.wait(trouble)


def bare(etag: str | None) -> str:
    """A tag without its quotation marks."""
    return (etag or "").strip('"')


def _signed(request: PreparedRequest) -> PreparedRequest:
    """Takes the place of a session's own credentials."""
    return request


def _parsed(answer: Response, place: ObjectStore) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(answer.content)
    except ElementTree.ParseError as error:
        raise ServiceUnavailable(f"the unfinished uploads of {place} cannot be listed: {error}") from error

"""The objects of an archive in storage that speaks S3: what is asked of it, and how its errors are told.

obstore sends the requests, and sends again what was not answered; what it cannot ask for, which is the list of
unfinished uploads, is asked for here. Keys are those below the archive's prefix.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote
from xml.etree import ElementTree

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store
from requests import PreparedRequest, Response

from ...bundle.content import CHUNK_BYTES
from ...connections import FAILURES as NO_ANSWER
from ...connections import reason_of, session
from ...errors import ArchiveError, IngestError, ServiceUnavailable, SettingsError
from ...settings import Endpoint, ObjectStore, S3Access
from ...text import one_line
from .faults import CODE, FAILURES, Refused, explained, is_not_there, said, was_cut_short
from .signing import signed_headers, url_of

if TYPE_CHECKING:
    from obstore import Attributes, GetOptions, GetResult
    from obstore.store import ClientConfig, RetryConfig, S3Config

T = TypeVar("T")

# How often what storage failed at is tried again, and how long it may take in all, as a multiple of the timeout.
RETRIES = 6
RETRYING_TIMEOUTS = 3
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 5.0
# What is sent or received at once may take this long for each byte, besides the timeout.
SECONDS_A_BYTE = 1 / (1 << 20)
# Amazon's has no more parts in an upload, and takes no more objects in one request to delete them.
MOST_PARTS = 10_000
MOST_DELETED = 1000
LISTED_AT_ONCE = 1000
PART_BYTES = 8 << 20
# What the parts of one upload that are on their way may take of the memory.
PARTS_BYTES = 32 << 20
NOT_FOUND = 404
LONGEST_BODY = timedelta(days=7)


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


class Bucket:
    """The objects of ``place``, reached by ``access``, from as many threads as like to.

    Raises ServiceUnavailable where storage does not answer or fails, or where settings are to be mended; ArchiveError
    where it cannot do what it is asked for.
    """

    def __init__(self, place: ObjectStore, access: S3Access, connections: int) -> None:
        self.place, self.access = place, access
        self._below = f"{place.prefix}/" if place.prefix else ""
        self._connections = connections
        self._stores: dict[int, S3Store] = {}
        self._authorities = _authorities(access)
        self._session = session(Endpoint(url=access.endpoint, ca_file=access.ca_file), connections)
        self._reader = self._made(timeout=LONGEST_BODY, read_timeout=timedelta(seconds=access.timeout))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def location(self, key: str) -> str:
        """Where an object is, for messages."""
        return f"s3://{self.place.bucket}/{self._below}{key}"

    def key_at(self, location: str) -> str:
        """The key of an object whose location this is."""
        return location.removeprefix(self.location(""))

    def put(self, key: str, data: bytes, notes: dict[str, str], action: str, *, create: bool) -> str | None:
        """Store an object at once and return its tag; None where ``create`` found another, if storage looks."""
        with self._explaining(action):
            try:
                done = obstore.put(
                    self._store(len(data)),
                    self._below + key,
                    data,
                    attributes=_attributes(notes),
                    mode="create" if create else "overwrite",
                    use_multipart=False,
                )
            except AlreadyExistsError:
                return None
        return _bare(done["e_tag"])

    def upload(self, key: str, chunks: Iterable[bytes], size: int, notes: dict[str, str], action: str) -> str:
        """Store an object of ``size`` bytes in parts and return its tag. Where the chunks end with an error, nothing is
        stored, and it is raised as it is."""
        part = part_bytes(size)
        with self._explaining(action):
            done = obstore.put(
                self._store(part),
                self._below + key,
                iter(chunks),
                attributes=_attributes(notes),
                use_multipart=True,
                chunk_size=part,
                max_concurrency=max(1, PARTS_BYTES // part),
            )
        return _bare(done["e_tag"])

    def find(self, key: str, action: str) -> Stored | None:
        """The object; None where there is none."""
        with self._explaining(action):
            try:
                found = obstore.get(self._reader, self._below + key, options={"head": True})
            except FileNotFoundError:
                return None
        notes = {name: text for name, text in found.attributes.items() if isinstance(text, str)}
        return Stored(found.meta["size"], _bare(found.meta["e_tag"]), notes)

    def get(self, key: str, start: int, action: str) -> Iterator[bytes] | None:
        """The bytes of an object from ``start`` on, which there are, in pieces; None where there is no object."""
        opened = self._whole(lambda: self._opened(key, start), action)
        return None if opened is None else self._pieces(key, *opened, start, action)

    def read(self, key: str, etag: str, action: str) -> memoryview | None:
        """All of an object that has this tag; None where it has another one by now, or is not there."""
        return self._whole(lambda: self._tagged(key, etag), action)

    def _tagged(self, key: str, etag: str) -> memoryview | None:
        try:
            found = obstore.get(self._reader, self._below + key, options={"if_match": f'"{etag}"'})
            # Some storage does not look at the condition.
            return memoryview(found.bytes()) if _bare(found.meta["e_tag"]) == etag else None
        except PreconditionError:
            return None
        except FileNotFoundError as error:
            if not is_not_there(error):
                raise
            return None

    def _opened(self, key: str, start: int) -> "tuple[GetResult, int] | None":
        """The object from ``start`` on, and how many bytes of it are to be skipped all the same."""
        options: GetOptions = {"range": {"offset": start}} if start else {}
        try:
            return obstore.get(self._reader, self._below + key, options=options), 0
        except FileNotFoundError as error:
            if not is_not_there(error):
                raise
            return None
        except BaseError as error:
            if not start or "non-partial" not in str(error):
                raise
            # Some storage sends all of it.
            return obstore.get(self._reader, self._below + key), start

    def _pieces(self, key: str, found: "GetResult", skipped: int, position: int, action: str) -> Iterator[bytes]:
        size, patience = found.meta["size"], self._patience()
        while position < size:
            try:
                with self._explaining(action):
                    for piece in found.stream(CHUNK_BYTES):
                        taken = bytes(memoryview(piece)[skipped:])
                        skipped -= len(piece) - len(taken)
                        position += len(taken)
                        if taken:
                            patience = self._patience()
                            yield taken
            except ServiceUnavailable as error:
                patience.wait(error)
            if position < size:
                opened = self._whole(lambda start=position: self._opened(key, start), action)  # type: ignore[misc]
                if opened is None:
                    raise ArchiveError(f"cannot {action} in {self.place}: {self.location(key)} is gone")
                found, skipped = opened

    def keys(self, folder: str, action: str) -> Iterator[tuple[str, int]]:
        """The keys of all objects below a folder, or of the archive where it is empty, and their sizes."""
        prefix = f"{self._below}{folder}".strip("/") or None
        last: str | None = None
        patience, is_whole = self._patience(), False
        while not is_whole:
            try:
                with self._explaining(action):
                    for page in obstore.list(self._reader, prefix, offset=last, chunk_size=LISTED_AT_ONCE):
                        for entry in page:
                            last = entry["path"]
                            yield last.removeprefix(self._below), entry["size"]
                is_whole = True
            except ServiceUnavailable as error:
                if not was_cut_short(error):
                    raise
                patience.wait(error)

    def delete(self, keys: Sequence[str], action: str) -> None:
        """Delete objects; one that is not there is no error."""
        for first in range(0, len(keys), MOST_DELETED):
            with self._explaining(action):
                wanted = [self._below + key for key in keys[first : first + MOST_DELETED]]
                obstore.delete(self._store(0), wanted)

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
        return Stored(int(answer.headers.get("Content-Length", -1)), _bare(answer.headers.get("ETag")), {})

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

    def whole(self, key: str) -> tuple[str, str]:
        """The bucket and the whole key of an object of the archive."""
        return self.place.bucket, self._below + key

    def clock(self, action: str) -> datetime | None:
        """What time it is at the storage, as far as it says so."""
        said = self._asked("GET", {"list-type": "2", "max-keys": "1", "prefix": self._below}, action).headers.get(
            "Date"
        )
        with suppress(TypeError, ValueError):
            return parsedate_to_datetime(said or "").astimezone(UTC)
        return None

    @contextmanager
    def _explaining(self, action: str) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            # A file of this machine that is not there is no fault of storage.
            if isinstance(error, FileNotFoundError) and error.errno is not None:
                raise
            raise explained(error, self.place, self.access, action) from error

    def _store(self, body: int) -> S3Store:
        """What sends bodies of so many bytes at most, with the time that they may take."""
        size = 1 << max(20, body.bit_length())
        if size not in self._stores:
            allowed = timedelta(seconds=self.access.timeout + size * SECONDS_A_BYTE)
            self._stores[size] = self._made(timeout=allowed)
        return self._stores[size]

    def _made(self, **timeouts: timedelta) -> S3Store:
        access, bucket = self.access, self.place.bucket
        config: S3Config = {
            "endpoint": access.endpoint if access.in_path else _with_bucket(access.endpoint, bucket),
            "region": access.region,
            "access_key_id": access.key_id,
            "secret_access_key": access.secret,
            "virtual_hosted_style_request": not access.in_path,
        }
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
        try:
            return S3Store(bucket, config=config, client_options=client, retry_config=retry)
        except (BaseError, ValueError) as error:
            trouble = one_line(str(error).partition("Debug source")[0])
            raise SettingsError(f"cannot use {self.place} at {access.endpoint}: {trouble}") from error

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
        patience = self._patience()
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

    def _whole(self, call: Callable[[], T], action: str) -> T:
        """What a call has from storage, which is made again where an answer was cut short: obstore does not do so."""
        patience = self._patience()
        while True:
            try:
                with self._explaining(action):
                    return call()
            except ServiceUnavailable as error:
                if not was_cut_short(error):
                    raise
                patience.wait(error)

    def _patience(self) -> "_Patience":
        return _Patience(self.access.timeout * RETRYING_TIMEOUTS)


class _Patience:
    """Waits before something is tried again, longer each time, but not for ever."""

    def __init__(self, seconds: float) -> None:
        self._end, self._attempt = time.monotonic() + seconds, 0

    def wait(self, error: IngestError) -> None:
        """Wait; raise the error where it was waited for long enough, or where no waiting helps."""
        pause = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**self._attempt)
        helps = error.transient and not isinstance(error, Refused)
        if not helps or self._attempt == RETRIES or time.monotonic() + pause > self._end:
            raise error
        self._attempt += 1
        time.sleep(pause)


def part_bytes(size: int) -> int:
    """How long the parts of an object of so many bytes are: no more of them than storage takes."""
    least = -(-size // MOST_PARTS)
    return max(PART_BYTES, (least + CHUNK_BYTES - 1) // CHUNK_BYTES * CHUNK_BYTES)


def _attributes(notes: dict[str, str]) -> "Attributes":
    return {"Content-Type": "application/octet-stream", **notes}


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


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')


def _signed(request: PreparedRequest) -> PreparedRequest:
    """Takes the place of a session's own credentials."""
    return request


def _parsed(answer: Response, place: ObjectStore) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(answer.content)
    except ElementTree.ParseError as error:
        raise ServiceUnavailable(f"the unfinished uploads of {place} cannot be listed: {error}") from error

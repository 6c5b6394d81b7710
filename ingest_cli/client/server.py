"""An ingest server: what can be asked of it, and what it answers."""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import requests

from ..errors import ServiceUnavailable, UploadRefused
from ..text import number_of, quoted
from .observer import State
from .session import SENDING_SECONDS, Busy, Session, message_of, object_of
from .target import Target

VERSION = "1.0.0"
TUS = {"Tus-Resumable": VERSION}
PIECE_TYPE = {"Content-Type": "application/offset+octet-stream"}
BUNDLE_TYPE = {"Content-Type": "application/octet-stream"}
# The first that both sides know; every server with the extension knows the second.
CHECKSUMS = ("sha256", "sha1", "sha512", "md5")
MAX_NAME = 200
# The piece did not arrive as it was sent.
CHECKSUM_MISMATCH = 460
# As the released service answers where its database is away for a moment.
AWAY = "DATA_ACCESS_ERROR"


class Body(Protocol):
    """Bytes to be sent, of a known length."""

    def __len__(self) -> int:
        """How many."""

    def __iter__(self) -> Iterator[bytes]:
        """The bytes, in pieces, as they are sent."""

    def hashed(self) -> Iterator[bytes]:
        """The bytes, only to be read."""


class UploadGone(ServiceUnavailable):
    """The server does not know the upload any more, as where it has expired: it is to be begun anew."""


class OutOfStep(ServiceUnavailable):
    """The server has more or less of the upload than was thought, or not what was sent."""


class AnswerLost(UploadRefused):
    """A whole bundle was sent in one request, and nobody knows what became of it."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a server can do: resume uploads, and compare pieces with a ``checksum`` of this kind."""

    resumes: bool
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How many bytes of an upload the server has, and which job it has made of it."""

    offset: int
    job_id: int | None


class IngestServer:
    """The server at ``target``. Every method raises what `Session.request` does, and UploadRefused."""

    def __init__(self, target: Target) -> None:
        self._target, self._session = target, Session(target)
        self._files = f"{target.url}/files"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def features(self) -> Features:
        """What the server can do. One of Pacifica Ingest can do nothing of it."""
        answer = self._session.request("OPTIONS", self._files, headers=TUS)
        versions = answer.headers.get("Tus-Version", answer.headers.get("Tus-Resumable", ""))
        if not answer.ok or VERSION not in [version.strip() for version in versions.split(",")]:
            return Features(resumes=False)
        known = [name.strip() for name in answer.headers.get("Tus-Checksum-Algorithm", "").split(",")]
        return Features(resumes=True, checksum=next((name for name in CHECKSUMS if name in known), None))

    def create(self, length: int, file_name: str) -> str:
        """Create an upload of ``length`` bytes, by which people see the name of its file; its own name."""
        metadata = f"filename {b64encode(os.fsencode(file_name)).decode()}"
        headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": metadata}
        answer = self._session.request("POST", self._files, headers=headers)
        name = answer.headers.get("Location", "").rstrip("/").rpartition("/")[2]
        # The rest of the address may be that of a server behind a proxy.
        if answer.status_code != 201 or not name or len(name) > MAX_NAME:
            raise self._session.refused(answer)
        return name

    def progress(self, name: str) -> Progress:
        """How far the upload is. Raises UploadGone."""
        return self._progress(self._session.request("HEAD", self._upload(name), headers=TUS))

    def append(self, name: str, offset: int, body: Body, checksum: str | None) -> Progress:
        """Send a piece of the upload, which begins at ``offset``. Raises UploadGone, and OutOfStep."""
        headers = {**TUS, **PIECE_TYPE, "Upload-Offset": str(offset)}
        if checksum is not None:
            headers["Upload-Checksum"] = checksum_of(body, checksum)
        url = self._upload(name)
        answer = self._session.request("PATCH", url, body=body, headers=headers, timeout=SENDING_SECONDS)
        if answer.status_code in (409, CHECKSUM_MISMATCH):
            raise OutOfStep(f"the server at {url} did not take a piece: {message_of(answer)}")
        return self._progress(answer)

    def remove(self, name: str) -> None:
        """Remove an upload that is not a job yet."""
        self._session.request("DELETE", self._upload(name), headers=TUS)

    def post(self, body: Body) -> State:
        """Send a whole bundle in one request. Raises AnswerLost where it was sent, and nothing came back."""
        counted = _Counted(body)
        url = f"{self._target.url}/upload"
        try:
            answer = self._session.request("POST", url, body=counted, headers=BUNDLE_TYPE, timeout=SENDING_SECONDS)
        except ServiceUnavailable as error:
            if counted.left <= 0 and not isinstance(error, Busy):
                raise AnswerLost(f"{error}; all of the bundle was sent, and it may be a job there") from error
            raise
        return self._state(answer)

    def state(self, job_id: int) -> State | None:
        """The state of a job; None where the server does not know it."""
        answer = self._session.request("GET", f"{self._target.status_url}?job_id={job_id}")
        return None if answer.status_code == 404 else self._state(answer)

    def details(self, job_id: int) -> State | None:
        """What the server tells of a job besides; None where it tells no more, as one of Pacifica Ingest."""
        answer = self._session.request("GET", f"{self._target.url}/jobs/{job_id}")
        found = object_of(answer, self._session)
        return found if isinstance(found, dict) and found.get("job_id") == job_id else None

    def _upload(self, name: str) -> str:
        return f"{self._files}/{name}"

    def _progress(self, answer: requests.Response) -> Progress:
        if answer.status_code in (404, 410):
            raise UploadGone(f"the server at {self._target.url} has no upload of this name any more")
        offset = number_of(answer.headers.get("Upload-Offset", ""))
        if not answer.ok or offset is None:
            raise self._session.refused(answer)
        return Progress(offset, number_of(answer.headers.get("Ingest-Job-Id", "")))

    def _state(self, answer: requests.Response) -> State:
        state = object_of(answer, self._session)
        if not isinstance(state, dict) or not isinstance(state.get("job_id"), int):
            raise UploadRefused(f"the server at {answer.url} does not answer as Pacifica Ingest: {quoted(state)}")
        if state.get("state") == AWAY:
            raise ServiceUnavailable(f"the server at {answer.url} cannot read the state of the job now")
        return state


class _Counted:
    """A body, and how many bytes of it are ``left`` to be asked for."""

    def __init__(self, body: Body) -> None:
        self._body, self.left = body, len(body)

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._body:
            self.left -= len(piece)
            yield piece


def checksum_of(body: Body, name: str) -> str:
    """The value of ``Upload-Checksum`` for these bytes."""
    digest = hashlib.new(name, usedforsecurity=False)
    for piece in body.hashed():
        digest.update(piece)
    return f"{name} {b64encode(digest.digest()).decode()}"

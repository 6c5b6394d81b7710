"""Uploads in parts that are made by requests of our own: of parts that storage copies itself."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

from ...errors import ArchiveError, ServiceUnavailable
from .client import Client, code_of
from .objects import At, bare, copied, noted
from .sums import tag_of_parts

# Amazon's has no more parts in an upload.
MOST_PARTS = 10_000
GONE = "NoSuchUpload"


class PartsUpload:
    """An upload in parts of what is to be the object ``at`` a bucket and a key, for ``action``. It is there once
    `complete` was called, and not before; its methods may be called by several threads."""

    def __init__(self, client: Client, at: At, notes: dict[str, str], action: str) -> None:
        self._client, self._at, self._action = client, at, action
        self._tags: dict[int, str] = {}
        answer = client.ask("POST", {"uploads": ""}, action, at, headers=noted(notes))
        self._upload_id = client.parsed(answer, action).findtext("{*}UploadId", "")

    def copy_part(self, number: int, source: At, first: int, last: int, tag: str) -> None:
        """Have storage copy these bytes, from the first to the last, of an object that has this tag."""
        headers = {**copied(source, tag), "x-amz-copy-source-range": f"bytes={first}-{last}"}
        query = {"partNumber": str(number), "uploadId": self._upload_id}
        size = last + 1 - first
        answer = self._client.ask("PUT", query, self._action, self._at, headers=headers, size=size)
        self._require_there(code_of(answer))
        copied_tag = self._client.parsed(answer, self._action).findtext("{*}ETag", "") if answer.content else ""
        if not copied_tag:
            where = f"{self._client.place} at {self._client.access.endpoint}"
            raise ArchiveError(f"cannot {self._action} in {where}: this storage copies no parts of objects")
        self._tags[number] = bare(copied_tag)

    def complete(self) -> bool:
        """Have the parts be an object; whether the upload was there, which it is not if it was completed before."""
        body = f"<CompleteMultipartUpload>{''.join(_listed(self._tags))}</CompleteMultipartUpload>"
        answer = self._client.ask("POST", {"uploadId": self._upload_id}, self._action, self._at, body=body.encode())
        return code_of(answer) != GONE

    @property
    def tag(self) -> str:
        """The tag of the object, where those of parts are their sums."""
        return tag_of_parts(self._tags[number] for number in sorted(self._tags))

    def abort(self) -> None:
        """End it: no part of it is stored any more, and it cannot be completed."""
        self._client.ask("DELETE", {"uploadId": self._upload_id}, self._action, self._at)

    def _require_there(self, code: str) -> None:
        if code == GONE:
            raise ServiceUnavailable(f"cannot {self._action} in {self._client.place}: the upload of it was ended")


def _listed(tags: dict[int, str]) -> Iterable[str]:
    for number in sorted(tags):
        yield f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escape(tags[number])}&quot;</ETag></Part>"

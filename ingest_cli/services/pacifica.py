"""The four services of a Pacifica site, over HTTP, as their released versions behave."""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from ..content import CHUNK_BYTES, Content
from ..errors import ArchiveError, CatalogRefused, PolicyRefused, RollbackFailed, ServiceUnavailable
from ..metadata import Document
from ..settings import Endpoint
from .base import IdMode, StoredFile
from .catalog_rules import check_document
from .disk import rename_or_copy
from .http import BUSY_STATUSES, JSON, TRIES, Answer, HttpService
from .slots import Slots

# The archive answers 201 with the length of the request, whatever it stored. Its stored sizes are asked for:
# of every file this large, and of the last one before each checkpoint, where a full disk shows.
CONFIRM_FROM_BYTES = 1 << 20


class _Adapter:
    """What the four have in common: a service that can be looked at, and is closed in the end."""

    _service: HttpService

    def examine(self) -> str:
        """Say how quickly the service answers."""
        return self._service.examine("GET", "/")

    def close(self) -> None:
        """Close the connections."""
        self._service.close()


class PacificaUniqueId(_Adapter):
    """Ids from Pacifica UniqueID at ``endpoint``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._service = HttpService("the id service", endpoint)

    def reserve(self, mode: IdMode, count: int) -> int:
        """Reserve ``count`` ids. A range that is asked for again after a lost answer is left unused: no harm."""
        # On its default SQLite the service answers 500 "database is locked" when two clients ask at once.
        answer = self._service.request("GET", f"/getid?range={count}&mode={mode}", busy={*BUSY_STATUSES, 500})
        content = answer.json()
        try:
            first, last = int(content["startIndex"]), int(content["endIndex"])
        except (KeyError, TypeError, ValueError):
            raise ServiceUnavailable(f"{self._service.name} gives no ids: {answer.message}") from None
        if answer.status != 200 or first < 0 or last - first + 1 != count:
            raise ServiceUnavailable(f"{self._service.name} gives no {count} ids: {answer.message}")
        return first


class PacificaPolicy(_Adapter):
    """The policy service whose ingest end point this is; the user goes in the header ``auth_header``."""

    def __init__(self, endpoint: Endpoint, auth_header: str) -> None:
        self._service = HttpService("the policy service", endpoint)
        self._auth_header = auth_header

    def examine(self) -> str:
        """Say how quickly the service answers to a document without a record, which it refuses."""
        return self._service.examine("POST", "", body=b"[]", expected=(200, 412))

    def check(self, document: Document, user: str) -> None:
        """Ask whether ``user`` may ingest ``document``."""
        body = json.dumps(document.records).encode()
        # Header values travel as Latin-1: this makes UTF-8 of what is no ASCII.
        headers = {**JSON, self._auth_header: user.encode().decode("latin-1")}
        answer = self._service.request("POST", body=body, headers=headers)
        if answer.is_success:
            return
        if answer.is_refusal or answer.status == 403:
            raise PolicyRefused(f"the policy refuses this bundle: {answer.message}")
        raise ServiceUnavailable(f"{self._service.name} at {self._service.url} fails: {answer.message}")


class PacificaArchive(_Adapter):
    """The archive interface at ``endpoint``.

    ``transfers`` is 1 unless the site knows better: the released service, under its own server, mixes up files that
    come at the same time. ``slots`` count for other processes too. With ``remote_sources`` the paths of files to be
    moved are those of the archive's machine.
    """

    def __init__(
        self, endpoint: Endpoint, *, transfers: int = 1, remote_sources: bool = False, slots: Slots | None = None
    ) -> None:
        self.transfers, self.resent = transfers, 0
        self._remote_sources = remote_sources
        self._service = HttpService("the archive", endpoint, connections=transfers, slots=slots)
        self._last: tuple[int, int] | None = None

    def require_room(self, total_bytes: int) -> None:
        """The archive interface cannot be asked for its room; it answers or it does not."""
        self._service.request("GET")

    def put(self, file_id: int, content: Content, *, replace: bool) -> None:
        """Send the file. After a try that failed, what it may have left is deleted first: an archive that does not
        run as root cannot overwrite its read-only files."""
        headers = {"Content-Length": str(content.size), "Content-Type": "application/octet-stream"}
        trouble = ""
        for attempt in range(TRIES):
            if attempt:
                self._service.back_off(attempt - 1, trouble)
            try:
                if attempt or replace:
                    self._service.send("DELETE", f"/{file_id}")
                answer = self._service.send("PUT", f"/{file_id}", body=content.chunks(), headers=headers)
            except HTTPError as error:
                trouble = str(error)
                continue
            except BaseException:
                # The bytes were not what was recorded, or the job was stopped: the archive may hold a part of them.
                self.delete(file_id)
                raise
            if answer.status == 201 and isinstance(answer.json(), dict):
                self._note_put(file_id, content.size)
                return
            trouble = answer.message
            if answer.is_refusal:
                self.delete(file_id)
                raise ArchiveError(f"the archive at {self._service.url} refuses {content.name!r}: {trouble}")
            if answer.status < 500 and answer.status not in BUSY_STATUSES:
                break
            self.resent += 1
        raise ServiceUnavailable(f"the archive at {self._service.url} does not store {content.name!r}: {trouble}")

    def move(self, file_id: int, source: Path, size: int, content: Content | None, *, replace: bool) -> None:
        """Have the archive move the file from ``source``, a path that it sees."""
        body = json.dumps({"path": str(source)}).encode()
        # A proxy's 502, 503 or 504 may hide a move that was done, after which a second one finds no source.
        answer = self._service.request("PATCH", f"/{file_id}", body=body, headers=JSON, repeatable=False, busy={429})
        trouble = f"the archive at {self._service.url} does not move {source}: {answer.message}"
        try:
            if answer.status == 500 or answer.is_refusal:
                raise ArchiveError(trouble)
            if answer.status != 200:
                raise ServiceUnavailable(trouble)
            self._confirm(file_id, size)
        except ArchiveError:
            # A move across file systems that failed halfway leaves a copy.
            self.move_back(file_id, source)
            raise

    def move_back(self, file_id: int, source: Path) -> None:
        """Rename the archive's file back to ``source``, which works where this machine sees the archive's own path.

        The archive interface cannot be asked to move a file back. It says by HEAD where a file lies; when that file is
        gone from there, and the archive then says that it holds none, it was the right one.
        """
        answer = self._service.request("HEAD", f"/{file_id}")
        size = self._size(file_id, answer)
        if size is None:
            return
        place = Path(answer.headers.get("X-Pacifica-File", ""))
        kept = f"the archive keeps file {file_id}, moved from {source}"
        if self._remote_sources:
            raise RollbackFailed(f"{kept}, a path of its own machine")
        try:
            if os.path.lexists(source):
                self._delete_copy(file_id, source)
                return
            if not place.is_absolute() or place.lstat().st_size != size:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            rename_or_copy(place, source)
            found: int | None = size
            try:
                found = self.stat(file_id)
            finally:
                if found is not None:
                    rename_or_copy(source, place)
        except OSError as error:
            raise RollbackFailed(f"{kept}: this machine cannot move it back from {place}: {error.strerror}") from error
        if found is not None:
            raise RollbackFailed(f"{kept}: {place} is another machine's")

    def delete(self, file_id: int) -> None:
        """Delete the file; the archive answers 500 where there is none, so that its absence is what is checked."""
        answer = self._service.request("DELETE", f"/{file_id}")
        if answer.status != 200 and self.stat(file_id) is not None:
            raise RollbackFailed(f"the archive at {self._service.url} does not delete file {file_id}: {answer.message}")

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes. The archive answers 500 for a file that it does not hold."""
        return self._size(file_id, self._service.request("HEAD", f"/{file_id}"))

    def read(self, file_id: int) -> Iterator[bytes]:
        """The stored bytes."""
        try:
            with self._service.stream(f"/{file_id}") as response:
                if response.status != 200:
                    raise ArchiveError(f"the archive at {self._service.url} does not give file {file_id}")
                yield from response.stream(CHUNK_BYTES)
        except HTTPError as error:
            raise ServiceUnavailable(f"the archive at {self._service.url} fails: {error}") from error

    def flush(self) -> None:
        """Look at the last file stored. What the archive reports stored is its own to keep durable."""
        if self._last is not None:
            self._confirm(*self._last)
            self._last = None

    def _note_put(self, file_id: int, size: int) -> None:
        if size < CONFIRM_FROM_BYTES:
            self._last = (file_id, size)
            return
        try:
            self._confirm(file_id, size)
        except ArchiveError:
            self.delete(file_id)
            raise

    def _delete_copy(self, file_id: int, source: Path) -> None:
        """Delete what the archive holds, unless ``source`` is another file by now. A move across file systems that
        was cut off leaves the source, and a part of it in the archive."""
        with source.open("rb") as file:
            if not all(file.read(len(chunk)) == chunk for chunk in self.read(file_id)):
                raise RollbackFailed(f"the archive keeps file {file_id}: another file stands at {source} by now")
        self.delete(file_id)

    def _confirm(self, file_id: int, size: int) -> None:
        found = self.stat(file_id)
        if found != size:
            raise ArchiveError(f"the archive holds {found} bytes as file {file_id}, but {size} were sent")

    def _size(self, file_id: int, answer: Answer) -> int | None:
        length = answer.headers.get("X-Content-Length", "")
        if answer.status == 204 and length.isdigit():
            return int(length)
        # An archive that fails answers 500 to everything; and that we may not ask does not say that there is no file.
        if answer.status in (404, 500) and self._service.request("GET", "/").status == 200:
            return None
        raise ServiceUnavailable(
            f"the archive at {self._service.url} does not say what file {file_id} is: {answer.message}"
        )


class PacificaCatalog(_Adapter):
    """The metadata service whose ingest end point this is."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._service = HttpService("the metadata service", _without_ingest(endpoint))

    def examine(self) -> str:
        """Say how quickly the service finds that there is no transaction 0."""
        return self._service.examine("GET", "/transactions?_id=0")

    def check(self, document: Document) -> None:
        """Check the service's rules here: it keeps them only after the files are stored."""
        check_document(document)

    def record(self, document: Document, transaction_id: int, first_file_id: int) -> None:
        """Send the document. An answer that is lost, or that says the ids are in use, is settled by looking."""
        body = json.dumps(document.numbered(transaction_id, first_file_id)).encode()
        try:
            answer = self._service.request("PUT", "/ingest", body=body, headers=JSON, repeatable=False)
            if answer.is_success:
                return
            trouble = answer.message
        except ServiceUnavailable as error:
            answer, trouble = None, str(error)
        if self._holds(document, transaction_id, first_file_id):
            return
        if answer is None or not (answer.is_refusal or answer.status == 500):
            raise ServiceUnavailable(f"the metadata service does not record transaction {transaction_id}: {trouble}")
        raise CatalogRefused(f"the metadata service refuses transaction {transaction_id}: {trouble}")

    def contains(self, transaction_id: int) -> bool:
        """Whether the service holds the transaction."""
        return bool(self._list(f"/transactions?_id={transaction_id}"))

    def files(self, transaction_id: int) -> Iterator[StoredFile]:
        """The files of a transaction, by their ids."""
        rows = self._list(f"/files?transaction_id={transaction_id}")
        for row in sorted(rows, key=lambda row: int(row["_id"])):
            yield StoredFile(
                file_id=int(row["_id"]),
                name=str(row["name"]),
                subdir=str(row["subdir"]),
                size=int(row["size"]),
                hashtype=str(row["hashtype"]),
                hashsum=str(row["hashsum"]),
                mimetype=str(row["mimetype"]),
                ctime=row["ctime"],
                mtime=row["mtime"],
            )

    def metadata(self, transaction_id: int) -> list[dict[str, Any]]:
        """The records of a transaction's document that are not of files. The service keeps each key and value once."""
        (found,) = self._list(f"/transsip?_id={transaction_id}")
        records = [
            {"destinationTable": f"Transactions.{name}", "value": found[name]}
            for name in ("submitter", "project", "instrument")
        ]
        for row in self._list(f"/trans_key_value?transaction={transaction_id}"):
            records.append({"destinationTable": "TransactionKeyValue", **self._pair(row)})
        for file in self._list(f"/files?transaction_id={transaction_id}"):
            if file["metadata"]:
                for row in self._list(f"/file_key_value?file={file['_id']}"):
                    records.append({"destinationTable": "FileKeyValue", "file_id": file["_id"], **self._pair(row)})
        return records

    def _pair(self, row: dict[str, Any]) -> dict[str, str]:
        (key,), (value,) = self._list(f"/keys?_id={row['key']}"), self._list(f"/values?_id={row['value']}")
        return {"key": str(key["key"]), "value": str(value["value"])}

    def _holds(self, document: Document, transaction_id: int, first_file_id: int) -> bool:
        if not self.contains(transaction_id):
            return False
        held = {record["_id"] for record in self._list(f"/files?transaction_id={transaction_id}")}
        return held == set(range(first_file_id, first_file_id + len(document.files)))

    def _list(self, path: str) -> list[dict[str, Any]]:
        answer = self._service.request("GET", path)
        content = answer.json()
        if answer.status != 200 or not isinstance(content, list):
            raise ServiceUnavailable(f"the metadata service at {self._service.url} fails: {answer.message}")
        return content


def _without_ingest(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, url=endpoint.url.rstrip("/").removesuffix("/ingest"))

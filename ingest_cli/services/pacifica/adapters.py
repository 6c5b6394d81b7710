"""The four services of a Pacifica site, over HTTP, as their released versions behave."""

import errno
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from urllib3.exceptions import HTTPError

from ...bundle.catalog_rules import check_document
from ...bundle.content import CHUNK_BYTES, Content
from ...bundle.metadata import Document
from ...disk import move_to, opened
from ...errors import ArchiveError, CatalogRefused, PolicyRefused, RollbackFailed, ServiceUnavailable, SourceChanged
from ...settings import Confirm, Endpoint
from ..base import IdMode, StoredFile, require_within
from ..slots import Slots
from .http import BUSY_STATUSES, JSON, TRIES, Answer, HttpService

# The archive answers 201 with the length of the request, whatever it stored. Unless all are to be confirmed, its stored
# sizes are asked for: of every file this large, of each of so many smaller ones, and of the last one before each
# checkpoint, where a full disk shows.
CONFIRM_FROM_BYTES = 1 << 20
CONFIRM_EVERY = 16
# So often a metadata service that is well otherwise has to answer 500 to a document which then counts as refused.
REFUSALS = 2
RESENT_STATUSES = {*BUSY_STATUSES, 500}


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
    moved are those of the archive's machine. ``confirm`` says of which files the stored size is asked for.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        transfers: int = 1,
        remote_sources: bool = False,
        confirm: Confirm = "sample",
        slots: Slots | None = None,
    ) -> None:
        self.transfers = transfers
        self._remote_sources, self._confirm = remote_sources, confirm
        self._service = HttpService("the archive", endpoint, connections=transfers, slots=slots)

    def require_room(self, total_bytes: int) -> None:
        """The archive interface cannot be asked for its room; it answers or it does not."""
        self._service.request("GET")

    def require_free(self, ids: range) -> None:
        """Nothing is asked: it would take two requests for each id, as long as storing a file takes."""

    def writer(self, ids: range, fence: int, *, resumed: bool) -> "PacificaWriter":
        """What a run changes the archive by. The archive interface knows no fences; see `PacificaWriter`."""
        return PacificaWriter(
            self,
            self._service,
            ids,
            resumed=resumed,
            remote_sources=self._remote_sources,
            confirm_every=1 if self._confirm == "all" else CONFIRM_EVERY,
        )

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes. The archive answers 500 for a file that it does not hold."""
        return self.locate(file_id)[0]

    def locate(self, file_id: int) -> tuple[int | None, Path]:
        """The stored size, and the path of the archive's machine where the file lies; an empty one where unknown."""
        answer = self._service.request("HEAD", f"/{file_id}")
        length = answer.headers.get("X-Content-Length", "")
        if answer.status == 204 and length.isdigit():
            return int(length), Path(answer.headers.get("X-Pacifica-File", ""))
        # An archive that fails answers 500 to everything; and that we may not ask does not say that there is no file.
        if answer.status in (404, 500) and self._service.request("GET", "/").status == 200:
            return None, Path()
        raise ServiceUnavailable(
            f"the archive at {self._service.url} does not say what file {file_id} is: {answer.message}"
        )

    def read(self, file_id: int) -> Iterator[bytes]:
        """The stored bytes."""
        try:
            with self._service.stream(f"/{file_id}") as response:
                if response.status != 200:
                    raise ArchiveError(f"the archive at {self._service.url} does not give file {file_id}")
                yield from response.stream(CHUNK_BYTES)
        except HTTPError as error:
            raise ServiceUnavailable(f"the archive at {self._service.url} fails: {error}") from error


class PacificaWriter:
    """What one run changes the archive interface by.

    The archive interface knows no fences: a request that is on its way when a run is frozen is carried out when it
    thaws. What can be done here is to ask, by ``content.observe``, whether the job is still this run's before
    anything is deleted or moved back, and to send nothing that was not asked for within the ids.
    """

    def __init__(
        self,
        archive: PacificaArchive,
        service: HttpService,
        ids: range,
        *,
        resumed: bool,
        remote_sources: bool,
        confirm_every: int,
    ) -> None:
        self.resent = 0
        self._archive, self._service, self._ids = archive, service, ids
        self._resumed, self._remote_sources, self._confirm_every = resumed, remote_sources, confirm_every
        self._small = itertools.count(1)
        self._last: tuple[int, int] | None = None
        self._renamed_in: set[Path] = set()

    def put(self, file_id: int, content: Content) -> None:
        """Send the file. What an earlier try or run may have left is deleted first: an archive that does not run as
        root cannot overwrite its read-only files.

        What a failed try leaves stays for the job to be rolled back. It is never all of a file whose bytes are not
        those that were recorded: the last of them are sent once all are known to be right.
        """
        require_within(self._ids, file_id)
        headers = {"Content-Length": str(content.size), "Content-Type": "application/octet-stream"}
        require_lease = partial(content.observe, 0)
        whole = b"".join(content.chunks()) if content.size <= CHUNK_BYTES else None
        trouble = ""
        for attempt in range(TRIES):
            if attempt:
                self._service.back_off(attempt - 1, trouble)
            try:
                if attempt or self._resumed:
                    self._service.send("DELETE", f"/{file_id}", require=require_lease)
                body = whole if whole is not None else _last_held_back(content.chunks())
                answer = self._service.send("PUT", f"/{file_id}", body=body, headers=headers, require=require_lease)
            except HTTPError as error:
                trouble = str(error)
                continue
            if answer.status == 201 and _total_bytes(answer) == content.size:
                self._note_put(file_id, content.size)
                return
            trouble = answer.message
            if answer.status == 201:
                trouble += f", but with total_bytes {_total_bytes(answer)} where {content.size} were sent"
            elif answer.is_refusal:
                raise ArchiveError(f"the archive at {self._service.url} refuses {content.name!r}: {trouble}")
            elif answer.status < 500 and answer.status not in BUSY_STATUSES:
                break
            self.resent += 1
        raise ServiceUnavailable(f"the archive at {self._service.url} does not store {content.name!r}: {trouble}")

    def move(self, file_id: int, source: Path, size: int, content: Content | None) -> None:
        """Have the archive move the file from ``source``, a path that it sees.

        That what was moved is what was hashed is proved where this machine sees the archive's file: it is the open
        source, unchanged, or its bytes are hashed once more. Elsewhere only sizes are compared, and whether the source
        was written to: a file that took its place in the last moment, or a copy by the archive that went wrong with the
        right length, is not found. Of a file that only the archive sees, the size is all there is.
        """
        require_within(self._ids, file_id)
        before = _written_to(content) if content is not None else None

        def require_lease() -> None:
            if content is not None:
                content.observe(0)

        answer = self._service.request(
            "PATCH",
            f"/{file_id}",
            body=json.dumps({"path": str(source)}).encode(),
            headers=JSON,
            # A proxy's 502, 503 or 504 may hide a move that was done, after which a second one finds no source.
            repeatable=False,
            busy={429},
            require=require_lease,
        )
        trouble = f"the archive at {self._service.url} does not move {source}: {answer.message}"
        try:
            if answer.status == 500 or answer.is_refusal:
                raise ArchiveError(trouble)
            if answer.status != 200:
                raise ServiceUnavailable(trouble)
            if content is None:
                self._confirm(file_id, size)
            else:
                self._require_moved(file_id, source, content, before)
        except (ArchiveError, SourceChanged):
            # A move across file systems that failed halfway leaves a copy. What is there may be another run's by now.
            require_lease()
            self.move_back(file_id, source)
            raise

    def move_back(self, file_id: int, source: Path) -> None:
        """Rename the archive's file back to ``source``, which works where this machine sees the archive's own path.

        The archive interface cannot be asked to move a file back. It says by HEAD where a file lies; when that file is
        gone from there, and the archive then says that it holds none, it was the right one.
        """
        require_within(self._ids, file_id)
        size, place = self._archive.locate(file_id)
        if size is None:
            return
        kept = f"the archive keeps file {file_id}, moved from {source}"
        if self._remote_sources:
            raise RollbackFailed(f"{kept}, a path of its own machine")
        try:
            if os.path.lexists(source):
                self._delete_copy(file_id, source)
                return
            if not place.is_absolute() or place.lstat().st_size != size:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            move_to(place, source)
            found: int | None = size
            try:
                found = self._archive.stat(file_id)
            finally:
                if found is not None:
                    move_to(source, place)
        except OSError as error:
            trouble = f"this machine cannot move it back from {place}: {error.strerror}"
            raise RollbackFailed(f"{kept}: {trouble}") from error
        if found is not None:
            raise RollbackFailed(f"{kept}: {place} is another machine's")
        self._renamed_in |= {source.parent, place.parent}

    def holds(self, file_id: int, hashed: os.stat_result) -> bool:
        """What the archive has moved has one name only."""
        return False

    def was_changed(self, file_id: int, hashed: os.stat_result) -> bool:
        """That was seen to when the file was moved."""
        return False

    def release(self, file_id: int, source: Path, hashed: os.stat_result | None) -> None:
        """There is nothing to remove: the archive itself moved the file."""
        require_within(self._ids, file_id)

    def delete(self, file_id: int) -> None:
        """Delete the file; the archive answers 500 where there is none, so that its absence is what is checked."""
        require_within(self._ids, file_id)
        if self._last is not None and self._last[0] == file_id:
            self._last = None
        answer = self._service.request("DELETE", f"/{file_id}")
        if answer.status != 200 and self._archive.stat(file_id) is not None:
            trouble = f"the archive at {self._service.url} does not delete file {file_id}: {answer.message}"
            raise RollbackFailed(trouble)

    def flush(self) -> None:
        """Look at the last file stored, and write back what this machine moved back. What the archive reports stored
        is its own to keep durable."""
        if self._last is not None:
            self._confirm(*self._last)
            self._last = None
        for folder in tuple(self._renamed_in):
            try:
                with opened(folder) as descriptor:
                    os.fsync(descriptor)
            except OSError as error:
                raise ArchiveError(f"cannot write back {folder}: {error.strerror}") from error
            self._renamed_in.remove(folder)

    def close(self) -> None:
        """The connections are the archive's."""

    def _note_put(self, file_id: int, size: int) -> None:
        if size < CONFIRM_FROM_BYTES and next(self._small) % self._confirm_every:
            self._last = (file_id, size)
            return
        self._confirm(file_id, size)
        self._last = None

    def _confirm(self, file_id: int, size: int) -> None:
        found = self._archive.stat(file_id)
        if found != size:
            raise ArchiveError(f"the archive holds {found} bytes as file {file_id}, but {size} were sent")

    def _delete_copy(self, file_id: int, source: Path) -> None:
        """Delete what the archive holds, unless ``source`` is another file by now. A move across file systems that
        was cut off leaves the source, and a part of it in the archive."""
        with source.open("rb") as file:
            if not all(file.read(len(chunk)) == chunk for chunk in self._archive.read(file_id)):
                raise RollbackFailed(f"the archive keeps file {file_id}: another file stands at {source} by now")
        self.delete(file_id)

    def _require_moved(self, file_id: int, source: Path, content: Content, before: tuple[int, int] | None) -> None:
        size, place = self._archive.locate(file_id)
        if size is None:
            raise ArchiveError(f"the archive at {self._service.url} holds no file {file_id} after it moved {source}")
        after = _written_to(content)
        if size != content.size or (before is not None and after is not None and before != after):
            raise SourceChanged(f"{source} was written to while the archive moved it: it is to be hashed again")
        if self._holds_another(file_id, size, place, content):
            raise SourceChanged(f"another file than the one that was hashed was at {source} when the archive moved it")

    def _holds_another(self, file_id: int, size: int, place: Path, content: Content) -> bool:
        """Whether this machine sees that the archive's file is neither the open source nor a copy with its hash."""
        if not place.is_absolute():
            return False
        try:
            found, source = place.lstat(), os.fstat(content.descriptor)
        except OSError:
            return False
        # Where the size is another one, that place is another machine's.
        if os.path.samestat(found, source) or found.st_size != size:
            return False
        digest = hashlib.new(content.hashtype, usedforsecurity=False)
        for chunk in self._archive.read(file_id):
            content.observe(0)
            digest.update(chunk)
        return digest.hexdigest() != content.hashsum


def _total_bytes(answer: Answer) -> int | None:
    """The length that the archive says it was sent: on the released one the request's Content-Length, so that the right
    one proves nothing, but another one that the file is not stored."""
    content = answer.json()
    found = content.get("total_bytes") if isinstance(content, dict) else None
    return found if isinstance(found, int) else None


def _last_held_back(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks; the last of them only when the iterator has ended, and thereby said that all are right."""
    held = b""
    for chunk in chunks:
        if held:
            yield held
        held = chunk
    yield held


def _written_to(content: Content) -> tuple[int, int] | None:
    """What changes when the open file is written to; None where that cannot be seen, as when a share lets go of it."""
    try:
        found = os.fstat(content.descriptor)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


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

    def record(self, document: Document, transaction_id: int, first_file_id: int, *, fence: int) -> None:
        """Send the document; whatever the answer is but success, look whether it went in before it is sent again.

        The service answers 500 to a document that it refuses, such as one of an unknown project, and where its own
        database is away. It counts as a refusal where the service is found well by a GET right after it, twice.
        """
        body = json.dumps(document.numbered(transaction_id, first_file_id)).encode()
        ids = range(first_file_id, first_file_id + len(document.files))
        refusals = 0
        for attempt in range(TRIES):
            try:
                answer = self._service.request("PUT", "/ingest", body=body, headers=JSON, repeatable=False, busy=())
            except ServiceUnavailable:
                # The service may be at work on the document still: where it is not there, a later run looks again.
                if self._look(transaction_id, ids)[0]:
                    return
                raise
            if answer.is_success:
                return
            is_held, is_well = self._look(transaction_id, ids)
            if is_held:
                return
            refusals += is_well and answer.status == 500
            if answer.is_refusal or refusals == REFUSALS:
                raise CatalogRefused(f"the metadata service refuses transaction {transaction_id}: {answer.message}")
            if answer.status not in RESENT_STATUSES:
                break
            if attempt + 1 < TRIES:
                self._service.back_off(attempt, answer.message, at_least=answer.retry_after)
        trouble = f"the metadata service does not record transaction {transaction_id}: {answer.message}"
        raise ServiceUnavailable(trouble)

    def bar(self, transaction_id: int, ids: range, fence: int) -> bool:
        """Whether the service holds the transaction. It knows no fences: nothing is barred."""
        return self.contains(transaction_id, ids)

    def contains(self, transaction_id: int, ids: range | None = None) -> bool:
        """Whether the service holds the transaction, with the files ``ids`` where these are given."""
        return self._holds(transaction_id, ids, tries=TRIES)

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

    def _look(self, transaction_id: int, ids: range) -> tuple[bool, bool]:
        """Whether the service holds the transaction, and whether it was well when asked; else it is waited for."""
        try:
            return self._holds(transaction_id, ids, tries=1), True
        except ServiceUnavailable:
            return self._holds(transaction_id, ids, tries=TRIES), False

    def _holds(self, transaction_id: int, ids: range | None, *, tries: int) -> bool:
        if not self._list(f"/transactions?_id={transaction_id}", tries=tries):
            return False
        if ids is None:
            return True
        held = {int(record["_id"]) for record in self._list(f"/files?transaction_id={transaction_id}", tries=tries)}
        return held == set(ids)

    def _list(self, path: str, *, tries: int = TRIES) -> list[dict[str, Any]]:
        # What is not there is an empty list: 500 is only answered while the service's own database is away.
        answer = self._service.request("GET", path, busy=RESENT_STATUSES, tries=tries)
        content = answer.json()
        if answer.status != 200 or not isinstance(content, list):
            raise ServiceUnavailable(f"the metadata service at {self._service.url} fails: {answer.message}")
        return content


def _without_ingest(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, url=endpoint.url.rstrip("/").removesuffix("/ingest"))

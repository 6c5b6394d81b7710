"""The four services of a Pacifica site, over HTTP, as their released versions behave."""

import json
import time
from pathlib import Path
from typing import NoReturn

from urllib3.exceptions import HTTPError

from ..content import Content
from ..errors import ArchiveError, CatalogRefused, PolicyRefused, ServiceUnavailable
from ..metadata import Document
from .base import IdMode
from .catalog_rules import check_document
from .http import BUSY_STATUSES, TRIES, Answer, HttpService, pause

JSON = {"Content-Type": "application/json"}
# The archive answers 201 with the length of the request, whatever it stored. Its stored sizes are asked for:
# of every file this large, and of the last one before each checkpoint, where a full disk shows.
CONFIRM_FROM_BYTES = 1 << 20


class _Adapter:
    """What the four have in common: a service that is closed in the end."""

    _service: HttpService

    def close(self) -> None:
        """Close the connections."""
        self._service.close()


class PacificaUniqueId(_Adapter):
    """Ids from Pacifica UniqueID at ``url``."""

    def __init__(self, url: str) -> None:
        self._service = HttpService("the id service", url)

    def take(self, mode: IdMode, count: int) -> int:
        """Reserve ``count`` ids. A range that is asked for again after a lost answer is left unused: no harm."""
        # On its default SQLite the service answers 500 "database is locked" when two clients ask at once.
        answer = self._service.ask("GET", f"/getid?range={count}&mode={mode}", busy={*BUSY_STATUSES, 500})
        content = answer.json()
        try:
            first, last = int(content["startIndex"]), int(content["endIndex"])
        except (KeyError, TypeError, ValueError):
            raise ServiceUnavailable(f"{self._service.name} gives no ids: {answer.message}") from None
        if answer.status != 200 or first < 0 or last - first + 1 != count:
            raise ServiceUnavailable(f"{self._service.name} gives no {count} ids: {answer.message}")
        return first


class PacificaPolicy(_Adapter):
    """The policy service whose ingest end point is ``url``; the user goes in the header ``auth_header``."""

    def __init__(self, url: str, auth_header: str) -> None:
        self._service = HttpService("the policy service", url)
        self._auth_header = auth_header

    def check(self, document: Document, user: str) -> None:
        """Ask whether ``user`` may ingest ``document``."""
        body = json.dumps(document.records).encode()
        answer = self._service.ask("POST", body=body, headers={**JSON, self._auth_header: user})
        if answer.is_success:
            return
        if 400 <= answer.status < 500:
            raise PolicyRefused(f"the policy refuses this bundle: {answer.message}")
        raise ServiceUnavailable(f"{self._service.name} at {self._service.url} fails: {answer.message}")


class PacificaArchive(_Adapter):
    """The archive interface at ``url``. One connection: the released service mixes up concurrent files."""

    def __init__(self, url: str) -> None:
        self._service = HttpService("the archive", url)
        self._unconfirmed: tuple[int, int] | None = None

    def require_room(self, total_bytes: int) -> None:
        """The archive interface cannot be asked; it answers or it does not."""
        self._service.ask("GET")

    def put(self, file_id: int, content: Content, *, replace: bool) -> None:
        """Send the file. After a try that failed, what it may have left is deleted first: an archive that does not
        run as root cannot overwrite its read-only files."""
        headers = {"Content-Length": str(content.size), "Content-Type": "application/octet-stream"}
        trouble = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(pause(attempt - 1))
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
                self._unconfirmed = (file_id, content.size)
                if content.size >= CONFIRM_FROM_BYTES:
                    self._confirm_or_delete(file_id)
                return
            trouble = answer.message
            if answer.status < 500 and answer.status not in BUSY_STATUSES:
                break
        raise ServiceUnavailable(f"the archive at {self._service.url} does not store {content.name!r}: {trouble}")

    def move(self, file_id: int, source: Path, content: Content, *, replace: bool) -> None:
        """Have the archive move the file from ``source``, a path that it and this machine both see."""
        body = json.dumps({"path": str(source)}).encode()
        answer = self._service.ask("PATCH", f"/{file_id}", body=body, headers=JSON, repeatable=False)
        if answer.status != 200:
            self._refuse(f"does not move {source}", answer)
        self._unconfirmed = (file_id, content.size)
        self._confirm()

    def give_back(self, file_id: int, source: Path) -> None:
        """Raise ArchiveError where the file was moved: the archive interface has no way to move it back."""
        if source.exists() or self.stat(file_id) is None:
            return
        raise ArchiveError(f"the archive keeps file {file_id}, moved from {source}: it has no way to move it back")

    def delete(self, file_id: int) -> None:
        """Delete the file; the archive answers 500 where there is none, so that its absence is what is checked."""
        answer = self._service.ask("DELETE", f"/{file_id}")
        if answer.status != 200 and self.stat(file_id) is not None:
            self._refuse(f"does not delete file {file_id}", answer)

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes. The archive answers 500 for a file that it does not hold."""
        answer = self._service.ask("HEAD", f"/{file_id}")
        length = answer.headers.get("X-Content-Length", "")
        return int(length) if answer.status == 204 and length.isdigit() else None

    def flush(self) -> None:
        """Look at the last file stored. What the archive reports stored is its own to keep durable."""
        self._confirm()

    def _confirm_or_delete(self, file_id: int) -> None:
        try:
            self._confirm()
        except ArchiveError:
            self.delete(file_id)
            raise

    def _confirm(self) -> None:
        if self._unconfirmed is None:
            return
        file_id, size = self._unconfirmed
        found = self.stat(file_id)
        if found != size:
            raise ArchiveError(f"the archive holds {found} bytes as file {file_id}, but {size} were sent")
        self._unconfirmed = None

    def _refuse(self, what: str, answer: Answer) -> NoReturn:
        raise ArchiveError(f"the archive at {self._service.url} {what}: {answer.message}")


class PacificaCatalog(_Adapter):
    """The metadata service whose ingest end point is ``url``."""

    def __init__(self, url: str) -> None:
        self._service = HttpService("the metadata service", url.rstrip("/").removesuffix("/ingest"))

    def check(self, document: Document) -> None:
        """Check the service's rules here: it keeps them only after the files are stored."""
        check_document(document)

    def record(self, document: Document, transaction_id: int, first_file_id: int) -> None:
        """Send the document. An answer that is lost, or that says the ids are in use, is settled by looking."""
        body = json.dumps(document.numbered(transaction_id, first_file_id)).encode()
        try:
            answer = self._service.ask("PUT", "/ingest", body=body, headers=JSON, repeatable=False)
            if answer.is_success:
                return
            trouble = answer.message
        except ServiceUnavailable as error:
            answer, trouble = None, str(error)
        if self._holds(document, transaction_id, first_file_id):
            return
        if answer is None or answer.status in BUSY_STATUSES:
            raise ServiceUnavailable(trouble)
        raise CatalogRefused(f"the metadata service refuses transaction {transaction_id}: {trouble}")

    def has(self, transaction_id: int) -> bool:
        """Whether the service holds the transaction."""
        return bool(self._list(f"/transactions?_id={transaction_id}"))

    def _holds(self, document: Document, transaction_id: int, first_file_id: int) -> bool:
        if not self.has(transaction_id):
            return False
        held = {record["_id"] for record in self._list(f"/files?transaction_id={transaction_id}")}
        return held == set(range(first_file_id, first_file_id + len(document.files)))

    def _list(self, path: str) -> list[dict[str, object]]:
        answer = self._service.ask("GET", path)
        content = answer.json()
        if answer.status != 200 or not isinstance(content, list):
            raise ServiceUnavailable(f"the metadata service at {self._service.url} fails: {answer.message}")
        return content

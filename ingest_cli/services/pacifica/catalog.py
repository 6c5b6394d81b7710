"""The catalogue of a Pacifica site: its metadata service."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from ...bundle.catalog_rules import check_document
from ...bundle.listed import HASH_TYPES
from ...bundle.metadata import Document, as_json
from ...errors import CatalogRefused, NotFindable, ServiceUnavailable
from ...settings import Endpoint
from ...text import quoted
from ..base import StoredFile
from ..query import FileQuery
from .adapter import RESENT_STATUSES, Adapter
from .http import JSON, TRIES, HttpService, NeverReached
from .search import FIRST_ONLY, SEARCH_SECONDS, Search, file_of

# So often a metadata service that answers a GET has to answer 500 to a document which then counts as refused.
REFUSALS = 2
# It takes 12 s for 10,000 files, and grows with their number; a slower machine, or a database that is busy, takes more.
WORK_SECONDS_A_FILE = 0.02
# So long a text its database takes.
MOST_CHARACTERS = 255


class PacificaCatalog(Adapter):
    """The metadata service whose ingest end point this is."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._service = HttpService("the metadata service", _without_ingest(endpoint))
        self._search = Search(self._list)

    def ping(self) -> str:
        """Say how quickly the service finds that there is no transaction 0."""
        return self._service.ping("GET", "/transactions?_id=0")

    def check(self, document: Document) -> None:
        """Check the service's rules here: it keeps them only after the files are stored."""
        check_document(document)
        for entry in document.files:
            for needed in ("ctime", "mtime"):
                if needed not in entry.record:
                    raise CatalogRefused(f"{quoted(entry.path)} has no {needed}, which the metadata service needs")
            _check_length(entry.name, entry.subdir, entry.mimetype)
        for key, value in document.key_values():
            _check_length(key, value)
        for _, key, value in document.file_key_values(0):
            _check_length(key, value)

    def record(self, document: Document, transaction_id: int, first_file_id: int, *, fence: int) -> None:
        """Send the document; whatever the answer is but success, look whether it went in before it is sent again.

        The service answers 500 to a document that it refuses, such as one of an unknown project, and while its own
        database is away. It counts as a refusal where the service answers a GET right after it, twice.
        """
        body = b"".join(as_json(document.numbered(transaction_id, first_file_id)))
        ids = range(first_file_id, first_file_id + len(document.files))
        refusals, work = 0, WORK_SECONDS_A_FILE * len(ids)
        for attempt in range(TRIES):
            try:
                answer = self._service.request(
                    "PUT", "/ingest", body=body, headers=JSON, repeatable=False, busy=(), work=work
                )
            except NeverReached:
                raise
            except ServiceUnavailable:
                # The service may still be working on the document: where it is not there, a later run looks again.
                if self._look(transaction_id, ids)[0]:
                    return
                raise
            if answer.is_success:
                return
            is_held, is_up = self._look(transaction_id, ids)
            if is_held:
                return
            refusals += is_up and answer.status == 500
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

    def find_file(self, file_id: int) -> tuple[int, StoredFile] | None:
        """The file of this id, after its transaction; None where the service holds none."""
        found = self._list(f"/files?_id={file_id}")
        return (int(found[0]["transaction"]), file_of(found[0])) if found else None

    def known_files(self, file_ids: Collection[int]) -> set[int]:
        """Those of the ids under which the service holds a file."""
        return {file_id for file_id in file_ids if self.find_file(file_id) is not None}

    def files(self, transaction_id: int) -> Iterator[StoredFile]:
        """The files of a transaction, by their ids."""
        rows = self._list(f"/files?transaction_id={transaction_id}", work=SEARCH_SECONDS)
        for row in sorted(rows, key=lambda row: int(row["_id"])):
            yield file_of(row)

    def metadata(self, transaction_id: int) -> list[dict[str, Any]]:
        """The records of a transaction's document that are not of files. The service keeps each key and value once."""
        (found,) = self._list(f"/transsip?_id={transaction_id}")
        records = [
            {"destinationTable": f"Transactions.{name}", "value": found[name]}
            for name in ("submitter", "project", "instrument")
        ]
        records += [
            {"destinationTable": "TransactionKeyValue", **self._pair(row)}
            for row in _in_order(self._list(f"/trans_key_value?transaction={transaction_id}"))
        ]
        files = self._list(f"/files?transaction_id={transaction_id}", work=SEARCH_SECONDS)
        for file in sorted(files, key=lambda row: int(row["_id"])):
            if file["metadata"]:
                records += [
                    {"destinationTable": "FileKeyValue", "file_id": file["_id"], **self._pair(row)}
                    for row in _in_order(self._list(f"/file_key_value?file={file['_id']}"))
                ]
        return records

    def given(self, transaction_id: int) -> None:
        """The service keeps what its tables hold, and nothing else."""

    def require_findable(self, query: FileQuery) -> None:
        """Raise NotFindable where the service would have to list all its files."""
        if not (query.name.strip("*") or query.hashsum or query.pairs or query.is_of_transactions):
            others = "--name, --hash, --key, --project, --instrument, --submitter, --since and --until"
            raise NotFindable(
                f"the metadata service cannot be asked for this without listing all its files: add {others}"
            )

    def find(self, query: FileQuery) -> Iterator[tuple[int, StoredFile]]:
        """The files that are asked for, each after its transaction."""
        self.require_findable(query)
        return self._search.find(query)

    def hashtypes(self) -> frozenset[str]:
        """The types of hash of which the service has a file."""
        return frozenset(name for name in HASH_TYPES if self._list(f"/files?hashtype={name}&{FIRST_ONLY}"))

    def _pair(self, row: dict[str, Any]) -> dict[str, str]:
        (key,), (value,) = self._list(f"/keys?_id={row['key']}"), self._list(f"/values?_id={row['value']}")
        return {"key": str(key["key"]), "value": str(value["value"])}

    def _look(self, transaction_id: int, ids: range) -> tuple[bool, bool]:
        """Whether the service holds the transaction, and whether it was up when asked; else it is waited for."""
        try:
            return self._holds(transaction_id, ids, tries=1), True
        except ServiceUnavailable:
            if self._service.hangs:
                raise
            return self._holds(transaction_id, ids, tries=TRIES), False

    def _holds(self, transaction_id: int, ids: range | None, *, tries: int) -> bool:
        if not self._list(f"/transactions?_id={transaction_id}", tries=tries):
            return False
        if ids is None:
            return True
        work = WORK_SECONDS_A_FILE * len(ids)
        listed = self._list(f"/files?transaction_id={transaction_id}", tries=tries, work=work)
        held = {int(record["_id"]) for record in listed}
        return held == set(ids)

    def _list(self, path: str, *, tries: int = TRIES, work: float = 0.0) -> list[dict[str, Any]]:
        # What is not there is an empty list: 500 is only answered while the service's own database is away.
        answer = self._service.request("GET", path, busy=RESENT_STATUSES, tries=tries, work=work)
        content = answer.json()
        if answer.status != 200 or not isinstance(content, list):
            raise ServiceUnavailable(f"the metadata service at {self._service.url} fails: {answer.message}")
        return content


def _in_order(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(pairs, key=lambda row: (int(row["key"]), int(row["value"])))


def _check_length(*texts: str) -> None:
    for text in texts:
        if len(text) > MOST_CHARACTERS:
            raise CatalogRefused(f"{quoted(text)} is too long: the metadata service takes {MOST_CHARACTERS} characters")


def _without_ingest(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, url=endpoint.url.rstrip("/").removesuffix("/ingest"))

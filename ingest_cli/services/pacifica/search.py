"""How the metadata service is asked for files: by what its tables have of each, a page at a time."""

from collections.abc import Iterator
from itertools import count
from typing import Any, Protocol
from urllib.parse import urlencode

from ..base import StoredFile
from ..query import FileQuery, in_utc, is_exact, widened

Row = dict[str, Any]

# For a list whose length is not known here.
SEARCH_SECONDS = 600.0
PAGE_ROWS = 10_000
# Its database takes a larger one for an error.
LARGEST_ID = 2**31 - 1
# Without it the service counts, for each row, what refers to it.
ROWS_ALONE = "recursion_depth=0"
FIRST_ONLY = f"{ROWS_ALONE}&page_number=1&items_per_page=1"


class List(Protocol):
    """Gets the rows at a path of the service."""

    def __call__(self, path: str, *, work: float) -> list[Row]:
        """The rows; ``work`` is how many seconds longer than usual they may take."""


class Search:
    """Finds files by what ``list_rows`` gets."""

    def __init__(self, list_rows: List) -> None:
        self._list = list_rows

    def find(self, query: FileQuery) -> Iterator[tuple[int, StoredFile]]:
        """The files that are asked for, each after its transaction."""
        holders = [self._holders(*pair) for pair in query.pairs]
        for row in self._rows(query, holders):
            transaction_id, file = int(row["transaction"]), file_of(row)
            has_pairs = all(transaction_id in transactions or file.file_id in files for transactions, files in holders)
            if has_pairs and file.answers(query):
                yield transaction_id, file

    def _rows(self, query: FileQuery, holders: list[tuple[set[int], set[int]]]) -> Iterator[Row]:
        """The rows of all files that are asked for, and perhaps of more."""
        asked = dict(_of_files(query))
        transactions = self._transactions(query) if query.is_of_transactions else None
        if holders:
            of_pair = self._transactions_of(*holders[0])
            transactions = of_pair if transactions is None else transactions & of_pair
        if transactions is None:
            yield from self._pages("files", asked)
            return
        for transaction_id in sorted(transactions):
            yield from self._pages("files", {**asked, "transaction_id": transaction_id})

    def _transactions(self, query: FileQuery) -> set[int]:
        if max(query.instrument or 0, query.submitter or 0) > LARGEST_ID:
            return set()
        rows = self._pages("transsip", dict(_of_transactions(query)))
        until = "" if query.until is None else in_utc(query.until, "T")
        return {int(row["_id"]) for row in rows if not until or str(row["created"]) < until}

    def _transactions_of(self, transactions: set[int], files: set[int]) -> set[int]:
        """These transactions, and those of these files."""
        rows = (row for file_id in sorted(files) for row in self._pages("files", {"_id": file_id}))
        return transactions | {int(row["transaction"]) for row in rows}

    def _holders(self, key: str, value: str) -> tuple[set[int], set[int]]:
        """The transactions and the files that have this key with this value."""
        keys, values = list(self._pages("keys", {"key": key})), self._pages("values", {"value": value})
        pairs = [{"key": one["_id"], "value": other["_id"]} for other in values for one in keys]
        transactions = {int(row["transaction"]) for pair in pairs for row in self._pages("trans_key_value", pair)}
        files = {int(row["file"]) for pair in pairs for row in self._pages("file_key_value", pair)}
        return transactions, files

    def _pages(self, table: str, asked: dict[str, Any]) -> Iterator[Row]:
        for number in count(1):
            page = urlencode({**asked, "page_number": number, "items_per_page": PAGE_ROWS})
            rows = self._list(f"/{table}?{page}&{ROWS_ALONE}", work=SEARCH_SECONDS)
            yield from rows
            if len(rows) < PAGE_ROWS:
                return


def file_of(row: Row) -> StoredFile:
    """The file of a row of the service's table."""
    return StoredFile(
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


def _of_files(query: FileQuery) -> Iterator[tuple[str, Any]]:
    if query.hashsum:
        yield "hashsum", query.hashsum
    if query.name:
        yield "name", query.name if is_exact(query.name) else like(query.name)
        yield "name_operator", "eq" if is_exact(query.name) else "like"


def _of_transactions(query: FileQuery) -> Iterator[tuple[str, Any]]:
    for name, value in (("project", query.project), ("instrument", query.instrument), ("submitter", query.submitter)):
        if value not in ("", None):
            yield name, value
    if query.since is not None:
        # It keeps whole seconds, and leaves out what is below one of a time that it is given.
        yield "created", in_utc(query.since, "T")
        yield "created_operator", "gte"


def like(glob: str) -> str:
    """The glob as PostgreSQL's LIKE has them."""
    escaped = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})
    signs = {"*": "%", "?": "_"}
    return "".join(signs[piece] if is_wild else piece.translate(escaped) for piece, is_wild in widened(glob))

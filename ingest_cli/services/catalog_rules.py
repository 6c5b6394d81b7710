"""The rules that Pacifica's metadata service keeps, checked before anything is stored."""

import hashlib
import re
from collections.abc import Hashable, Iterable

from ..errors import CatalogRefused
from ..metadata import Document, FileEntry

# "mulitpart" is how the service spells it; both are let through.
MIMETYPE = re.compile(
    r"(application|audio|font|example|image|message|model|mulitpart|multipart|text|video)/.+",
    re.DOTALL,
)
HEX = re.compile(r"[0-9a-f]*")
MAX_ID = 2**63 - 1


def check_document(document: Document) -> None:
    """Raise CatalogRefused for the first mimetype, hash, number or key that the catalogue would not take."""
    for entry in document.files:
        _check_file(entry)
    _refuse_repeated(document.key_values(), "TransactionKeyValue")
    _refuse_repeated(document.file_key_values(0), "FileKeyValue")
    _check_file_references(document)
    for table in ("Transactions.submitter", "Transactions.instrument"):
        if document.value(table) > MAX_ID:
            raise CatalogRefused(f"{table} is too large a number: {document.value(table)}")


def _check_file(entry: FileEntry) -> None:
    if not MIMETYPE.fullmatch(entry.mimetype):
        raise CatalogRefused(f"{entry.path!r}: {entry.mimetype!r} is no mimetype, such as 'text/plain'")
    length = 2 * hashlib.new(entry.hashtype, usedforsecurity=False).digest_size
    if len(entry.hashsum) != length or not HEX.fullmatch(entry.hashsum):
        raise CatalogRefused(
            f"{entry.path!r}: a {entry.hashtype} hashsum is {length} hex digits, not {entry.hashsum!r}"
        )


def _check_file_references(document: Document) -> None:
    listed = [entry.record["_id"] for entry in document.files if "_id" in entry.record]
    _refuse_repeated(listed, "Files._id")
    for record in document.records:
        if record["destinationTable"] == "FileKeyValue" and record["file_id"] not in listed:
            raise CatalogRefused(
                f"the FileKeyValue {record['key']!r} is of file {record['file_id']}, which is no '_id' in this document"
            )


def _refuse_repeated(keys: Iterable[Hashable], table: str) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            raise CatalogRefused(f"the {table} {key!r} is given twice")
        seen.add(key)

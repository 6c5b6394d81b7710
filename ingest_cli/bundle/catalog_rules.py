"""The rules that Pacifica's metadata service keeps, checked before anything is stored."""

import hashlib
import re
from collections.abc import Hashable, Iterable

from ..errors import CatalogRefused, OnProblem, raise_problem
from .metadata import HASH_TYPES, NUMBERED_TABLES, Document, FileEntry

# "mulitpart" is how the service spells it; both are let through.
MIMETYPE = re.compile(
    r"(application|audio|font|example|image|message|model|mulitpart|multipart|text|video)/.+",
    re.DOTALL,
)
HEX = re.compile(r"[0-9a-f]*")
MAX_ID = 2**63 - 1


def check_document(document: Document, on_problem: OnProblem = raise_problem) -> None:
    """Report, as CatalogRefused, every mimetype, hash, number and key that the catalogue would not accept.

    Hashes of unknown types are passed over: they are refused elsewhere.
    """
    for entry in document.files:
        _check_file(entry, on_problem)
    _check_repeated(document.key_values(), "TransactionKeyValue", on_problem)
    _check_repeated(document.file_key_values(0), "FileKeyValue", on_problem)
    _check_file_references(document, on_problem)
    for record in document.records:
        if record["destinationTable"] in NUMBERED_TABLES and record["value"] > MAX_ID:
            on_problem(CatalogRefused(f"{record['destinationTable']} is too large: {record['value']}"))


def _check_file(entry: FileEntry, on_problem: OnProblem) -> None:
    if not MIMETYPE.fullmatch(entry.mimetype):
        on_problem(CatalogRefused(f"{entry.path!r}: {entry.mimetype!r} is not a MIME type such as 'text/plain'"))
    if entry.hashtype not in HASH_TYPES:
        return
    length = 2 * hashlib.new(entry.hashtype, usedforsecurity=False).digest_size
    if len(entry.hashsum) != length or not HEX.fullmatch(entry.hashsum):
        on_problem(
            CatalogRefused(f"{entry.path!r}: a {entry.hashtype} hashsum is {length} hex digits, not {entry.hashsum!r}")
        )


def _check_file_references(document: Document, on_problem: OnProblem) -> None:
    listed = [entry.record["_id"] for entry in document.files if "_id" in entry.record]
    _check_repeated(listed, "Files._id", on_problem)
    known = set(listed)
    for record in document.records:
        if record["destinationTable"] == "FileKeyValue" and record["file_id"] not in known:
            problem = f"refers to file {record['file_id']}, which is not the '_id' of a file in the document"
            on_problem(CatalogRefused(f"the FileKeyValue {record['key']!r} {problem}"))


def _check_repeated(keys: Iterable[Hashable], table: str, on_problem: OnProblem) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            on_problem(CatalogRefused(f"the {table} {key!r} is given twice"))
        seen.add(key)

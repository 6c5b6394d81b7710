"""The rules that Pacifica's metadata service keeps, checked before anything is stored."""

import re
from collections.abc import Iterable

from ..errors import CatalogRefused, OnProblem, raise_problem
from ..text import quoted
from .metadata import Document

# "mulitpart" is how the service spells it; both are let through.
MIMETYPE = re.compile(
    r"(application|audio|font|example|image|message|model|mulitpart|multipart|text|video)/.*",
    re.DOTALL,
)


def check_document(document: Document, on_problem: OnProblem = raise_problem) -> None:
    """Report, as CatalogRefused, every mimetype, key and reference that the catalogue would not accept."""
    for entry in document.files:
        if not MIMETYPE.fullmatch(entry.mimetype):
            problem = f"{quoted(entry.mimetype)} is not a MIME type such as 'text/plain'"
            on_problem(CatalogRefused(f"{quoted(entry.path)}: {problem}"))
    _check_repeated(document.key_values(), "TransactionKeyValue", on_problem)
    _check_repeated(document.file_key_values(0), "FileKeyValue", on_problem)
    _check_file_references(document, on_problem)


def _check_file_references(document: Document, on_problem: OnProblem) -> None:
    _check_repeated(((number,) for _, number in document.given_ids()), "Files._id", on_problem)
    known: set[int] | None = None
    for file_id, key in document.file_references():
        if known is None:
            known = {number for _, number in document.given_ids()}
        if file_id not in known:
            problem = f"refers to file {file_id}, which is not the '_id' of a file in the document"
            on_problem(CatalogRefused(f"the FileKeyValue {quoted(key)} {problem}"))


def _check_repeated(keys: Iterable[tuple[int | str, ...]], table: str, on_problem: OnProblem) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            parts = ", ".join(map(quoted, key))
            on_problem(CatalogRefused(f"the {table} {parts if len(key) == 1 else f'({parts})'} is given twice"))
        seen.add(key)

"""The records of a bundle's document: of whom and what it is, and of each of its files."""

import json
import mimetypes
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..disk import open_regular
from ..errors import IngestError, PackError, SettingsError
from ..text import counted, listed, quoted
from .catalog_rules import MIMETYPE
from .metadata import Document
from .reader import DATA_FOLDER
from .tree import Entry

Record = dict[str, Any]
HASHTYPE = "sha1"
DEFAULT_MIMETYPE = "application/octet-stream"
SEPARATOR = ", "
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The first and the last second that a document can name: a clock that was wrong makes files of others.
FIRST = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
LAST = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)


def transaction_records(submitter: int, project: str, instrument: int, keys: Iterable[tuple[str, str]]) -> list[Record]:
    """The records that say of whom and what a bundle is."""
    values = {"submitter": submitter, "project": project, "instrument": instrument}
    records: list[Record] = [
        {"destinationTable": f"Transactions.{name}", "value": value} for name, value in values.items()
    ]
    records += [{"destinationTable": "TransactionKeyValue", "key": key, "value": value} for key, value in keys]
    return records


def read_template(path: Path) -> list[Record]:
    """The records of a JSON file, as `pack` takes them. Raises SettingsError."""
    try:
        with open_regular(path) as file:
            records = json.loads(file.read())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not JSON: {error}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise SettingsError(f"{path} is not a list of records")
    try:
        Document.parse(document_of(records))
    except IngestError as error:
        raise SettingsError(f"{path}: {error}") from error
    return records


def record_of(file: Entry, hashsum: str) -> Record:
    """The record of a file that hashes to ``hashsum``."""
    folder, _, name = file.name.rpartition("/")
    when = (EPOCH + timedelta(seconds=seconds_of(file))).isoformat().removesuffix("+00:00")
    return {
        "destinationTable": "Files",
        "name": name,
        "subdir": f"{DATA_FOLDER}{folder}".rstrip("/"),
        "size": file.found.st_size,
        "hashtype": HASHTYPE,
        "hashsum": hashsum,
        "mimetype": _type_by(".".join(name.lstrip(".").rsplit(".", 2)[1:])),
        "ctime": when,
        "mtime": when,
    }


@lru_cache(maxsize=1000)  # of many files, most end alike
def _type_by(ending: str) -> str:
    """The media type of files whose names have this ending: of more than two parts, none counts but the last two."""
    guessed = mimetypes.guess_type(f"file.{ending}")[0] or DEFAULT_MIMETYPE
    return guessed if MIMETYPE.fullmatch(guessed) else DEFAULT_MIMETYPE


def seconds_of(file: Entry) -> int:
    """When the file was modified, in seconds since 1970, or the nearest that a document can name."""
    return min(max(file.found.st_mtime_ns // 1_000_000_000, FIRST), LAST)


def odd_times(files: Iterable[Entry]) -> list[str]:
    """What a person may not expect of the times that the documents have of these files."""
    odd = [file.name for file in files if file.found.st_mtime_ns // 1_000_000_000 != seconds_of(file)]
    return [f"{counted(len(odd), 'file')} of a time before year 1 or after year 9999: {listed(odd)}"] if odd else []


def document_of(records: Iterable[Record]) -> bytes:
    """The document of these records, as JSON. Raises PackError where it is not text."""
    return b"".join(document_pieces(records))


def document_pieces(records: Iterable[Record]) -> Iterator[bytes]:
    """What `document_of` makes, in pieces."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    before = "["
    for record in records:
        try:
            yield f"{before}{encode(record)}".encode()
        except UnicodeEncodeError:
            raise PackError(f"not valid UTF-8: {quoted(record)}") from None
        before = SEPARATOR
    yield b"[]" if before == "[" else b"]"

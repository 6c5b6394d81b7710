"""The metadata document: parsed, checked, matched to files, numbered. Pure: it reads and writes nothing itself."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from ..errors import FileRefused, MetadataError, OnProblem, raise_problem
from ..text import counted
from .schema import record_problem

Record = dict[str, Any]

NUMBERED_TABLES = ("Transactions.submitter", "Transactions.instrument")
SINGLE_TABLES = ("Transactions.submitter", "Transactions.project", "Transactions.instrument")
DEFAULT_HASHTYPE = "sha1"
DEFAULT_MIMETYPE = "application/octet-stream"
# Guaranteed by hashlib on every platform, and of a fixed length (the shake functions are not).
HASH_TYPES = {name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")}
ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that the document lists.

    ``path`` is its name in the bundle, as ``data/sub/name``; ``subdir`` the folder without the leading ``data``;
    ``hashsum`` lower-case hex without a prefix; ``source`` its place on disk, in the document of a move.
    """

    record: Record
    path: str
    subdir: str
    size: int
    hashtype: str
    hashsum: str
    source: str | None

    @property
    def name(self) -> str:
        """The file's own name."""
        return str(self.record["name"])

    @property
    def mimetype(self) -> str:
        """The media type, ``application/octet-stream`` where the record has none."""
        return str(self.record.get("mimetype") or DEFAULT_MIMETYPE)

    def require_usable_hash(self) -> None:
        """Raise FileRefused where the hash's type is not one that can be computed here."""
        if self.hashtype not in HASH_TYPES:
            known = ", ".join(sorted(HASH_TYPES))
            raise FileRefused(
                f"{self.path!r}: cannot check a hash of type {self.hashtype!r}; the known types are {known}"
            )


@dataclass(frozen=True, slots=True)
class Document:
    """A checked metadata document. ``digest`` is the SHA-256 of its bytes, by which a bundle is known again."""

    records: list[Record]
    files: list[FileEntry]
    digest: str

    @classmethod
    def parse(cls, raw: bytes, on_problem: OnProblem = raise_problem) -> Self:
        """Parse and check the bytes of ``metadata.txt``. Raises MetadataError with the record concerned.

        Where ``on_problem`` does not raise, the document lacks the records that were reported to it. What is not a
        JSON list is raised in any case.
        """
        given = _load(raw)
        records, files = [], []
        for number, record in enumerate(given):
            try:
                _read_number(record)
                _check_shape(record, number)
                if record["destinationTable"] == "Files":
                    files.append(_entry(record, number))
                records.append(record)
            except MetadataError as error:
                on_problem(error)
        _check_whole(given, files, on_problem)
        return cls(records, files, hashlib.sha256(raw).hexdigest())

    @property
    def total_bytes(self) -> int:
        """The size of all listed files together, in bytes."""
        return sum(entry.size for entry in self.files)

    def value(self, table: str) -> Any:
        """The value of a record that the document holds once, such as ``Transactions.project``."""
        return next(record["value"] for record in self.records if record["destinationTable"] == table)

    def key_values(self) -> Iterator[tuple[str, str]]:
        """The (key, value) pairs of the transaction."""
        for record in self.records:
            if record["destinationTable"] == "TransactionKeyValue":
                yield record["key"], record["value"]

    def file_key_values(self, first_file_id: int) -> Iterator[tuple[int, str, str]]:
        """The (file id, key, value) triples; a ``file_id`` that names a Files record's ``_id`` follows its new id."""
        renumbered: dict[int, int] = {
            entry.record["_id"]: first_file_id + position
            for position, entry in enumerate(self.files)
            if "_id" in entry.record
        }
        for record in self.records:
            if record["destinationTable"] == "FileKeyValue":
                file_id: int = record["file_id"]
                yield renumbered.get(file_id, file_id), record["key"], record["value"]

    def numbered(self, transaction_id: int, first_file_id: int) -> list[Record]:
        """The list that a metadata service accepts: cleaned, with the transaction's and every file's id."""
        cleaned: list[Record] = [{"destinationTable": "Transactions._id", "value": transaction_id}]
        file_key_values = self.file_key_values(first_file_id)
        positions = iter(range(len(self.files)))
        for record in self.records:
            table = record["destinationTable"]
            if table == "Files":
                position = next(positions)
                cleaned.append(_cleaned_file(self.files[position], first_file_id + position))
            elif table == "FileKeyValue":
                cleaned.append({**record, "file_id": next(file_key_values)[0]})
            elif table != "Transactions._id":
                cleaned.append(record)
        return cleaned


def _load(raw: bytes) -> list[Any]:
    try:
        text = raw.decode("utf-8-sig")
        records = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise MetadataError(f"the metadata is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise MetadataError("the metadata is nested too deeply") from None
    except ValueError as error:
        raise MetadataError(f"the metadata is not JSON: {error}") from None
    if not isinstance(records, list):
        raise MetadataError("the metadata is not a list of records")
    if b"\\u" in raw:
        _refuse_unstorable_text(raw, records)
    return records


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_unstorable_text(raw: bytes, records: list[Any]) -> None:
    if ESCAPED_NUL.search(raw):
        raise MetadataError("the metadata contains a NUL character")
    try:
        json.dumps(records, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise MetadataError("the metadata contains half of a surrogate pair, which is not valid text") from None
    except RecursionError:
        raise MetadataError("the metadata is nested too deeply") from None


def _read_number(record: Any) -> None:
    """pacifica-cli sends an id that was given to it on its command line as a string."""
    if isinstance(record, dict) and record.get("destinationTable") in NUMBERED_TABLES:
        value = record.get("value")
        if isinstance(value, str) and len(value) < 19 and value.isascii() and value.isdigit():
            record["value"] = int(value)


def _check_shape(record: Any, number: int) -> None:
    problem = record_problem(record, "record") or record_problem(record, record["destinationTable"])
    if problem is not None:
        raise MetadataError(f"metadata record {number}: {problem}")


def _check_whole(given: list[Any], files: list[FileEntry], on_problem: OnProblem) -> None:
    # A record that is wrong was reported; it is there all the same.
    names = (record.get("destinationTable") for record in given if isinstance(record, dict))
    tables = Counter(name for name in names if isinstance(name, str))
    for table in SINGLE_TABLES:
        if tables[table] != 1:
            on_problem(
                MetadataError(f"the metadata has {counted(tables[table], f'{table!r} record')}, but needs exactly one")
            )
    seen = set()
    for entry in files:
        if entry.path in seen:
            on_problem(MetadataError(f"the metadata lists {entry.path!r} twice"))
        seen.add(entry.path)


def _entry(record: Record, number: int) -> FileEntry:
    folders = [part for part in record.get("subdir", "").split("/") if part not in ("", ".")]
    if folders and folders[0] == "data":
        del folders[0]
    name = record["name"]
    if ".." in folders or "/" in name or name in (".", ".."):
        raise MetadataError(
            f"metadata record {number}: the name {name!r} in {record.get('subdir', '')!r} points outside the bundle"
        )
    hashtype, hashsum = _hash(record, number)
    return FileEntry(
        record=record,
        path="/".join(["data", *folders, name]),
        subdir="/".join(folders),
        size=int(record["size"]),
        hashtype=hashtype,
        hashsum=hashsum,
        source=record.get("source"),
    )


def _hash(record: Record, number: int) -> tuple[str, str]:
    prefix, colon, digits = record["hashsum"].strip().rpartition(":")
    hashtype = str(record.get("hashtype") or prefix or DEFAULT_HASHTYPE).lower()
    if colon and prefix.lower() != hashtype:
        raise MetadataError(
            f"metadata record {number}: the hashsum is {prefix + ':…'!r}, but the hashtype is {hashtype!r}"
        )
    return hashtype, digits.lower()


def _cleaned_file(entry: FileEntry, file_id: int) -> Record:
    return {
        **entry.record,
        "_id": file_id,
        "subdir": entry.subdir,
        "hashtype": entry.hashtype,
        "hashsum": entry.hashsum,
        "mimetype": entry.mimetype,
    }

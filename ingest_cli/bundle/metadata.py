"""The metadata document: parsed, checked, matched to files, numbered. Pure: it reads and writes nothing itself."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, NoReturn, Self

from ..errors import FileRefused, MetadataError, OnProblem, raise_problem
from ..text import counted, quoted
from .bounds import as_utf8, require_bounded
from .schema import record_problem, surely_holds

Record = dict[str, Any]
Readers = dict[str, dict[str, Callable[[Any], Any]]]

SINGLE_TABLES = ("Transactions.submitter", "Transactions.project", "Transactions.instrument")
# What the metadata service's tables have of each record.
COLUMNS = {
    **{table: {"destinationTable", "value"} for table in ("Transactions._id", *SINGLE_TABLES)},
    "TransactionKeyValue": {"destinationTable", "key", "value"},
    "FileKeyValue": {"destinationTable", "file_id", "key", "value"},
    "Files": {"destinationTable", "_id", "name", "subdir", "size", "hashtype", "hashsum", "mimetype", "ctime", "mtime"},
}
DEFAULT_HASHTYPE = "sha1"
DEFAULT_MIMETYPE = "application/octet-stream"
# Guaranteed by hashlib on every platform, and of a fixed length (the shake functions are not).
HASH_TYPES = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_"))
HEX = re.compile(r"[0-9a-f]*")
# As long as a name in a tar may be.
MAX_PATH_BYTES = 4096
# No database takes more, neither as an id nor as a size; the schema has it too.
MAX_ID = 2**63 - 1
# They take a fraction of a second.
RECORDS_AT_ONCE = 10_000
# To say what is wrong with a record takes long.
MOST_EXPLAINED = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that the document lists.

    ``path`` is its name in the bundle, as ``data/sub/name``; ``subdir`` the folder without the leading ``data``;
    ``hashsum`` lower-case hex without a prefix, where it is usable; ``source`` its place on disk, in the document of a
    move.
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
        """Raise FileRefused where the hash is of a type that cannot be computed here, or is not a hash of its type."""
        if self.hashtype not in HASH_TYPES:
            known = ", ".join(sorted(HASH_TYPES))
            raise FileRefused(
                f"{quoted(self.path)}: cannot check a hash of type {quoted(self.hashtype)}; the known types are {known}"
            )
        if not self.hashsum:
            raise FileRefused(f"{quoted(self.path)} has no hashsum")
        digits = _hex_digits(self.hashtype)
        if len(self.hashsum) != digits or not HEX.fullmatch(self.hashsum):
            raise FileRefused(
                f"{quoted(self.path)}: a {self.hashtype} hashsum is {digits} hex digits, not {quoted(self.hashsum)}"
            )


@dataclass(frozen=True, slots=True)
class Document:
    """A checked metadata document. ``digest`` is the SHA-256 of its bytes, by which a bundle is known again.

    ``records`` are as the metadata service reads them: ids and sizes are numbers, keys and values are text. ``given``
    are the same with keys and values as the client wrote them, which is how a service gets them.
    """

    records: list[Record]
    given: list[Record]
    files: list[FileEntry]
    digest: str

    @classmethod
    def parse(cls, raw: bytes, on_problem: OnProblem = raise_problem, require: Callable[[], None] = _nothing) -> Self:
        """Parse and check the bytes of ``metadata.txt``. Raises MetadataError with the record concerned.

        Where ``on_problem`` does not raise, the document lacks the records that were reported to it. What is not a
        JSON list, or is too large a one, is raised in any case. ``require`` is called now and then, and may raise.
        """
        return cls.of(_load(raw), hashlib.sha256(raw).hexdigest(), on_problem, require)

    @classmethod
    def of(
        cls,
        listed: list[Any],
        digest: str = "",
        on_problem: OnProblem = raise_problem,
        require: Callable[[], None] = _nothing,
    ) -> Self:
        """Check what a document lists, as `parse` does."""
        document, problems = cls([], [], [], digest), 0
        for number, record in enumerate(listed):
            if number % RECORDS_AT_ONCE == 0:
                require()
            try:
                read, given = _read(record, number, is_explained=problems < MOST_EXPLAINED)
                if read["destinationTable"] == "Files":
                    document.files.append(_entry(read, number))
            except MetadataError as error:
                problems += 1
                on_problem(error)
            else:
                document.records.append(read)
                document.given.append(given)
        _check_whole(listed, document, on_problem)
        return document

    @property
    def total_bytes(self) -> int:
        """The size of all listed files together, in bytes."""
        return sum(entry.size for entry in self.files)

    @property
    def is_plain(self) -> bool:
        """Whether each record is as the metadata service keeps it: of its tables, with their columns and types."""
        return self.given == self.records and all(map(_is_plain, self.records))

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
        for record in self.given:
            table = record["destinationTable"]
            if table == "Files":
                position = next(positions)
                cleaned.append(_cleaned_file(record, self.files[position], first_file_id + position))
            elif table == "FileKeyValue":
                cleaned.append({**record, "file_id": next(file_key_values)[0]})
            elif table != "Transactions._id":
                cleaned.append(record)
        return cleaned


def _is_plain(record: Record) -> bool:
    return record.keys() <= COLUMNS.get(record["destinationTable"], set())


def _load(raw: bytes) -> list[Any]:
    raw = as_utf8(raw)
    require_bounded(raw)
    try:
        records = json.loads(
            raw.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise MetadataError(f"the metadata is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise MetadataError(f"the metadata is not JSON: {error}") from None
    except ValueError:
        raise MetadataError("the metadata holds a number of thousands of digits") from None
    if not isinstance(records, list):
        raise MetadataError("the metadata is not a list of records")
    _refuse_unstorable_text(raw, records)
    return records


def _object(pairs: list[tuple[str, Any]]) -> Record:
    """The object of these keys and values. Which of two values of a key counts, readers of JSON do not agree upon."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise MetadataError(f"the metadata has an object with two values of {quoted(key)}")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise MetadataError(f"the metadata holds the number {quoted(number)}, which is out of range")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise MetadataError(f"the metadata is not JSON: {name} is not a JSON number")


def _refuse_unstorable_text(raw: bytes, records: list[Any]) -> None:
    if rb"\u0000" in raw and ESCAPED_NUL.search(raw):
        raise MetadataError("the metadata contains a NUL character")
    if ESCAPED_SURROGATE.search(raw) is None:
        return
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for number, record in enumerate(records):
        try:
            encode(record).encode()
        except UnicodeEncodeError:
            raise MetadataError(
                f"metadata record {number} contains half of a surrogate pair, which is not valid text"
            ) from None


def _read(record: Any, number: int, *, is_explained: bool) -> tuple[Record, Record]:
    """The record as the metadata service reads it, and as the service gets it: the same, for nearly every client."""
    if surely_holds(record):
        return record, record
    try:
        given = _converted(record, NUMBERS)
        read = _converted(given, TEXTS)
    except ValueError as error:
        raise MetadataError(f"metadata record {number}: {error}") from None
    if not surely_holds(read):
        problem = record_problem(read) if is_explained else "it does not have the form of its table"
        if problem is not None:
            raise MetadataError(f"metadata record {number}: {problem}")
    return read, given


def _converted(record: Any, readers: Readers) -> Any:
    table = record.get("destinationTable") if isinstance(record, dict) else None
    if not isinstance(table, str) or table not in readers:
        return record
    return {**record, **{key: read(record[key]) for key, read in readers[table].items() if key in record}}


def _number(value: Any) -> Any:
    """A whole number where the value is one, as text or as 12.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) < 40:
        digits = value.strip(" ")
        if digits.isascii() and digits.isdigit():
            return int(digits)
    return value


def _text(value: Any) -> Any:
    """The text that the service makes of the value; a list or nothing at all breaks it, and is left as it is."""
    return value if value is None or isinstance(value, str | list) else str(value)


def _word(value: Any) -> str:
    return "" if value is None else str(value)


def _time(value: Any) -> Any:
    """The time that the service makes of seconds since 1970."""
    if type(value) is not int:
        return value
    try:
        return (EPOCH + timedelta(seconds=value)).replace(tzinfo=None).isoformat()
    except OverflowError:
        raise ValueError(f"the time {quoted(value)} is not within the years 1 to 9999") from None


NUMBERS: Readers = {
    "Transactions._id": {"value": _number},
    "Transactions.submitter": {"value": _number},
    "Transactions.instrument": {"value": _number},
    "Files": {"_id": _number, "size": _number},
    "FileKeyValue": {"file_id": _number},
}
# What is wrong with a hash is found where it is used.
TEXTS: Readers = {
    "Transactions.project": {"value": _text},
    "TransactionKeyValue": {"key": _text, "value": _text},
    "FileKeyValue": {"key": _text, "value": _text},
    "Files": {"hashtype": _word, "hashsum": _word, "ctime": _time, "mtime": _time},
}


def _check_whole(listed: list[Any], document: Document, on_problem: OnProblem) -> None:
    # A record that is wrong was reported; it is there all the same.
    names = (record.get("destinationTable") for record in listed if isinstance(record, dict))
    tables = Counter(name for name in names if isinstance(name, str))
    for table in SINGLE_TABLES:
        if tables[table] != 1:
            on_problem(
                MetadataError(f"the metadata has {counted(tables[table], f'{table!r} record')}, but needs exactly one")
            )
    seen = set()
    for entry in document.files:
        if entry.path in seen:
            on_problem(MetadataError(f"the metadata lists {quoted(entry.path)} twice"))
        seen.add(entry.path)
    total = document.total_bytes
    if total > MAX_ID:
        on_problem(MetadataError(f"the metadata lists {total:,} bytes in all; the limit is {MAX_ID:,}"))


def _entry(record: Record, number: int) -> FileEntry:
    name, subdir, source = record["name"], record.get("subdir", ""), record.get("source")
    folder = _folder(subdir)
    if folder is None or "/" in name or name in (".", ".."):
        raise MetadataError(
            f"metadata record {number}: the name {quoted(name)} in {quoted(subdir)} points outside the bundle"
        )
    path = f"data/{folder}/{name}" if folder else f"data/{name}"
    if _is_long(path) or (source is not None and _is_long(source)):
        limit = counted(MAX_PATH_BYTES, "byte")
        raise MetadataError(f"metadata record {number}: a path of {quoted(name)} is longer than {limit}")
    hashtype, hashsum = _hash(record)
    return FileEntry(
        record=record,
        path=path,
        subdir=folder,
        size=record["size"],
        hashtype=hashtype,
        hashsum=hashsum,
        source=source,
    )


def _is_long(path: str) -> bool:
    # No character has more than four bytes.
    return len(path) > MAX_PATH_BYTES // 4 and len(path.encode()) > MAX_PATH_BYTES


@lru_cache(maxsize=1)  # the next file mostly lies in the same folder
def _folder(subdir: str) -> str | None:
    """The folder below ``data``; None where it would be outside."""
    folders = [part for part in subdir.split("/") if part not in ("", ".")]
    if folders and folders[0] == "data":
        del folders[0]
    return None if ".." in folders else "/".join(folders)


def _hash(record: Record) -> tuple[str, str]:
    """The type of a file's hash, and its digits; a prefix that is not the type stays, and makes it unusable."""
    hashsum = record.get("hashsum", "").strip().lower()
    prefix, _, digits = hashsum.rpartition(":")
    hashtype = record.get("hashtype", prefix or DEFAULT_HASHTYPE).lower()
    return hashtype, digits if prefix == hashtype else hashsum


@cache
def _hex_digits(hashtype: str) -> int:
    return 2 * hashlib.new(hashtype, usedforsecurity=False).digest_size


def _cleaned_file(record: Record, entry: FileEntry, file_id: int) -> Record:
    return {
        **record,
        "_id": file_id,
        "subdir": entry.subdir,
        "hashtype": entry.hashtype,
        "hashsum": entry.hashsum,
        "mimetype": entry.mimetype,
    }

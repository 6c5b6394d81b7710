"""The metadata document: parsed, checked, matched to files, numbered. Pure: it reads and writes nothing itself."""

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Any, NamedTuple, Self, overload

from ..errors import FileRefused, MetadataError, OnProblem, raise_problem
from ..text import counted, quoted
from .compact import CompactList
from .json_list import JsonList
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
# So many threads may go through the files together, each near the border of two blocks of them.
BLOCKS_AT_HAND = 4
# The next file mostly lies in one of the folders of those before it.
FOLDERS_AT_HAND = 200
# As long as a document may be whose records are kept as they are.
LOOSE_CHARACTERS = 8 << 20


def _nothing() -> None:
    pass


class FileEntry(NamedTuple):
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


class FileEntries(Sequence[FileEntry]):
    """The files that a document lists, of which each is made anew when it is looked at; so is a slice, which is short.

    Those that are near one another are had quickly, also by several threads at once.
    """

    def __init__(self, records: CompactList[Record], positions: range | None = None) -> None:
        self._records, self._positions = records, positions
        self._block = lru_cache(BLOCKS_AT_HAND)(lambda number: [_entry_of(record) for record in records.block(number)])

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> FileEntry: ...
    @overload
    def __getitem__(self, index: slice) -> "FileEntries": ...
    def __getitem__(self, index: int | slice) -> "FileEntry | FileEntries":
        if isinstance(index, slice):
            return FileEntries(self._records, self._range[index])
        number, place = self._records.place(self._range[index])
        return self._block(number)[place]

    def __iter__(self) -> Iterator[FileEntry]:
        if self._positions is None:
            return chain.from_iterable(map(self._block, range(self._records.blocks)))
        return map(self.__getitem__, range(len(self)))

    @property
    def _range(self) -> range:
        return range(len(self._records)) if self._positions is None else self._positions


@dataclass(frozen=True, slots=True)
class RecordList(Collection[Record]):
    """Records that are made anew while one goes through them: so many as there are, from a new ``start`` each time."""

    start: Callable[[], Iterator[Record]]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Record]:
        return self.start()

    def __contains__(self, record: object) -> bool:
        return any(record == other for other in self)


class Document:
    """A checked metadata document. ``digest`` is the SHA-256 of its bytes, by which a bundle is known again.

    It may list very many files: it holds its records compressed. ``files`` are those that it lists, ``total_bytes``
    their size together, ``is_plain`` whether each record is as the metadata service keeps it: of its tables, with their
    columns and types.
    """

    def __init__(self) -> None:
        self.digest = ""
        self.total_bytes = 0
        self.is_plain = True
        self._of_files: CompactList[Record] = CompactList()
        self._others: CompactList[Record] = CompactList()
        # In the order of the document: whether a record is of a file.
        self._order = bytearray()
        # The records that the client wrote otherwise than they are read, with their places in that order.
        self._as_written: CompactList[tuple[int, Record]] = CompactList()
        self.files = FileEntries(self._of_files)

    @classmethod
    def parse(
        cls,
        raw: bytes | Iterable[bytes],
        on_problem: OnProblem = raise_problem,
        require: Callable[[], None] = _nothing,
    ) -> Self:
        """Parse and check the bytes of ``metadata.txt``, which may come in pieces, so that they are never in memory
        together. Raises MetadataError with the record concerned.

        Where ``on_problem`` does not raise, the document lacks the records that were reported to it. What is not a
        JSON list, or is too large a one, is raised in any case, perhaps after what was wrong before it. ``require`` is
        called now and then, and may raise.
        """
        document, digest = cls(), hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for piece in [raw] if isinstance(raw, bytes) else raw:
                digest.update(piece)
                yield piece

        document._take(JsonList(hashed(), document._spare), on_problem, require)
        document.digest = digest.hexdigest()
        return document

    @classmethod
    def of(
        cls, listed: Iterable[Any], on_problem: OnProblem = raise_problem, require: Callable[[], None] = _nothing
    ) -> Self:
        """Check what a document lists, as `parse` does."""
        document = cls()
        document._take(listed, on_problem, require)
        return document

    @property
    def records(self) -> RecordList:
        """The records as the metadata service reads them: ids and sizes are numbers, keys and values are text."""
        return RecordList(self._iterate, len(self._order))

    @property
    def given(self) -> RecordList:
        """The records with keys and values as the client wrote them, which is how a service gets them."""
        return RecordList(self._iterate_given, len(self._order))

    def value(self, table: str) -> Any:
        """The value of a record that the document holds once, such as ``Transactions.project``."""
        return next(record["value"] for record in self._others if record["destinationTable"] == table)

    def key_values(self) -> Iterator[tuple[str, str]]:
        """The (key, value) pairs of the transaction."""
        for record in self._others:
            if record["destinationTable"] == "TransactionKeyValue":
                yield record["key"], record["value"]

    def file_key_values(self, first_file_id: int) -> Iterator[tuple[int, str, str]]:
        """The (file id, key, value) triples; a ``file_id`` that names a Files record's ``_id`` follows its new id."""
        renumbered: dict[int, int] | None = None
        for record in self._others:
            if record["destinationTable"] == "FileKeyValue":
                if renumbered is None:
                    renumbered = {number: first_file_id + position for position, number in self.given_ids()}
                file_id: int = record["file_id"]
                yield renumbered.get(file_id, file_id), record["key"], record["value"]

    def file_references(self) -> Iterator[tuple[int, str]]:
        """The ``file_id`` and the key of each value of a file."""
        for record in self._others:
            if record["destinationTable"] == "FileKeyValue":
                yield record["file_id"], record["key"]

    def given_ids(self) -> Iterator[tuple[int, int]]:
        """The positions of the files that have an ``_id``, each with it."""
        for position, record in enumerate(self._of_files):
            if "_id" in record:
                yield position, record["_id"]

    def numbered(self, transaction_id: int, first_file_id: int) -> Iterator[Record]:
        """The list that a metadata service accepts: cleaned, with the transaction's and every file's id."""
        yield {"destinationTable": "Transactions._id", "value": transaction_id}
        file_key_values = self.file_key_values(first_file_id)
        files = enumerate(self.files, first_file_id)
        for record in self.given:
            table = record["destinationTable"]
            if table == "Files":
                file_id, entry = next(files)
                yield _cleaned_file(record, entry, file_id)
            elif table == "FileKeyValue":
                yield {**record, "file_id": next(file_key_values)[0]}
            elif table != "Transactions._id":
                yield record

    def _take(self, listed: Iterable[Any], on_problem: OnProblem, require: Callable[[], None]) -> None:
        problems = 0
        # Of all, for a record that is wrong was reported, and is there all the same.
        tables: Counter[str] = Counter()
        paths = array("q")
        for number, record in enumerate(listed):
            if number % RECORDS_AT_ONCE == 0:
                require()
            try:
                tables[_table_of(record)] += 1
                read, given = _read(record, number, is_explained=problems < MOST_EXPLAINED)
                if read["destinationTable"] == "Files":
                    entry = _entry(read, number)
                    paths.append(hash(entry.path))
                    self.total_bytes += entry.size
            except MetadataError as error:
                problems += 1
                on_problem(error)
            else:
                self._append(read, given)
        self._check_tables(tables, on_problem)
        self._check_paths(paths, on_problem)
        if self.total_bytes > MAX_ID:
            on_problem(MetadataError(f"the metadata lists {self.total_bytes:,} bytes in all; the limit is {MAX_ID:,}"))

    def _append(self, read: Record, given: Record) -> None:
        is_of_file = read["destinationTable"] == "Files"
        if given is not read and given != read:
            self._as_written.append((len(self._order), given))
            self.is_plain = False
        self.is_plain = self.is_plain and _is_plain(read)
        self._order.append(is_of_file)
        (self._of_files if is_of_file else self._others).append(read)

    def _spare(self, characters: int) -> None:
        """Spare memory, once so many characters have been read."""
        if characters < LOOSE_CHARACTERS:
            return
        for records in (self._of_files, self._others, self._as_written):
            records.compress()

    def _check_tables(self, tables: Counter[str], on_problem: OnProblem) -> None:
        for table in SINGLE_TABLES:
            if tables[table] != 1:
                found = counted(tables[table], f"{table!r} record")
                on_problem(MetadataError(f"the metadata has {found}, but needs exactly one"))

    def _check_paths(self, hashes: "array[int]", on_problem: OnProblem) -> None:
        """Report the paths that are listed more than once. They are looked at where two have the same of ``hashes``."""
        suspects = {one for one, other in pairwise(sorted(hashes)) if one == other}
        if not suspects:
            return
        seen = set()
        for value, entry in zip(hashes, self.files, strict=True):
            if value in suspects:
                if entry.path in seen:
                    on_problem(MetadataError(f"the metadata lists {quoted(entry.path)} twice"))
                seen.add(entry.path)

    def _iterate(self) -> Iterator[Record]:
        of_files, others = iter(self._of_files), iter(self._others)
        for is_of_file in self._order:
            yield next(of_files if is_of_file else others)

    def _iterate_given(self) -> Iterator[Record]:
        as_written = iter(self._as_written)
        place, written = next(as_written, (-1, {}))
        for position, record in enumerate(self._iterate()):
            if position == place:
                yield written
                place, written = next(as_written, (-1, {}))
            else:
                yield record


def as_json(records: Iterable[Record]) -> Iterator[bytes]:
    """The document of these records in JSON, in pieces."""
    encode = json.JSONEncoder().encode
    separator = "["
    for record in records:
        yield f"{separator}{encode(record)}".encode()
        separator = ", "
    yield b"[]" if separator == "[" else b"]"


def _is_plain(record: Record) -> bool:
    return record.keys() <= COLUMNS.get(record["destinationTable"], set())


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
    table = _table_of(record)
    if table not in readers:
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


def _table_of(record: Any) -> str:
    """The name of its table, and none where it has none that is a name."""
    table = record.get("destinationTable") if isinstance(record, dict) else None
    return table if isinstance(table, str) else ""


def _entry(record: Record, number: int) -> FileEntry:
    """The file of a record. Raises MetadataError where it would lie outside of the bundle, or its path is too long."""
    name, subdir, source = record["name"], record.get("subdir", ""), record.get("source")
    if _folder(subdir) is None or "/" in name or name in (".", ".."):
        raise MetadataError(
            f"metadata record {number}: the name {quoted(name)} in {quoted(subdir)} points outside the bundle"
        )
    entry = _entry_of(record)
    if _is_long(entry.path) or (source is not None and _is_long(source)):
        limit = counted(MAX_PATH_BYTES, "byte")
        raise MetadataError(f"metadata record {number}: a path of {quoted(name)} is longer than {limit}")
    return entry


def _entry_of(record: Record) -> FileEntry:
    """The file of a record that was checked."""
    folder = _folder(record.get("subdir", "")) or ""
    path = f"data/{folder}/{record['name']}" if folder else f"data/{record['name']}"
    hashtype, hashsum = _hash(record)
    return FileEntry(record, path, folder, record["size"], hashtype, hashsum, record.get("source"))


def _is_long(path: str) -> bool:
    # No character has more than four bytes.
    return len(path) > MAX_PATH_BYTES // 4 and len(path.encode()) > MAX_PATH_BYTES


@lru_cache(maxsize=FOLDERS_AT_HAND)
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

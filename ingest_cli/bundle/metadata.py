"""The metadata document: parsed, checked, matched to files, numbered. Pure: it reads and writes nothing itself."""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from ..errors import MetadataError, OnProblem, raise_problem
from ..text import counted, quoted
from .compact import CompactList
from .json_list import JsonList
from .listed import FileEntries, cleaned, entry_of
from .values import SINGLE_TABLES, Record, is_plain, read_record, table_of

# No database takes more, neither as an id nor as a size; the schema has it too.
MAX_ID = 2**63 - 1
# They take a fraction of a second.
RECORDS_AT_ONCE = 10_000
# To say what is wrong with a record takes long.
MOST_EXPLAINED = 1000
# As long as a document may be whose records are kept as they are.
LOOSE_CHARACTERS = 8 << 20


def _nothing() -> None:
    pass


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
                yield cleaned(record, entry, file_id)
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
                tables[table_of(record)] += 1
                read, given = read_record(record, number, is_explained=problems < MOST_EXPLAINED)
                if read["destinationTable"] == "Files":
                    entry = entry_of(read, number)
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
        self.is_plain = self.is_plain and is_plain(read)
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

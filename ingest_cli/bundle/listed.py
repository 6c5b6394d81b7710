"""The files that a document lists: where each lies in the bundle, and what it must hash to."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import NamedTuple, overload

from ..errors import FileRefused, MetadataError
from ..text import counted, quoted
from .compact import CompactList
from .values import Record

DEFAULT_HASHTYPE = "sha1"
DEFAULT_MIMETYPE = "application/octet-stream"
# Guaranteed by hashlib on every platform, and of a fixed length (the shake functions are not).
HASH_TYPES = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_"))
HEX = re.compile(r"[0-9a-f]*")
# As long as a name in a tar may be.
MAX_PATH_BYTES = 4096
# So many threads may go through the files together, each near the border of two blocks of them.
BLOCKS_AT_HAND = 4
# The next file mostly lies in one of the folders of those before it.
FOLDERS_AT_HAND = 200


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
        self._block = lru_cache(BLOCKS_AT_HAND)(lambda number: [_entry(record) for record in records.block(number)])

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


def entry_of(record: Record, number: int) -> FileEntry:
    """The file of a record. Raises MetadataError where it would lie outside of the bundle, or its path is too long."""
    name, subdir, source = record["name"], record.get("subdir", ""), record.get("source")
    if _folder(subdir) is None or "/" in name or name in (".", ".."):
        raise MetadataError(
            f"metadata record {number}: the name {quoted(name)} in {quoted(subdir)} points outside the bundle"
        )
    entry = _entry(record)
    if _is_long(entry.path) or (source is not None and _is_long(source)):
        limit = counted(MAX_PATH_BYTES, "byte")
        raise MetadataError(f"metadata record {number}: a path of {quoted(name)} is longer than {limit}")
    return entry


def cleaned(record: Record, entry: FileEntry, file_id: int) -> Record:
    """The record as a metadata service accepts it, with the id of its file."""
    return {
        **record,
        "_id": file_id,
        "subdir": entry.subdir,
        "hashtype": entry.hashtype,
        "hashsum": entry.hashsum,
        "mimetype": entry.mimetype,
    }


def _entry(record: Record) -> FileEntry:
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

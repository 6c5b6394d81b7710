"""Packs files and folders into a bundle that can be ingested; what could not be ingested is refused beforehand.

The tar is streamed: each file is hashed as it is read, so that ``metadata.txt`` comes last.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, cast

from ..disk import durable_write, explained
from ..errors import IngestError, PackError
from ..meter import NOBODY, Meter
from .alignment import AlignedInfo
from .catalog_rules import check_document
from .compact import CompactList
from .entries import Entries
from .gather import Gathered, gather, warnings_of
from .json_list import JsonList
from .metadata import Document
from .pack_rules import USUAL, PackRules, Reason
from .reader import DATA_FOLDER, METADATA_NAME
from .records import HASHTYPE, Record, document_pieces, odd_times, record_of, seconds_of
from .tree import NOTHING, Entry, Identity, identity_of
from .unchanged import UnchangedFile

# Where a file has not been hashed: the hash of no bytes.
NO_HASH = hashlib.new(HASHTYPE, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed: the number of files, and their bytes together; and what was left out.

    ``warnings`` say what a person may not expect of it.
    """

    files: int
    bytes: int
    left_out: Entries
    warnings: list[str]


def pack(
    paths: Sequence[Path],
    records: list[Record],
    out: IO[bytes],
    rules: PackRules = USUAL,
    *,
    own: Mapping[Identity, Reason] = NOTHING,
    meter: Meter = NOBODY,
) -> Packed:
    """Write the bundle of the files that `gather` finds to ``out``. ``records`` are the others of its document.

    Raises PackError, where possible before anything is written, FilesChanged where a file changes meanwhile,
    ResourceUnavailable, and OSError where ``out`` cannot be written.
    """
    with suppress(OSError):  # it may be no file
        own = {**own, identity_of(os.fstat(out.fileno())): Reason.ITSELF}
    return _write(plan(paths, records, rules, own).gathered, records, out, rules, meter)


def write_bundle(
    paths: Sequence[Path],
    records: list[Record],
    target: Path,
    rules: PackRules = USUAL,
    *,
    replace: bool = False,
    names: Sequence[str] | None = None,
    own: Mapping[Identity, Reason] = NOTHING,
    meter: Meter = NOBODY,
) -> Packed:
    """Pack into the file ``target``, which appears whole and durable or not at all. Raises as `pack` does.

    The files and folders have ``names`` as for `gather`.
    """
    with suppress(FileNotFoundError):
        own = {**own, identity_of(target.lstat()): Reason.ITSELF}
        if not replace:
            raise PackError(f"{target} already exists")
    # Before a file is made, which may be in one of the folders.
    planned = plan(paths, records, rules, own, names)
    try:
        with durable_write(target, mode=0o644, replace=replace) as out:
            return _write(planned.gathered, records, out, rules, meter)
    except FileExistsError as error:
        raise PackError(f"{target} already exists") from error
    except OSError as error:
        raise explained(error, f"cannot write {target}", PackError) from error


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be packed, and its document but for the hashes: those are of no file."""

    gathered: Gathered
    document: Document


def plan(
    paths: Sequence[Path],
    records: list[Record],
    rules: PackRules = USUAL,
    own: Mapping[Identity, Reason] = NOTHING,
    names: Sequence[str] | None = None,
) -> Plan:
    """Find what is to be packed, as `gather` does. Raises PackError too where that could not be ingested."""
    gathered = gather(paths, rules, own, names)
    # Of what is made here, nothing is lost in JSON.
    listed = chain(JsonList(document_pieces(records)), (record_of(file, NO_HASH) for file in gathered.files))
    try:
        document = Document.of(listed)
        check_document(document)
    except IngestError as error:
        raise PackError(f"the bundle could not be ingested: {error}") from error
    return Plan(gathered, document)


def _write(gathered: Gathered, records: list[Record], out: IO[bytes], rules: PackRules, meter: Meter) -> Packed:
    total_bytes = sum(file.found.st_size for file in gathered.files)
    meter.plan(len(gathered.files), total_bytes)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        added: CompactList[Record] = CompactList()
        for file in gathered.files:
            added.append(_add(tar, file, meter, follow=rules.dereference))
        info = tarfile.TarInfo(METADATA_NAME)
        # It is written twice, since a million files make it too long to be kept.
        info.size, info.mode = sum(map(len, document_pieces(chain(records, added)))), 0o644
        tar.addfile(info, cast(IO[bytes], _Pieces(document_pieces(chain(records, added)))))
    warnings = [*warnings_of(gathered.left_out), *odd_times(gathered.files)]
    return Packed(len(gathered.files), total_bytes, gathered.left_out, warnings)


class _Pieces:
    """Bytes that come in pieces, as a file that is read to its end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""

    def read(self, size: int) -> bytes:
        """So many of the next bytes; less at the end."""
        read, length = [self._left], len(self._left)
        while length < size and (piece := next(self._pieces, b"")):
            read.append(piece)
            length += len(piece)
        data = b"".join(read)
        self._left = data[size:]
        return data[:size]


def _add(tar: tarfile.TarFile, file: Entry, meter: Meter, *, follow: bool) -> Record:
    info = AlignedInfo(f"{DATA_FOLDER}{file.name}")
    info.position = tar.offset
    info.size, info.mtime, info.mode = file.found.st_size, seconds_of(file), 0o644
    with UnchangedFile(file, HASHTYPE, follow=follow, observe=meter.advance) as content:
        content.require_unchanged()
        tar.addfile(info, cast(IO[bytes], content))
        # It would keep what it wrote of every file.
        tar.getmembers().clear()
        content.require_end()
        meter.advance(0, 1)
        return record_of(file, content.hashsum)

"""Packs files and folders into a bundle that can be ingested; what could not be ingested is refused beforehand.

The tar is streamed: each file is hashed as it is read, so that ``metadata.txt`` comes last.
"""

import hashlib
import io
import json
import mimetypes
import os
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from rich.filesize import decimal

from ..disk import durable_write, explained, open_regular
from ..errors import IngestError, PackError, SettingsError
from ..text import counted, listed, quoted
from .catalog_rules import MIMETYPE, check_document
from .gather import Gathered, gather, warnings_of
from .metadata import Document
from .pack_rules import USUAL, PackRules
from .reader import DATA_FOLDER, MAX_METADATA_BYTES, METADATA_NAME
from .tree import Entry, Identity, identity_of
from .unchanged import UnchangedFile

Record = dict[str, Any]
HASHTYPE = "sha1"
DEFAULT_MIMETYPE = "application/octet-stream"
SEPARATOR = b", "
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The first and the last second that a document can name: a clock that was wrong makes files of others.
FIRST = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
LAST = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed: the number of files, and their bytes together; and what was left out.

    ``warnings`` say what a person may not expect of it.
    """

    files: int
    bytes: int
    left_out: list[Entry]
    warnings: list[str]


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
        Document.parse(_document(records))
    except IngestError as error:
        raise SettingsError(f"{path}: {error}") from error
    return records


def pack(paths: Sequence[Path], records: list[Record], out: IO[bytes], rules: PackRules = USUAL) -> Packed:
    """Write the bundle of the files that `gather` finds to ``out``. ``records`` are the others of its document.

    Raises PackError, where possible before anything is written, FilesChanged where a file changes meanwhile,
    ResourceUnavailable, and OSError where ``out`` cannot be written.
    """
    itself = None
    with suppress(OSError):  # it may be no file
        itself = identity_of(os.fstat(out.fileno()))
    return _write(_plan(paths, records, rules, itself), records, out, rules)


def write_bundle(
    paths: Sequence[Path],
    records: list[Record],
    target: Path,
    rules: PackRules = USUAL,
    *,
    replace: bool = False,
    names: Sequence[str] | None = None,
) -> Packed:
    """Pack into the file ``target``, which appears whole and durable or not at all. Raises as `pack` does.

    The files and folders have ``names`` as for `gather`.
    """
    itself = None
    with suppress(FileNotFoundError):
        itself = identity_of(target.lstat())
        if not replace:
            raise PackError(f"{target} already exists")
    # Before a file is made, which may be in one of the folders.
    plan = _plan(paths, records, rules, itself, names)
    try:
        with durable_write(target, mode=0o644, replace=replace) as out:
            return _write(plan, records, out, rules)
    except FileExistsError as error:
        raise PackError(f"{target} already exists") from error
    except OSError as error:
        raise explained(error, f"cannot write {target}", PackError) from error


def _plan(
    paths: Sequence[Path],
    records: list[Record],
    rules: PackRules,
    itself: Identity | None,
    names: Sequence[str] | None = None,
) -> Gathered:
    plan = gather(paths, rules, itself, names)
    nothing = hashlib.new(HASHTYPE, usedforsecurity=False).hexdigest()
    raw = _document(chain(records, (_record(file, nothing) for file in plan.files)))
    try:
        check_document(Document.parse(raw))
    except IngestError as error:
        raise PackError(f"the bundle could not be ingested: {error}") from error
    return plan


def _write(plan: Gathered, records: list[Record], out: IO[bytes], rules: PackRules) -> Packed:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        # The document is complete when all files have been added.
        raw = _document(chain(records, (_add(tar, file, follow=rules.dereference) for file in plan.files)))
        info = tarfile.TarInfo(METADATA_NAME)
        info.size, info.mode = len(raw), 0o644
        tar.addfile(info, io.BytesIO(raw))
    warnings = [*warnings_of(plan.left_out), *_odd_times(plan.files)]
    return Packed(len(plan.files), sum(file.found.st_size for file in plan.files), plan.left_out, warnings)


def _add(tar: tarfile.TarFile, file: Entry, *, follow: bool) -> Record:
    info = tarfile.TarInfo(f"{DATA_FOLDER}{file.name}")
    info.size, info.mtime, info.mode = file.found.st_size, _seconds(file), 0o644
    with UnchangedFile(file, HASHTYPE, follow=follow) as content:
        content.require_unchanged()
        tar.addfile(info, cast(IO[bytes], content))
        content.require_end()
        return _record(file, content.hashsum)


def _record(file: Entry, hashsum: str) -> Record:
    folder, _, name = file.name.rpartition("/")
    guessed = mimetypes.guess_type(name)[0] or DEFAULT_MIMETYPE
    when = (EPOCH + timedelta(seconds=_seconds(file))).isoformat().removesuffix("+00:00")
    return {
        "destinationTable": "Files",
        "name": name,
        "subdir": f"{DATA_FOLDER}{folder}".rstrip("/"),
        "size": file.found.st_size,
        "hashtype": HASHTYPE,
        "hashsum": hashsum,
        "mimetype": guessed if MIMETYPE.fullmatch(guessed) else DEFAULT_MIMETYPE,
        "ctime": when,
        "mtime": when,
    }


def _seconds(file: Entry) -> int:
    """When the file was modified, in seconds since 1970, or the nearest that a document can name."""
    return min(max(file.found.st_mtime_ns // 1_000_000_000, FIRST), LAST)


def _odd_times(files: list[Entry]) -> list[str]:
    odd = [file.name for file in files if file.found.st_mtime_ns // 1_000_000_000 != _seconds(file)]
    return [f"{counted(len(odd), 'file')} of a time before year 1 or after year 9999: {listed(odd)}"] if odd else []


def _document(records: Iterable[Record]) -> bytes:
    """The document of these records, as JSON. Raises PackError where it is too long, or not text."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    pieces, length = [], 0
    for record in records:
        try:
            pieces.append(encode(record).encode())
        except UnicodeEncodeError:
            raise PackError(f"not valid UTF-8: {quoted(record)}") from None
        length += len(pieces[-1]) + len(SEPARATOR)
        if length > MAX_METADATA_BYTES:
            raise PackError(f"the metadata would be longer than {decimal(MAX_METADATA_BYTES)}: pack fewer files")
    return b"[" + SEPARATOR.join(pieces) + b"]"

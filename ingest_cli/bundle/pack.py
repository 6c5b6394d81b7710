"""Packs files and folders into a bundle that can be ingested; what could not be ingested is refused beforehand.

The tar is streamed: each file is hashed as it is read, so that ``metadata.txt`` comes last.
"""

import hashlib
import io
import json
import mimetypes
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from rich.filesize import decimal

from ..disk import durable_write, open_regular
from ..errors import IngestError, PackError, SettingsError
from .catalog_rules import MIMETYPE, check_document
from .metadata import Document
from .reader import DATA_FOLDER, MAX_METADATA_BYTES, METADATA_NAME

Record = dict[str, Any]
HASHTYPE = "sha1"
DEFAULT_MIMETYPE = "application/octet-stream"
MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed: the number of files, and their bytes together."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    name: str  # in the bundle, below data/
    size: int
    mtime_ns: int


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
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise SettingsError(f"{path} is not a list of records")
    try:
        Document.parse(_document(records))
    except IngestError as error:
        raise SettingsError(f"{path}: {error}") from error
    return records


def pack(paths: Sequence[Path], records: list[Record], out: IO[bytes]) -> Packed:
    """Write the bundle of ``paths`` to ``out``. ``records`` are those of the document that are not of files.

    The contents of a single folder come directly below ``data/``, several files and folders under their own names.
    Raises PackError, where possible before anything is written.
    """
    return _write(_plan(paths, records), records, out)


def write_bundle(paths: Sequence[Path], records: list[Record], target: Path, *, replace: bool = False) -> Packed:
    """Pack into the file ``target``, which appears whole and durable or not at all. Raises PackError."""
    if not replace and os.path.lexists(target):
        raise PackError(f"{target} already exists")
    # Before a file is made, which may be in one of the folders.
    plan = _plan(paths, records)
    try:
        with durable_write(target, mode=0o644, replace=replace) as out:
            packed = _write(plan, records, out)
    except FileExistsError as error:
        raise PackError(f"{target} already exists") from error
    except OSError as error:
        raise PackError(f"cannot write {target}: {error.strerror}") from error
    return packed


def _plan(paths: Sequence[Path], records: list[Record]) -> list[_Found]:
    found = _find(paths)
    _require_ingestible(found, records)
    return found


def _write(found: list[_Found], records: list[Record], out: IO[bytes]) -> Packed:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        files = [_add(tar, file) for file in found]
        _add_metadata(tar, [*records, *files])
    return Packed(len(found), sum(file.size for file in found))


def _find(paths: Sequence[Path]) -> list[_Found]:
    found: dict[str, _Found] = {}
    problems: list[str] = []
    for path, name in _names(paths):
        try:
            status = path.lstat()
            name.encode()
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        except UnicodeEncodeError:
            problems.append(f"{str(path)!r} is not valid UTF-8")
            continue
        if not stat.S_ISREG(status.st_mode):
            problems.append(f"{path} is not a regular file")
        elif not os.access(path, os.R_OK):
            problems.append(f"{path}: Permission denied")
        elif name in found:
            problems.append(f"{path} and {found[name].path} would both be {DATA_FOLDER}{name}")
        else:
            found[name] = _Found(path, name, status.st_size, status.st_mtime_ns)
    if problems:
        raise _refusal(problems)
    if not found:
        raise PackError(f"there are no files in {', '.join(map(str, paths))}")
    return [found[name] for name in sorted(found)]


def _names(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        if not path.is_dir():
            yield path, path.name
            continue
        top = "" if len(paths) == 1 else f"{path.resolve().name}/"
        for folder, folders, names in os.walk(path, onerror=_raise):
            below = "" if Path(folder) == path else f"{Path(folder).relative_to(path)}/"
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in [*names, *links]:
                yield Path(folder, name), f"{top}{below}{name}"


def _raise(error: OSError) -> None:
    raise PackError(f"{error.filename}: {error.strerror}") from error


def _refusal(problems: list[str]) -> PackError:
    error = PackError(f"cannot be packed: {problems[0]}")
    for problem in problems[1:MAX_PROBLEMS]:
        error.add_note(problem)
    if len(problems) > MAX_PROBLEMS:
        error.add_note(f"and {len(problems) - MAX_PROBLEMS} more")
    return error


def _require_ingestible(found: list[_Found], records: list[Record]) -> None:
    nothing = hashlib.new(HASHTYPE, usedforsecurity=False).hexdigest()
    raw = _document([*records, *(_record(file, nothing) for file in found)])
    if len(raw) > MAX_METADATA_BYTES:
        raise PackError(f"the metadata would be {decimal(len(raw))} long; the limit is {decimal(MAX_METADATA_BYTES)}")
    try:
        check_document(Document.parse(raw))
    except IngestError as error:
        raise PackError(f"the bundle could not be ingested: {error}") from error


def _add(tar: tarfile.TarFile, file: _Found) -> Record:
    digest = hashlib.new(HASHTYPE, usedforsecurity=False)
    info = tarfile.TarInfo(f"{DATA_FOLDER}{file.name}")
    info.size, info.mtime, info.mode = file.size, file.mtime_ns // 1_000_000_000, 0o644
    changed = PackError(f"{file.path} was modified while it was packed")
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PackError(f"{file.path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb", buffering=0) as source:
        try:
            tar.addfile(info, _Hashed(source, digest))
        except OSError as error:
            # tarfile says so where a file ends too early; the kernel's own errors have a number.
            raise changed if error.errno is None else PackError(f"{file.path}: {error.strerror}") from error
        status = os.fstat(source.fileno())
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise changed
    return _record(file, digest.hexdigest())


class _Hashed(io.RawIOBase):
    """Hashes what is read from ``source``."""

    def __init__(self, source: io.FileIO, digest: "hashlib._Hash") -> None:
        self._source, self._digest = source, digest

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._digest.update(data)
        return data


def _add_metadata(tar: tarfile.TarFile, records: list[Record]) -> None:
    raw = _document(records)
    info = tarfile.TarInfo(METADATA_NAME)
    info.size, info.mode = len(raw), 0o644
    tar.addfile(info, io.BytesIO(raw))


def _record(file: _Found, hashsum: str) -> Record:
    folder, _, name = file.name.rpartition("/")
    guessed = mimetypes.guess_type(name)[0] or DEFAULT_MIMETYPE
    when = datetime.fromtimestamp(file.mtime_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {
        "destinationTable": "Files",
        "name": name,
        "subdir": f"{DATA_FOLDER}{folder}".rstrip("/"),
        "size": file.size,
        "hashtype": HASHTYPE,
        "hashsum": hashsum,
        "mimetype": guessed if MIMETYPE.fullmatch(guessed) else DEFAULT_MIMETYPE,
        "ctime": when,
        "mtime": when,
    }


def _document(records: list[Record]) -> bytes:
    return json.dumps(records, ensure_ascii=False).encode()

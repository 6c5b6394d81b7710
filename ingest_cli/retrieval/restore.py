"""Restores a stored job as the bundle it came from: the same bytes, and a document that can be ingested again."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from ..bundle.metadata import Document
from ..bundle.reader import METADATA_NAME
from ..disk import durable_write, explained, new_at, require_free, sync_file_system
from ..errors import ArchiveError, JobNotRecorded, SourceError
from ..services.base import Archive, Services, StoredFile
from ..text import counted, quoted


class _Stored:
    """A recorded transaction: its files, each with its checked name in the bundle, and its document."""

    def __init__(self, services: Services, job_id: int) -> None:
        if not services.catalog.contains(job_id):
            raise JobNotRecorded(f"the catalogue has no record of job {job_id}")
        self.files = list(services.catalog.files(job_id))
        records = [*services.catalog.metadata(job_id), *(file.as_record() for file in self.files)]
        self.document = json.dumps(records, ensure_ascii=False).encode()
        # Names that point outside the bundle, which another program's catalogue may hold, are refused here.
        entries = Document.of(records).files
        self.named = list(zip((entry.path for entry in entries), self.files, strict=True))


def write_tar(services: Services, job_id: int, out: IO[bytes]) -> int:
    """Write the bundle to ``out`` and return how many files it holds.

    Raises JobNotRecorded, and ArchiveError where a file does not match the catalogue.
    """
    stored = _Stored(services, job_id)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, file in stored.named:
            _add(tar, services.archive, name, file)
        info = tarfile.TarInfo(METADATA_NAME)
        info.size, info.mode = len(stored.document), 0o644
        tar.addfile(info, io.BytesIO(stored.document))
    return len(stored.files)


def _add(tar: tarfile.TarFile, archive: Archive, name: str, file: StoredFile) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = file.size, 0o644, _mtime(file)
    with _checked(archive, file) as content:
        try:
            tar.addfile(info, content)
        except OSError as error:
            if error.errno is not None:
                raise
            # tarfile says so where a file ends too early; the kernel's own errors have a number.
            size = counted(file.size, "byte")
            raise ArchiveError(f"file {file.file_id}, {file.path!r}, is shorter than {size}") from error


def write_bundle_file(services: Services, job_id: int, target: Path) -> int:
    """Write the bundle to the new file ``target``, which appears whole or not at all.

    Raises SourceError where it cannot be written, and ResourceUnavailable where it may be later, too.
    """
    try:
        require_free(target)
        with durable_write(target, mode=0o644) as out:
            return write_tar(services, job_id, out)
    except OSError as error:
        raise explained(error, f"cannot write {target}", SourceError) from error


def write_folder(services: Services, job_id: int, target: Path) -> int:
    """Write the bundle's files and its document to the new folder ``target``, which appears whole or not at all.

    Raises as `write_bundle_file` does; a name that the file system does not take is named.
    """
    with new_at(target) as aside:
        aside.mkdir()
        stored = _Stored(services, job_id)
        for name, file in stored.named:
            try:
                _write_file(services.archive, aside / name, file)
            except OSError as error:
                raise explained(error, f"cannot write {quoted(name)} into {target}", SourceError) from error
        (aside / METADATA_NAME).write_bytes(stored.document)
        sync_file_system(aside)
        aside.rename(target)
    return len(stored.files)


def _write_file(archive: Archive, path: Path, file: StoredFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out, _checked(archive, file) as content:
        shutil.copyfileobj(content, out, 1 << 20)
    os.utime(path, (_mtime(file), _mtime(file)))


class _Content(io.RawIOBase):
    """The bytes that the archive returns of a file, hashed on the way."""

    def __init__(self, pieces: Iterator[bytes], hashtype: str) -> None:
        self._pieces, self._rest = pieces, b""
        self.digest = hashlib.new(hashtype, usedforsecurity=False)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest or 0 <= len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self.digest.update(piece)
            self._rest += piece
        given, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return given


@contextmanager
def _checked(archive: Archive, file: StoredFile) -> Iterator[_Content]:
    content = _Content(iter(archive.read(file.file_id)), file.hashtype)
    yield content
    while content.read(1 << 20):  # what is too long shows in the hash
        pass
    if content.digest.hexdigest() != file.hashsum:
        raise ArchiveError(f"file {file.file_id}, {file.path!r}, does not match the catalogue: see 'ingest verify'")


def _mtime(file: StoredFile) -> int:
    """When the file was changed, in seconds since 1970; 0 where the catalogue does not say so in ISO 8601."""
    try:
        when = datetime.fromisoformat(file.mtime or "")
    except ValueError:
        return 0
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())

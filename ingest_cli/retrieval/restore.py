"""Restores a stored job as the bundle it came from: the same bytes, and a document that can be ingested again.

With ``paths``, only the files that have one of these or lie in one, as a bundle of their own.
"""

import os
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from ..bundle.reader import METADATA_NAME
from ..disk import Writeback, durable_write, explained, new_at, require_free, sync_file_system
from ..errors import SourceError
from ..in_threads import done_in_threads
from ..meter import NOBODY, Meter
from ..services.base import Archive, Services, StoredFile
from ..text import quoted
from .choice import named_files
from .content import read_content
from .layout import Pieces
from .stored import Stored, mtime_of


def write_tar(
    services: Services, job_id: int, out: IO[bytes], paths: Collection[str] = (), meter: Meter = NOBODY
) -> int:
    """Write the bundle to ``out`` and return how many files it holds.

    Raises JobNotRecorded, FileNotRecorded, and ArchiveError where a file does not match the catalogue.
    """
    count, pieces = _tar(services, job_id, paths, meter)
    for piece in pieces:
        out.write(piece)
    return count


def write_bundle_file(
    services: Services, job_id: int, target: Path, paths: Collection[str] = (), meter: Meter = NOBODY
) -> int:
    """Write the bundle to the new file ``target``, which appears whole or not at all.

    Raises SourceError where it cannot be written, and ResourceUnavailable where it may be later, too.
    """
    try:
        require_free(target)
        with durable_write(target, mode=0o644) as out:
            count, pieces = _tar(services, job_id, paths, meter)
            _write(out, pieces)
            return count
    except OSError as error:
        raise explained(error, f"cannot write {target}", SourceError) from error


def write_folder(
    services: Services, job_id: int, target: Path, paths: Collection[str] = (), meter: Meter = NOBODY
) -> int:
    """Write the bundle's files and its document to the new folder ``target``, which appears whole or not at all.

    Raises as `write_bundle_file` does; a name that the file system does not take is named.
    """
    with new_at(target) as aside:
        aside.mkdir()
        stored = Stored(services.catalog, job_id, paths)
        meter.plan(len(stored.named), stored.total_bytes)
        _write_files(services.archive, stored, aside, target, meter)
        (aside / METADATA_NAME).write_bytes(stored.document)
        sync_file_system(aside)
        aside.rename(target)
    return len(stored.named)


def read_files(services: Services, job_id: int, paths: Sequence[str]) -> Pieces:
    """The bytes of the job's files at these ``paths``, or of its document, one after the other, in pieces.

    Raises as `write_tar` does; the last piece of a file comes only if all of the file is right.
    """
    of_files = dict.fromkeys(path for path in paths if path != METADATA_NAME)
    files = dict(zip(of_files, named_files(job_id, services.catalog.files(job_id), of_files), strict=True))
    for path in paths:
        if path == METADATA_NAME:
            yield Stored(services.catalog, job_id).document
        else:
            yield from read_content(services.archive, files[path])


def _tar(services: Services, job_id: int, paths: Collection[str], meter: Meter) -> tuple[int, Pieces]:
    """How many files the bundle holds, and its bytes."""
    stored = Stored(services.catalog, job_id, paths)
    meter.plan(len(stored.named), stored.total_bytes)
    return len(stored.named), stored.layout.read(partial(_read, services.archive, meter))


def _read(archive: Archive, meter: Meter, file: StoredFile, start: int = 0, stop: int | None = None) -> Pieces:
    for piece in read_content(archive, file, start, stop):
        meter.advance(len(piece))
        yield piece
    meter.advance(0, 1)


def _write_files(archive: Archive, stored: Stored, aside: Path, target: Path, meter: Meter) -> None:
    """Write the files into ``aside``, which is to become ``target``, several at once where the archive gives that."""

    def write(named: tuple[str, StoredFile], meter: Meter) -> None:
        name, file = named
        try:
            _write_file(archive, f"{aside}/{name}", file, meter)
        except OSError as error:
            raise explained(error, f"cannot write {quoted(name)} into {target}", SourceError) from error

    threads = 1 if archive.is_exclusive else archive.transfers
    for _ in done_in_threads(write, stored.named, lambda named: named[1].size, meter, threads):
        pass


def _write_file(archive: Archive, path: str, file: StoredFile, meter: Meter) -> None:
    with _new_file(path) as out:
        _write(out, _read(archive, meter, file))
    os.utime(path, (mtime_of(file), mtime_of(file)))


def _write(out: IO[bytes], pieces: Pieces) -> None:
    """Write the pieces to a file, and to its disk as they come."""
    writeback = Writeback(out.fileno())
    for piece in pieces:
        out.write(piece)
        writeback.wrote(len(piece))
    out.flush()
    writeback.end()


def _new_file(path: str) -> IO[bytes]:
    """A new file, in folders that are made where they are missing."""
    try:
        return open(path, "xb")  # noqa: PTH123 - as text, of many; the caller closes it
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH120
        return open(path, "xb")  # noqa: PTH123

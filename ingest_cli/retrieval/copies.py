"""Whether files of this machine are stored: by what they hold, whatever their names."""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..bundle.content import CHUNK_BYTES
from ..bundle.pack_rules import PackRules, Reason
from ..bundle.tree import walk
from ..disk import explained, open_regular
from ..errors import ArchiveError, IngestError, SourceError
from ..meter import NOBODY, Meter
from ..services.base import Archive, Catalog, StoredFile
from ..services.query import FileQuery

# Of a file that is stored many times, such as an empty one, these tell enough.
MOST_COPIES = 10
ALL_FILES = PackRules(default_excludes=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """What is stored of the file at ``path``: the first ``copies`` of it, each after its job.

    ``error`` is why that is not known.
    """

    path: Path
    copies: tuple[tuple[int, StoredFile], ...] = ()
    error: IngestError | None = None

    @property
    def is_stored(self) -> bool:
        """Whether it is stored."""
        return bool(self.copies)


def look_up(catalog: Catalog, archive: Archive, paths: Sequence[Path], meter: Meter = NOBODY) -> Iterator[Copies]:
    """Find each file, and all in each folder.

    It is stored where the catalogue has a file of the same size and hash, and the archive has one of that size for it.
    """
    hashtypes = catalog.hashtypes()
    if meter is not NOBODY:
        meter.plan(*_measure(paths))
    for path in paths:
        for file, error in _files_at(path):
            if error is None:
                yield _look_up(catalog, archive, file, hashtypes, meter)
                meter.advance(0, 1)
            else:
                yield Copies(path=file, error=error)


def _measure(paths: Iterable[Path]) -> tuple[int, int]:
    """How many files are to be read, and how long they are together: what cannot be looked at is told later."""
    files = total_bytes = 0
    for path in paths:
        for file, error in _files_at(path):
            if error is None:
                with suppress(OSError):
                    total_bytes += file.stat().st_size
                    files += 1
    return files, total_bytes


def _files_at(path: Path) -> Iterator[tuple[Path, IngestError | None]]:
    """The file, or the files in the folder; and why one of them is not looked at."""
    if not path.is_dir():
        yield path, None
        return
    problems: list[tuple[Path, IngestError]] = []

    def note(where: str, error: OSError) -> None:
        problems.append((Path(where), explained(error, f"cannot look at {where}", SourceError)))

    for entry in walk(path.resolve() if path.is_symlink() else path, "", ALL_FILES, note):
        yield from problems
        problems.clear()
        if entry.reason is not Reason.EMPTY:
            yield entry.path, SourceError(f"{entry.path} is a {entry.reason}") if entry.reason else None
    yield from problems


def _look_up(catalog: Catalog, archive: Archive, path: Path, hashtypes: Collection[str], meter: Meter) -> Copies:
    try:
        size, hashes = _hashes(path, hashtypes, meter)
    except IngestError as error:
        return Copies(path=path, error=error)
    found = (
        (job_id, file)
        for hashtype, hashsum in hashes.items()
        for job_id, file in catalog.find(FileQuery(hashsum=hashsum, hashtypes=(hashtype,)))
        if file.size == size == archive.stat(file.file_id)
    )
    try:
        return Copies(path=path, copies=tuple(islice(found, MOST_COPIES)))
    except ArchiveError as error:
        return Copies(path=path, error=error)


def _hashes(path: Path, hashtypes: Collection[str], meter: Meter) -> tuple[int, dict[str, str]]:
    """How long the file is, and its hash of each type. Raises SourceError, and ResourceUnavailable."""
    digests = {hashtype: hashlib.new(hashtype, usedforsecurity=False) for hashtype in sorted(hashtypes)}
    size = 0
    try:
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            while chunk := file.read(CHUNK_BYTES):
                size += len(chunk)
                for digest in digests.values():
                    digest.update(chunk)
                meter.advance(len(chunk))
            after = os.fstat(file.fileno())
    except OSError as error:
        raise explained(error, f"cannot read {path}", SourceError) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
        raise SourceError(f"{path} was modified while it was read")
    return size, {hashtype: digest.hexdigest() for hashtype, digest in digests.items()}

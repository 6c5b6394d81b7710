"""Verifies the archive against the catalogue: reads and hashes every byte again, and changes nothing."""

import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from ..bundle.content import digest_of
from ..errors import ArchiveError, IngestError, JobNotRecorded, OnProblem, raise_problem
from ..in_threads import done_in_threads
from ..jobs.store import JobStore
from ..meter import NOBODY, Meter
from ..services.base import Archive, ArchivedFile, Catalog, Services, StoredFile
from ..text import counted

# So many files of the archive are looked for in the catalogue with one question.
LOOKED_UP_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a file: ``job_id`` and ``file_id`` are None for a file of the archive that is an orphan."""

    job_id: int | None
    file_id: int | None
    name: str
    problem: str


@dataclass(slots=True)
class Tally:
    """What was verified so far, ``by_digest`` files by a digest of the archive's own; ``job_id`` is the current job."""

    jobs: int = 0
    files: int = 0
    bytes: int = 0
    by_digest: int = 0
    job_id: int | None = None


def verify_jobs(
    services: Services,
    job_ids: Iterable[int],
    *,
    share: float = 1.0,
    fast: bool = False,
    tally: Tally | None = None,
    meter: Meter = NOBODY,
    on_missing: OnProblem = raise_problem,
) -> Iterator[Damage]:
    """Hash the files of recorded jobs again, or a random ``share`` of them; yield what is wrong as it is found.

    With ``fast``, a file of which the archive keeps a digest of its own is compared with that.
    ``on_missing`` gets a JobNotRecorded for each of which the catalogue holds nothing, or it is raised. Raises
    ServiceUnavailable where a service is down.
    """
    tally = tally if tally is not None else Tally()
    parts = _parts(services.catalog, job_ids, share)
    for (job_id, part), found in _verified(services.archive, parts, meter, fast=fast):
        if part is None:
            tally.jobs, tally.job_id = tally.jobs + 1, job_id
            meter.part(f"job {job_id}")
        elif isinstance(part, JobNotRecorded):
            on_missing(part)
        else:
            yield from _counted(tally, job_id, part, found)


def verify_files(
    archive: Archive,
    job_id: int,
    files: Iterable[StoredFile],
    *,
    share: float = 1.0,
    tally: Tally,
    meter: Meter = NOBODY,
) -> Iterator[Damage]:
    """Hash a job's files again, or a random ``share`` of them, and yield what is wrong. Raises ServiceUnavailable."""
    parts: Iterator[_Part] = ((job_id, file) for file in _sample(files, share))
    for (_, file), found in _verified(archive, parts, meter, fast=False):
        if isinstance(file, StoredFile):
            yield from _counted(tally, job_id, file, found)


@dataclass(frozen=True, slots=True)
class _Found:
    problem: str | None = None
    by_digest: bool = False


def _look_at(archive: Archive, file: StoredFile, meter: Meter, *, fast: bool) -> _Found:
    """What is wrong with a stored file: by its recorded hash, unless a digest of the archive's own says that it is not
    changed. Where that says another thing, it may itself be what was changed."""
    with suppress(ArchiveError):
        if fast and archive.stat(file.file_id) == file.size and archive.is_unchanged(file.file_id, meter.advance):
            meter.advance(0, 1)
            return _Found(by_digest=True)
    return _Found(file_problem(archive, file, meter))


def file_problem(archive: Archive, file: StoredFile, meter: Meter = NOBODY) -> str | None:
    """What is wrong with a stored file, in a sentence; None where nothing is. Raises ServiceUnavailable."""
    try:
        size = archive.stat(file.file_id)
    except ArchiveError as error:
        meter.advance(file.size, 1)
        return str(error)
    if size != file.size:
        meter.advance(file.size, 1)
        return "missing from the archive" if size is None else f"{counted(size, 'byte')} long instead of {file.size:,}"
    try:
        found = digest_of(_metered(archive.read(file.file_id), meter), file.hashtype, file.size)
    except ArchiveError as error:
        return str(error)
    finally:
        meter.advance(0, 1)
    if found != file.hashsum:
        return f"{file.hashtype} is {found} instead of {file.hashsum}"
    return None


# A job, and one of its files; None where the job begins, and the error where the catalogue has nothing of it.
_Part = tuple[int, StoredFile | JobNotRecorded | None]


def _parts(catalog: Catalog, job_ids: Iterable[int], share: float) -> Iterator[_Part]:
    for job_id in job_ids:
        if not catalog.contains(job_id):
            yield job_id, JobNotRecorded(f"the catalogue has no record of job {job_id}", job_id)
            continue
        yield job_id, None
        yield from ((job_id, file) for file in _sample(catalog.files(job_id), share))


def _sample(files: Iterable[StoredFile], share: float) -> Iterator[StoredFile]:
    return (file for file in files if share >= 1.0 or random.random() < share)


def _verified(archive: Archive, parts: Iterator[_Part], meter: Meter, *, fast: bool) -> Iterator[tuple[_Part, _Found]]:
    """Each part after the other, with what was found of it where it is a file."""

    def look(part: _Part, meter: Meter) -> _Found:
        return _look_at(archive, part[1], meter, fast=fast) if isinstance(part[1], StoredFile) else _Found()

    def size(part: _Part) -> int:
        return part[1].size if isinstance(part[1], StoredFile) else 0

    return done_in_threads(look, parts, size, meter, 1 if archive.is_exclusive else archive.transfers)


def _counted(tally: Tally, job_id: int, file: StoredFile, found: _Found) -> Iterator[Damage]:
    tally.files += 1
    tally.bytes += file.size
    tally.by_digest += found.by_digest
    if found.problem is not None:
        yield Damage(job_id, file.file_id, file.path, found.problem)


def _metered(pieces: Iterable[bytes], meter: Meter) -> Iterator[bytes]:
    for piece in pieces:
        meter.advance(len(piece))
        yield piece


def find_orphans(services: Services, store: JobStore) -> Iterator[Damage]:
    """The files of the archive that are orphans: of no transaction, and of no job that may be resumed.

    Raises IngestError where the archive cannot list what it holds.
    """
    listed = services.archive.list_files()
    if listed is None:
        raise IngestError("the archive cannot list its files: orphans are not looked for")
    while files := list(islice(listed, LOOKED_UP_AT_ONCE)):
        # In this order: a job that ends meanwhile lets go of its ids when the catalogue has its files.
        free = [file for file in files if not _is_reserved(store, file)]
        known = services.catalog.known_files(
            {file_id for file in free for file_id in (file.file_id, *file.beside) if file_id is not None}
        )
        for file in free:
            if file.file_id not in known and services.archive.still_holds(file):
                yield from _orphaned(file, len(known.intersection(file.beside)))


def _orphaned(file: ArchivedFile, others: int) -> Iterator[Damage]:
    """A file that is an orphan; what lies at one place with no other file than such is told of once."""
    if others:
        problem = f"orphaned, but do not delete it: {counted(others, 'file')} of a job {'is' if others == 1 else 'are'}"
        yield Damage(None, file.file_id, file.location, f"{problem} in the same object")
    elif not file.beside:
        yield Damage(None, file.file_id, file.location, "orphaned")
    elif file.file_id == file.beside[0]:
        yield Damage(None, None, file.location, "orphaned")


def _is_reserved(store: JobStore, file: ArchivedFile) -> bool:
    """Whether the file is one of a job that may be resumed."""
    reserved = file.file_id if file.run_of is None else file.run_of
    return reserved is not None and store.has_reserved(reserved)

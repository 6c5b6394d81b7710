"""Verifies the archive against the catalogue: reads and hashes every byte again, and changes nothing."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..bundle.content import digest_of
from ..errors import ArchiveError, IngestError, JobNotRecorded, OnProblem, raise_problem
from ..in_threads import done_in_threads, usual_threads
from ..jobs.store import JobStore
from ..meter import NOBODY, Meter
from ..services.base import Archive, Catalog, Services, StoredFile
from ..text import counted


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a file: ``job_id`` and ``file_id`` are None for a file of the archive that is an orphan."""

    job_id: int | None
    file_id: int | None
    name: str
    problem: str


@dataclass(slots=True)
class Tally:
    """What was verified so far; ``job_id`` is the current job."""

    jobs: int = 0
    files: int = 0
    bytes: int = 0
    job_id: int | None = None


def verify_jobs(
    services: Services,
    job_ids: Iterable[int],
    *,
    share: float = 1.0,
    tally: Tally | None = None,
    meter: Meter = NOBODY,
    on_missing: OnProblem = raise_problem,
) -> Iterator[Damage]:
    """Hash the files of recorded jobs again, or a random ``share`` of them; yield what is wrong as it is found.

    ``on_missing`` gets a JobNotRecorded for each of which the catalogue holds nothing, or it is raised. Raises
    ServiceUnavailable where a service is down.
    """
    tally = tally if tally is not None else Tally()
    for (job_id, part), problem in _verified(services.archive, _parts(services.catalog, job_ids, share), meter):
        if part is None:
            tally.jobs, tally.job_id = tally.jobs + 1, job_id
            meter.part(f"job {job_id}")
        elif isinstance(part, JobNotRecorded):
            on_missing(part)
        else:
            yield from _counted(tally, job_id, part, problem)


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
    for (_, file), problem in _verified(archive, parts, meter):
        if isinstance(file, StoredFile):
            yield from _counted(tally, job_id, file, problem)


def file_problem(archive: Archive, file: StoredFile, meter: Meter = NOBODY) -> str | None:
    """What is wrong with a stored file, in a sentence; None where nothing is. Raises ServiceUnavailable."""
    size = archive.stat(file.file_id)
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


def _verified(archive: Archive, parts: Iterator[_Part], meter: Meter) -> Iterator[tuple[_Part, str | None]]:
    """Each part after the other, and what is wrong with it where it is a file."""

    def problem(part: _Part, meter: Meter) -> str | None:
        return file_problem(archive, part[1], meter) if isinstance(part[1], StoredFile) else None

    def size(part: _Part) -> int:
        return part[1].size if isinstance(part[1], StoredFile) else 0

    threads = 1 if archive.is_exclusive else usual_threads()
    return done_in_threads(problem, parts, size, meter, threads)


def _counted(tally: Tally, job_id: int, file: StoredFile, problem: str | None) -> Iterator[Damage]:
    tally.files += 1
    tally.bytes += file.size
    if problem is not None:
        yield Damage(job_id, file.file_id, file.path, problem)


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
    for file in listed:
        reserved = file.file_id if file.run_of is None else file.run_of
        # In this order: a job that ends meanwhile lets go of its ids when the catalogue has its files.
        if reserved is not None and store.has_reserved(reserved):
            continue
        is_recorded = file.file_id is not None and services.catalog.find_file(file.file_id) is not None
        if not is_recorded and services.archive.still_holds(file):
            yield Damage(None, file.file_id, file.location, "orphaned")

"""Verifies the archive against the catalogue: reads and hashes every byte again, and changes nothing."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..bundle.content import digest_of
from ..errors import ArchiveError, IngestError, JobNotRecorded, OnProblem, raise_problem
from ..jobs.store import JobStore
from ..meter import NOBODY, Meter
from ..services.base import Archive, Services, StoredFile
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
    for job_id in job_ids:
        if not services.catalog.contains(job_id):
            on_missing(JobNotRecorded(f"the catalogue has no record of job {job_id}", job_id))
            continue
        tally.jobs, tally.job_id = tally.jobs + 1, job_id
        meter.part(f"job {job_id}")
        files = services.catalog.files(job_id)
        yield from verify_files(services.archive, job_id, files, share=share, tally=tally, meter=meter)


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
    for file in files:
        if share < 1.0 and random.random() >= share:
            continue
        problem = file_problem(archive, file, meter)
        tally.files += 1
        tally.bytes += file.size
        if problem is not None:
            yield Damage(job_id, file.file_id, file.path, problem)


def file_problem(archive: Archive, file: StoredFile, meter: Meter = NOBODY) -> str | None:
    """What is wrong with a stored file, in a sentence; None where nothing is. Raises ServiceUnavailable."""
    size = archive.stat(file.file_id)
    if size != file.size:
        meter.advance(file.size, 1)
        return "missing from the archive" if size is None else f"{counted(size, 'byte')} long instead of {file.size:,}"
    try:
        found = digest_of(_metered(archive.read(file.file_id), meter), file.hashtype)
    except ArchiveError as error:
        return str(error)
    finally:
        meter.advance(0, 1)
    if found != file.hashsum:
        return f"{file.hashtype} is {found} instead of {file.hashsum}"
    return None


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

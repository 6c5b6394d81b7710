"""The archive against the catalogue: every byte is read and hashed again, and nothing is changed."""

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..bundle.content import digest_of
from ..errors import ArchiveError, IngestError, JobNotRecorded
from ..jobs.store import JobStore
from ..services.base import Archive, Services, StoredFile
from ..services.embedded.archive import EmbeddedArchive
from ..services.embedded.catalog import EmbeddedCatalog


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a file: ``job_id`` and ``file_id`` are None for a file of the archive that is an orphan."""

    job_id: int | None
    file_id: int | None
    name: str
    problem: str


@dataclass(slots=True)
class Tally:
    """What was looked at so far; ``job_id`` is the job at hand."""

    jobs: int = 0
    files: int = 0
    bytes: int = 0
    job_id: int | None = None


def verify_jobs(
    services: Services, job_ids: Iterable[int], *, share: float = 1.0, tally: Tally | None = None
) -> Iterator[Damage]:
    """Hash the files of recorded jobs again, or a random ``share`` of them; yield what is wrong as it is found.

    Raises JobNotRecorded for a job of which the catalogue holds nothing, ServiceUnavailable where a service is down.
    """
    tally = tally if tally is not None else Tally()
    for job_id in job_ids:
        if not services.catalog.contains(job_id):
            raise JobNotRecorded(f"the catalogue holds no job {job_id}")
        tally.jobs, tally.job_id = tally.jobs + 1, job_id
        yield from verify_files(services.archive, job_id, services.catalog.files(job_id), share=share, tally=tally)


def verify_files(
    archive: Archive, job_id: int, files: Iterable[StoredFile], *, share: float = 1.0, tally: Tally
) -> Iterator[Damage]:
    """Hash a job's files again, or a random ``share`` of them, and yield what is wrong. Raises ServiceUnavailable."""
    for file in files:
        if share < 1.0 and random.random() >= share:
            continue
        problem = problem_with(archive, file)
        tally.files += 1
        tally.bytes += file.size
        if problem is not None:
            yield Damage(job_id, file.file_id, file.path, problem)


def problem_with(archive: Archive, file: StoredFile) -> str | None:
    """What is wrong with a stored file, in a sentence; None where nothing is. Raises ServiceUnavailable."""
    size = archive.stat(file.file_id)
    if size is None:
        return "the archive does not hold it"
    if size != file.size:
        return f"it is {size} bytes long, not {file.size}"
    try:
        found = digest_of(archive.read(file.file_id), file.hashtype)
    except ArchiveError as error:
        return str(error)
    if found != file.hashsum:
        return f"it hashes to {file.hashtype} {found}, not {file.hashsum}"
    return None


def find_orphans(services: Services, store: JobStore) -> Iterator[Damage]:
    """The files of an embedded archive that are orphans: of no transaction, and of no job that may be resumed.

    Raises IngestError where the archive or the catalogue is not embedded: a service cannot be asked what it holds.
    """
    archive, catalog = services.archive, services.catalog
    if not (isinstance(archive, EmbeddedArchive) and isinstance(catalog, EmbeddedCatalog)):
        raise IngestError("an archive over HTTP cannot be asked for all that it holds: orphans are not looked for")
    for found in archive.found():
        reserved = found.file_id if found.of_run is None else found.of_run
        # In this order: a job that ends meanwhile lets go of its ids when the catalogue has its files.
        if reserved is not None and store.has_reserved(reserved):
            continue
        owned = found.file_id is not None and catalog.owns(found.file_id)
        if not owned and os.path.lexists(found.path):
            yield Damage(None, found.file_id, str(found.path), "it is an orphan")

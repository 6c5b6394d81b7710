"""What would be stored of a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle.folder import Folder
from ..bundle.tree import Entry
from ..jobs.job import JobKind
from ..jobs.store import JobStore
from ..services.base import Catalog, Policy
from ..settings import Settings
from ..text import listed
from .folder_files import known_files
from .submission import FolderSource, completed, completed_otherwise, look_into


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderPlan:
    """What would be stored of the folder at ``path``: so many ``files`` and ``bytes``.

    ``known_files`` are stored already, or all with the job ``job_id``; ``left_out`` is not taken. ``warnings`` say that
    in words.
    """

    path: Path
    job_id: int | None
    files: int
    bytes: int
    known_files: int
    known_bytes: int
    left_out: Sequence[Entry]
    warnings: list[str]


def plan_folder(
    source: FolderSource, settings: Settings, policy: Policy, earlier: tuple[JobStore, Catalog] | None
) -> FolderPlan:
    """Look at the folder; of files that may have been stored ``earlier``, at their bytes too. Raises IngestError."""
    path, folder = look_into(source, settings)
    job = None if earlier is None else earlier[0].find(JobKind.FOLDER, str(path), folder.fingerprint)
    job_id = None if job is None or not job.is_done else job.successor or job.job_id
    if job_id is None:
        policy.check(folder.unhashed, settings.user)
        known = [] if earlier is None else _known(source, path, folder, *earlier)
    else:
        known = folder.files
    warnings = folder.warnings
    if earlier is not None and job_id is None:
        warnings += _stored_anew(earlier[0], path, source)
    known_bytes = sum(file.found.st_size for file in known)
    return FolderPlan(
        path=path,
        job_id=job_id,
        files=len(folder.files) - len(known),
        bytes=folder.total_bytes - known_bytes,
        known_files=len(known),
        known_bytes=known_bytes,
        left_out=folder.left_out,
        warnings=warnings,
    )


def _stored_anew(store: JobStore, path: Path, source: FolderSource) -> list[str]:
    jobs = completed_otherwise(store, path, source.request)
    if not jobs:
        return []
    return [f"ingested before with other metadata, by {_jobs(jobs)}: what that has is stored once more"]


def _jobs(job_ids: Sequence[int]) -> str:
    return f"{'job' if len(job_ids) == 1 else 'jobs'} {listed([*map(str, job_ids)])}"


def _known(source: FolderSource, path: Path, folder: Folder, store: JobStore, catalog: Catalog) -> Sequence[Entry]:
    jobs = completed(store, path, source.request)
    return known_files(folder, jobs, catalog) if jobs else []

"""How a file or a folder becomes a job."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from ..bundle.fingerprint import fingerprint, is_text
from ..bundle.folder import Folder, FolderRequest
from ..bundle.reader import require_bundle, require_document
from ..disk import explained
from ..errors import IngestError, JobBusy, SourceError
from ..jobs.job import Job, JobKind, JobState
from ..jobs.process import Process
from ..jobs.store import JobStore
from ..mounts import mounts_of, mounts_of_each
from ..services.base import UniqueId
from ..settings import Settings
from .selection import recorded_as
from .sources import left_in_place


def submit(
    store: JobStore,
    unique_id: UniqueId,
    kind: JobKind,
    source: Path,
    *,
    user: str,
    holder: Process | None = None,
    spooled: bool = False,
    origin: str = "",
    again: bool = False,
    peek: bool = False,
) -> Job:
    """Return the job of a file: the one that ingested it or that can still be resumed, else a new one.

    A new one is held by ``holder``, or waits in the queue; of the other arguments `NewFile` speaks. With ``again``, a
    file that was ingested gets a new job even so. Raises SourceError where the file cannot be read, ServiceUnavailable
    where no id can be reserved; with ``peek``, BundleError or MetadataError.
    """
    file = NewFile(kind, source, spooled, origin, peek)
    (job,) = submit_together(store, unique_id, [file], user=user, holder=holder, again=again)
    if isinstance(job, Exception):
        raise job
    return job


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file at ``source`` that is to have a job of this ``kind``.

    A ``spooled`` one is removed when the job is complete, and its ``origin`` is what it was made of. With ``peek`` it
    has none where its first bytes say that it is nothing of this kind.
    """

    kind: JobKind
    source: Path
    spooled: bool = False
    origin: str = ""
    peek: bool = False


@dataclass(frozen=True, slots=True)
class _New:
    """A file that has no job yet."""

    file: NewFile
    path: Path
    fingerprint: str


def submit_together(
    store: JobStore,
    unique_id: UniqueId,
    files: Sequence[NewFile],
    *,
    user: str,
    holder: Process | None = None,
    again: bool = False,
) -> list[Job | Exception]:
    """What `submit` returns or raises for each of these different files; their new jobs are entered together."""
    looked = [_look(store, file, again=again) for file in files]
    entered = iter(_enter(store, unique_id, [one for one in looked if isinstance(one, _New)], user, holder))
    return [next(entered) if isinstance(one, _New) else one for one in looked]


def _look(store: JobStore, file: NewFile, *, again: bool) -> "_New | Job | Exception":
    try:
        path, found_fingerprint, found = _find(store, file.kind, file.source, again=again)
        if found is None and file.peek:
            (require_document if file.kind is JobKind.MOVE else require_bundle)(path, file.origin or str(path))
    except Exception as error:  # noqa: BLE001 - it is of this file, and stops no other
        return error
    return _New(file, path, found_fingerprint) if found is None else found


def _enter(
    store: JobStore, unique_id: UniqueId, new: Sequence[_New], user: str, holder: Process | None
) -> Sequence[Job | Exception]:
    if not new:
        return []
    mounts = mounts_of_each([one.path] for one in new)
    try:
        first = unique_id.reserve("upload_job", len(new))
        with store.together():
            return [
                store.submit(
                    job_id,
                    kind=one.file.kind,
                    source=str(one.path),
                    fingerprint=one.fingerprint,
                    user=user,
                    holder=holder,
                    spooled=one.file.spooled,
                    mounts=mounts_of_one,
                    origin=one.file.origin,
                )
                for job_id, one, mounts_of_one in zip(count(first), new, mounts, strict=False)
            ]
    except IngestError as error:
        return [error] * len(new)


def _find(store: JobStore, kind: JobKind, source: Path, *, again: bool) -> tuple[Path, str, Job | None]:
    """Where a file lies, its fingerprint, and the job of it that a run may resume, or that ingested it before."""
    try:
        path = source.absolute()
    except FileNotFoundError as error:
        raise SourceError(f"cannot read {source}: the working directory is gone") from error
    _require_text(path, "file")
    found_fingerprint = fingerprint(path)
    found = store.find(kind, str(path), found_fingerprint)
    return path, found_fingerprint, None if found is not None and found.is_done and again else found


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder that is to be ingested as it lies, and how."""

    path: Path
    request: FolderRequest


def submit_folder(
    store: JobStore,
    unique_id: UniqueId,
    source: FolderSource,
    settings: Settings,
    *,
    holder: Process | None = None,
    again: bool = False,
) -> Job:
    """Return the job of a folder, as `submit` does of a file.

    A new one stores only what those jobs have not that are complete, of the same folder and with the same metadata;
    ``again``, all. Raises PackError too, where it could not be ingested, and JobBusy while another job of the folder is
    at work.
    """
    path, folder = look_into(source, settings)
    found = store.find(JobKind.FOLDER, str(path), folder.fingerprint)
    if found is not None and not (found.is_done and again):
        return found
    _require_idle(store, path)
    beyond = () if again else completed(store, path, source.request)
    return store.submit(
        unique_id.reserve("upload_job", 1),
        kind=JobKind.FOLDER,
        source=str(path),
        fingerprint=folder.fingerprint,
        user=settings.user,
        holder=holder,
        # Others may be mounted in the folder.
        mounts=mounts_of({path, *(file.path.parent for file in folder.files)}),
        request=replace(source.request, beyond=beyond).to_text(),
    )


def _require_idle(store: JobStore, path: Path) -> None:
    """Raise JobBusy while another job of the folder is at work: what that stores would be stored by this one too."""
    newest = store.of_source(path)
    if newest is not None and newest.state is JobState.RUNNING and not store.is_dead(newest):
        raise JobBusy(f"{path}: job {newest.job_id} is being worked on by {newest.holder}")


def look_into(source: FolderSource, settings: Settings) -> tuple[Path, Folder]:
    """Where a folder lies, links followed, and which of its files would be ingested. Raises as `submit_folder` does."""
    try:
        path = source.path.resolve(strict=True)
    except OSError as error:
        raise explained(error, f"cannot read {source.path}", SourceError, source.path) from error
    _require_text(path, "folder")
    return path, Folder(path, source.request, left_in_place(path, settings))


def completed(store: JobStore, path: Path, request: FolderRequest) -> tuple[int, ...]:
    """The jobs under whose ids the catalogue has what was in the folder before, in the order of its growth."""
    jobs = store.completed(JobKind.FOLDER, str(path))
    same = [job for job in jobs if FolderRequest.from_text(store.request(job.job_id)).is_of_the_same(request)]
    return tuple(dict.fromkeys(recorded_as(store, job.job_id) for job in same))


def completed_otherwise(store: JobStore, path: Path, request: FolderRequest) -> tuple[int, ...]:
    """The jobs under whose ids the catalogue has what was in the folder before, with other metadata."""
    jobs = [recorded_as(store, job.job_id) for job in store.completed(JobKind.FOLDER, str(path))]
    same = completed(store, path, request)
    return tuple(dict.fromkeys(job_id for job_id in jobs if job_id not in same))


def _require_text(path: Path, what: str) -> None:
    if not is_text(path):
        raise SourceError(f"the name {str(path)!r} is not valid UTF-8: rename the {what}")

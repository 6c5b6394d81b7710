"""How a file becomes a job."""

from pathlib import Path

from ..bundle.fingerprint import fingerprint, is_text
from ..errors import SourceError
from ..jobs.job import Job, JobKind
from ..jobs.process import Process
from ..jobs.store import JobStore
from ..mounts import mounts_of
from ..services.base import UniqueId


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
) -> Job:
    """Return the job of a file: the one that ingested it or that can still be resumed, else a new one.

    A new one is held by ``holder``, or waits in the queue. A ``spooled`` file is removed when the job is complete, and
    its ``origin`` is what it was made of. With ``again``, a file that was ingested gets a new job even so. Raises
    SourceError where the file cannot be read, ServiceUnavailable where no id can be reserved.
    """
    try:
        path = source.absolute()
    except FileNotFoundError as error:
        raise SourceError(f"cannot read {source}: the working directory is gone") from error
    if not is_text(path):
        raise SourceError(f"the name {str(path)!r} is not valid UTF-8: rename the file")
    found_fingerprint = fingerprint(path)
    found = store.find(kind, str(path), found_fingerprint)
    if found is not None and not (found.is_done and again):
        return found
    return store.submit(
        unique_id.reserve("upload_job", 1),
        kind=kind,
        source=str(path),
        fingerprint=found_fingerprint,
        user=user,
        holder=holder,
        spooled=spooled,
        mounts=mounts_of([path]),
        origin=origin,
    )

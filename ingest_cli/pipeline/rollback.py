"""Rolling back: removes from the archive what a job that failed, was discarded or is a duplicate has stored.

A job is in the state ``undoing`` before the first file is touched, so that no later run counts on its files, and it
leaves that state only when what was undone is durable. The catalogue is asked each time: what it has is complete.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ..bundle.metadata import Document
from ..bundle.reader import DocumentFile
from ..errors import ArchiveError, IngestError, LeaseLost, RollbackFailed, SourceError
from ..jobs.job import Job, JobKind
from ..jobs.lease import Lease
from ..services.base import Services
from ..text import listed, one_line
from .moved_files import require_unmodified
from .sources import came_over_http, real

LATER = "rolled back later, since"

log = logging.getLogger(__name__)


def roll_back(lease: Lease, services: Services, *, reached: int | None = None) -> Job:
    """Undo what the archive holds of a job in the state ``undoing``, and return the job as it is settled then.

    ``reached`` says that no run came to more than so many of the files; None that this is not known.
    It is complete where the catalogue has it, and held where something could not be undone. Raises what trying again
    may mend, as Unavailable: the job is then deferred, and undone by a later run.
    """
    try:
        reservation = lease.reservation
        assert reservation is not None, "a job without ids has nothing to undo"
        if services.catalog.bar(lease.job_id, reservation.ids, lease.fence.number):
            _release_sources(lease, services, reservation.ids)
            return lease.record()
        left = list(_undo_files(lease, services, reached))
    except LeaseLost:
        raise
    except IngestError as error:
        if error.transient:
            reason = lease.job.exception.partition(f"\n{LATER}")[0]
            lease.defer(lease.task, f"{reason}\n{LATER} {one_line(error)}", is_attempt=error.is_attempt)
            raise
        left = [str(error)]
    if left:
        return lease.hold(f"could not be rolled back: {listed(left)}")
    return lease.rolled_back()


def _release_sources(lease: Lease, services: Services, ids: range) -> None:
    """Remove the sources of a move that is recorded: its run came to the catalogue's word, and not further.

    Of a source that is not what the catalogue has, or may not be removed, the log tells.
    """
    sources = lease.sources()
    if sources is None:
        return
    lease.require_mounted(map(Path, sources))
    writer = services.archive.writer(ids, lease.fence.number, resumed=True, require=lease.require)
    lease.confirm()
    for file in services.catalog.files(lease.job_id):
        lease.require()
        source = Path(sources[file.file_id - ids.start])
        try:
            if os.path.lexists(source):
                require_unmodified(services.archive, file.file_id, source, file.hashtype, file.hashsum)
            writer.release(file.file_id, source, None)
        except ArchiveError as error:
            log.warning("job %d: %s", lease.job_id, error)
    writer.flush()
    writer.close()


def _undo_files(lease: Lease, services: Services, reached: int | None) -> Iterator[str]:
    """Undo every file of the reservation; yield what stays, and why."""
    reservation = lease.reservation
    if reservation is None:
        return
    sources = _sources(lease)
    if sources is not None:
        lease.require_mounted(sources)  # what is moved back must not come to lie below a disk that is away
    writer = services.archive.writer(reservation.ids, lease.fence.number, resumed=True, require=lease.require)
    lease.confirm()
    for position in reversed(range(reservation.count if reached is None else reached)):
        lease.require()
        file_id = reservation.ids[position]
        try:
            if sources is None:
                writer.delete(file_id)
            else:
                if came_over_http(lease.job) and services.archive.stat(file_id) is not None:
                    _require_place(sources[position])
                writer.move_back(file_id, sources[position])
        except IngestError as error:
            if error.transient:
                raise
            yield f"file {file_id} ({error})"
    writer.flush()
    writer.close()


def _require_place(source: Path) -> None:
    """Raise RollbackFailed where a file would come to lie elsewhere than where it was taken from, by a link."""
    if real(source.parent) != source.parent:
        raise RollbackFailed(f"{source.parent} is reached by a link now, and {source.name} is not moved back there")


def _sources(lease: Lease) -> list[Path] | None:
    """Where the files of a move came from; None for others, which stay where they are."""
    job = lease.job
    if job.kind is not JobKind.MOVE:
        return None
    noted = lease.sources()
    if noted is not None:
        return [Path(source) for source in noted]
    # Entered by a version that noted no sources: only the document knows them.
    with DocumentFile(Path(job.source)) as file:
        document = Document.parse(file.pieces())
    if document.digest != job.digest:
        raise SourceError(f"{job.source} was changed, and no longer says where the job's files came from")
    if any(entry.source is None for entry in document.files):
        raise RollbackFailed(f"{job.source} does not say where the job's files came from")
    return [Path(str(entry.source)) for entry in document.files]

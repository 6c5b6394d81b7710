"""What a job is of that lies in the spool: how a run comes by it, and how it goes when the job is done.

A file of the spool folder is read where it lies. What lies in the spool that several hosts share is got into a nameless
file of this host's spool folder first, as a packed bundle is unpacked into one: all that reads a bundle, and that hands
its bytes to threads and to the archive, reads a file. That takes room on the disk for as long as the run lasts, but no
memory; of a run that is killed nothing is left.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle.reader import Fetched
from ..errors import IngestError, SourceError
from ..jobs.job import Job
from ..settings import Settings
from ..settings.options import SHARED_SPOOL
from ..spool.opening import open_shared

if TYPE_CHECKING:
    from ..spool.shared import SharedSpool


def fetched(
    job: Job, settings: Settings, require: Callable[[], None], observe: Callable[[int], None]
) -> Fetched | None:
    """What the job is of, got from the shared spool; None where it lies on this host.

    ``require`` and ``observe`` are called as by a `Bundle`. Raises SourceError where it is gone, ResourceUnavailable
    and ServiceUnavailable.
    """
    if not job.is_shared:
        return None
    with _shared(job, settings) as spool:
        return spool.fetch(job.source, settings.spool, require, observe)


def fingerprint_of_shared(job: Job, settings: Settings) -> str:
    """The fingerprint of what lies in the shared spool."""
    with _shared(job, settings) as spool:
        return spool.fingerprint(job.source)


def remove_spooled(job: Job, settings: Settings) -> None:
    """Remove what a spooled job is of. Where that fails it is removed with what else in the spool is orphaned."""
    with suppress(OSError, IngestError):
        if job.is_shared:
            with _shared(job, settings) as spool:
                spool.remove_bytes(job.source)
        else:
            Path(job.source).unlink()


@contextmanager
def _shared(job: Job, settings: Settings) -> "Iterator[SharedSpool]":
    spool = open_shared(settings)
    if spool is None:
        raise SourceError(f"{job.source} lies in a shared spool, but {settings.where(SHARED_SPOOL)} names none")
    try:
        yield spool
    finally:
        spool.close()

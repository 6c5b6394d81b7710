"""What a job is of that lies in the spool: how a run comes by it, and how it goes when the job is done.

A file of the spool folder is read where it lies. What lies in the spool that several hosts share is got into a nameless
file of this host's spool folder first, as a packed bundle is unpacked into one: all that reads a bundle, and that hands
its bytes to threads and to the archive, reads a file. That takes room on the disk for as long as the run lasts, but no
memory; of a run that is killed nothing is left.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..bundle.reader import Fetched
from ..disk import close_in_vain
from ..errors import IngestError, ResourceUnavailable
from ..jobs.job import Job
from ..settings import Settings
from ..settings.options import SHARED_SPOOL
from ..spool.opening import open_shared
from .small import begins_plain

if TYPE_CHECKING:
    from ..spool.shared import SharedSpool

# How often whoever waits for another's turn looks whether it is to go on.
TURN_SECONDS = 0.1


class Spooled:
    """What jobs of a site are of that lies in its spool, for any number of threads.

    The shared spool is opened when it is used first, and kept open to the end of a ``with`` block, if there is one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._keeps = settings, False
        self._kept: SharedSpool | None = None
        self._lock, self._unpacking = threading.Lock(), threading.Lock()

    def __enter__(self) -> Self:
        self._keeps = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()

    def fetch(self, job: Job, require: Callable[[], None], observe: Callable[[int], None]) -> Fetched | None:
        """What the job is of, got from the shared spool; None where it lies on this host.

        ``require`` and ``observe`` are called as by a `Bundle`. Raises SourceError where it is gone,
        ResourceUnavailable and ServiceUnavailable.
        """
        if not job.is_shared:
            return None
        with self._shared(job) as spool:
            return spool.fetch(job.source, self._settings.spool, require, observe)

    @contextmanager
    def in_turn(self, fetched: Fetched | None, require: Callable[[], None]) -> Iterator[None]:
        """Have no other thread read what was fetched packed at the same time: nobody knows how much that holds.

        ``require`` is called while it is waited for.
        """
        if fetched is None or begins_plain(fetched.file.fileno()):
            yield
            return
        try:
            while not self._unpacking.acquire(timeout=TURN_SECONDS):
                require()
        except BaseException:
            close_in_vain(fetched.file)
            raise
        try:
            yield
        finally:
            self._unpacking.release()

    def is_within(self, job: Job, length: int) -> bool:
        """Whether what the job is of lies in the shared spool, and is not longer; False where that cannot be asked."""
        with suppress(IngestError), self._shared(job) as spool:
            found = spool.length_of(job.source)
            return found is not None and found <= length
        return False

    def fingerprint_of_shared(self, job: Job) -> str:
        """The fingerprint of what lies in the shared spool."""
        with self._shared(job) as spool:
            return spool.fingerprint(job.source)

    def remove(self, job: Job) -> None:
        """Remove what a spooled job is of. Where that fails it is removed with what else in the spool is orphaned."""
        with suppress(OSError, IngestError):
            if job.is_shared:
                with self._shared(job) as spool:
                    spool.remove_bytes(job.source)
            else:
                Path(job.source).unlink()

    @contextmanager
    def _shared(self, job: Job) -> "Iterator[SharedSpool]":
        with self._lock:
            spool = self._kept or open_shared(self._settings)
            if self._keeps:
                self._kept = spool
        if spool is None:
            # Another host may know better.
            named = self._settings.where(SHARED_SPOOL)
            raise ResourceUnavailable(f"{job.source} lies in a shared spool, but {named} names none")
        with nullcontext(spool) if self._keeps else closing(spool):
            yield spool

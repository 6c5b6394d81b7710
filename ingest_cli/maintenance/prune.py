"""What can be pruned: jobs that ended and events that were sent long ago, and orphaned files in the spool."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..jobs.job import Job
from ..jobs.orphans import orphans, remove_orphan
from ..jobs.store import JobStore
from ..mounts import is_away
from ..settings import Settings
from ..spool.opening import open_shared

if TYPE_CHECKING:
    from ..spool.shared import SharedSpool

T = TypeVar("T")

# So many jobs, or events, are in memory at once, and nobody who wants to change a job waits for longer than it takes to
# remove them.
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Prunable:
    """What can be pruned.

    Of the ``shared`` spool, where there is one, those are the jobs' ``uploads``, uploads that were ``left``, and
    ``objects`` that belong to none.
    """

    jobs: list[Job] = field(default_factory=list)
    spooled: list[Path] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    shared: "SharedSpool | None" = None

    @property
    def files(self) -> list[Path | str]:
        """The jobs' own files in the spool, and the orphaned ones; in the shared spool uploads and objects, as URLs."""
        objects = [] if self.shared is None else map(self.shared.bucket.location, self.objects)
        return list(dict.fromkeys([*self.spooled, *self.orphans, *self.uploads, *self.left, *objects]))

    def remove(self, store: JobStore) -> None:
        """Remove it, except what is needed again by now."""
        forgotten = set(store.forget([job.job_id for job in self.jobs])) if self.jobs else set()
        needed = {job.source for job in self.jobs if job.job_id not in forgotten}
        for path in self.spooled:
            if str(path) not in needed:
                path.unlink(missing_ok=True)
        for path in self.orphans:
            remove_orphan(path, store)
        if self.shared is not None:
            for source in self.uploads:
                if source not in needed:
                    self.shared.remove(source)
            for source in self.left:
                self.shared.remove_left(source)
            self.shared.forget(self.objects)
        if self.events:
            store.outbox.forget(self.events)


def find_prunable(settings: Settings, store: JobStore, age: timedelta) -> Iterator[Prunable]:
    """The jobs that ended more than ``age`` ago, the events that were sent by then, and the spool's orphans, in pieces.

    A piece can be removed before the next is looked for. Whoever stops in between has removed the pieces before, and
    finds the others again.
    A job whose file still lies where it was, or whose disk is not mounted, stays: that is how the file is known, and
    not ingested again. A file that is ours, in the spool, goes with its job.
    """
    moment, of_jobs = datetime.now(UTC) - age, set[Path]()
    shared = open_shared(settings)
    for settled in _pages(
        lambda after: store.settled_before(moment, after=after, limit=AT_ONCE), lambda job: job.job_id
    ):
        jobs = [job for job in settled if job.spooled or _is_gone(job, store)]
        local = [job for job in jobs if job.spooled and not job.is_shared]
        spooled = [Path(job.source) for job in local if os.path.lexists(job.source)]
        of_jobs.update(spooled)
        uploads = [] if shared is None else shared.there([job.source for job in jobs if job.is_shared])
        yield Prunable(jobs=jobs, spooled=spooled, uploads=uploads, shared=shared)
    yield Prunable(orphans=[path for path in orphans(settings.spool, store) if path not in of_jobs])
    if shared is not None:
        yield Prunable(left=shared.expired(store), shared=shared)
        for objects in shared.orphans():
            yield Prunable(objects=objects, shared=shared)
        shared.close()
    for events in _pages(
        lambda after: store.outbox.removable(moment, after=after, limit=AT_ONCE), lambda number: number
    ):
        yield Prunable(events=events)


def _pages(page: Callable[[int], list[T]], number: Callable[[T], int]) -> Iterator[list[T]]:
    """What is found in pages, each of which comes ``after`` the last number of the one before."""
    after = 0
    while found := page(after):
        yield found
        after = number(found[-1])


def _is_gone(job: Job, store: JobStore) -> bool:
    """Whether the job's file surely is not where it was."""
    try:
        Path(job.source).stat()
    except (FileNotFoundError, NotADirectoryError):
        return not any(map(is_away, store.mounts(job.job_id)))
    except OSError:  # such as a share that does not answer
        return False
    return False

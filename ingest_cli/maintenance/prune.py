"""What can be pruned: jobs that ended and events that were sent long ago, and orphaned files in the spool."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..jobs.job import Job
from ..jobs.orphans import orphans, remove_orphan
from ..jobs.store import JobStore
from ..mounts import is_away
from ..settings import Settings


@dataclass(frozen=True, slots=True)
class Prunable:
    """What can be pruned."""

    jobs: list[Job]
    spooled: list[Path]
    orphans: list[Path]
    events: list[int]

    @property
    def files(self) -> list[Path]:
        """The jobs' own files in the spool, and the orphaned ones."""
        return list(dict.fromkeys([*self.spooled, *self.orphans]))

    def remove(self, store: JobStore) -> None:
        """Remove it, except what is needed again by now."""
        forgotten = set(store.forget([job.job_id for job in self.jobs]))
        needed = {job.source for job in self.jobs if job.job_id not in forgotten}
        for path in self.spooled:
            if str(path) not in needed:
                path.unlink(missing_ok=True)
        for path in self.orphans:
            remove_orphan(path, store)
        store.outbox.forget(self.events)


def find_prunable(settings: Settings, store: JobStore, age: timedelta) -> Prunable:
    """The jobs that ended more than ``age`` ago, the events that were sent by then, and the spool's orphans.

    A job whose file still lies where it was, or whose disk is not mounted, stays: that is how the file is known, and
    not ingested again. A file that is ours, in the spool, goes with its job.
    """
    moment = datetime.now(UTC) - age
    settled = store.settled_before(moment)
    jobs = [job for job in settled if job.spooled or _is_gone(job, store)]
    spooled = [Path(job.source) for job in jobs if job.spooled and os.path.lexists(job.source)]
    return Prunable(jobs, spooled, orphans(settings.spool, store), store.outbox.removable(moment))


def _is_gone(job: Job, store: JobStore) -> bool:
    """Whether the job's file surely is not where it was."""
    try:
        Path(job.source).stat()
    except (FileNotFoundError, NotADirectoryError):
        return not any(map(is_away, store.mounts(job.job_id)))
    except OSError:  # such as a share that does not answer
        return False
    return False

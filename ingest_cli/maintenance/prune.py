"""What can be pruned: jobs that ended long ago, and orphaned files in the spool."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..jobs.job import Job
from ..jobs.spool import orphans
from ..jobs.store import JobStore
from ..settings import Settings


@dataclass(frozen=True, slots=True)
class Prunable:
    """What can be pruned."""

    jobs: list[Job]
    files: list[Path]

    def remove(self, store: JobStore) -> None:
        """Remove it, except what is needed again by now."""
        forgotten = set(store.forget([job.job_id for job in self.jobs]))
        needed = {job.source for job in self.jobs if job.job_id not in forgotten}
        for path in self.files:
            if str(path) not in needed:
                path.unlink(missing_ok=True)


def find_prunable(settings: Settings, store: JobStore, age: timedelta) -> Prunable:
    """The jobs that ended more than ``age`` ago, and the spool's orphans.

    A job whose file still lies where it was stays: that is how the file is known, and not ingested again. A file that
    is ours, in the spool, goes with its job.
    """
    jobs = [
        job for job in store.settled_before(datetime.now(UTC) - age) if job.spooled or not Path(job.source).exists()
    ]
    files = [Path(job.source) for job in jobs if job.spooled and Path(job.source).exists()]
    files += orphans(settings.spool, store)
    return Prunable(jobs, list(dict.fromkeys(files)))

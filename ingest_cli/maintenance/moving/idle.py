"""Whether anybody works on the jobs of a store that is to be moved."""

import time

from ...errors import JobBusy
from ...jobs.job import Job, JobState
from ...jobs.process import Life
from ...jobs.store import JobStore

LOOK_SECONDS = 0.2


def require_idle(store: JobStore) -> None:
    """Raise JobBusy where a job has a holder that lives, having waited until that is known."""
    seen: dict[int, Job] = {}
    while living := [job for job in _held(store) if not store.is_dead(job)]:
        for job in living:
            assert job.holder is not None
            is_seen_to_live = job.holder.life() is not Life.OUT_OF_SIGHT or _has_changed(job, seen)
            if is_seen_to_live:
                raise JobBusy(
                    f"job {job.job_id} is being worked on by {job.holder}: end the workers, servers and watchers first"
                )
            seen.setdefault(job.job_id, job)
        time.sleep(LOOK_SECONDS)


def _held(store: JobStore) -> list[Job]:
    return [job for job in store.in_states({JobState.RUNNING, JobState.UNDOING}) if job.holder is not None]


def _has_changed(job: Job, seen: dict[int, Job]) -> bool:
    before = seen.get(job.job_id, job)
    return (before.fence, before.heartbeat) != (job.fence, job.heartbeat)

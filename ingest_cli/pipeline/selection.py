"""Selects jobs: the failed ones, the interrupted ones, the one that was recorded."""

from ..errors import JobNotFound
from ..jobs.job import UNFINISHED, Job, JobState
from ..jobs.store import JobStore


def failed_jobs(store: JobStore) -> list[Job]:
    """The jobs that failed, are held, or are deferred: all that Pacifica's clients see as FAILED, oldest first, but not
    those that were discarded."""
    jobs = store.in_states([JobState.FAILED, JobState.HELD, JobState.QUEUED])
    return [job for job in jobs if job.has_failed or job.is_deferred]


def interrupted_jobs(store: JobStore) -> list[Job]:
    """The jobs that a run left in good order for another one, and those whose run died, oldest first."""
    jobs = store.in_states(UNFINISHED)
    return [job for job in jobs if job.is_interrupted or (job.holder is not None and store.is_dead(job))]


def recorded_as(store: JobStore, job_id: int) -> int:
    """The job under whose id the catalogue has the content of this one: of a duplicate or superseded one another."""
    try:
        job = store.get(job_id)
    except JobNotFound:
        return job_id  # the catalogue may have jobs that the store has forgotten
    return job_id if job.successor is None else recorded_as(store, job.successor)

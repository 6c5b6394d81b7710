"""Selects jobs: the failed ones, the interrupted ones, the one that was recorded."""

from dataclasses import replace

from ..errors import JobNotFound, JobNotRecorded
from ..jobs.filter import JobFilter
from ..jobs.job import UNFINISHED, Job, JobState
from ..jobs.store import JobStore
from ..services.base import Catalog


def failed_jobs(store: JobStore) -> list[Job]:
    """The jobs that failed, are held, or are deferred: all that Pacifica's clients see as FAILED, oldest first, but not
    those that were discarded."""
    jobs = store.in_states([JobState.FAILED, JobState.HELD, JobState.QUEUED])
    return [job for job in jobs if job.has_failed or job.is_deferred]


def interrupted_jobs(store: JobStore) -> list[Job]:
    """The jobs that a run left in good order for another one, and those whose run died, oldest first."""
    jobs = store.in_states(UNFINISHED)
    return [job for job in jobs if job.is_interrupted or (job.holder is not None and store.is_dead(job))]


def chosen_jobs(store: JobStore, wanted: JobFilter, *, interrupted: bool = False) -> list[Job]:
    """The jobs that are wanted, in order of their ids; those that were ``interrupted`` too, whatever their status, of
    which all else that is wanted is true."""
    jobs = store.select(wanted, descending=False) if wanted.statuses else []
    if interrupted:
        ids = {job.job_id for job in interrupted_jobs(store)} - {job.job_id for job in jobs}
        others = store.select(replace(wanted, statuses=frozenset()), descending=False)
        jobs = sorted([*jobs, *(job for job in others if job.job_id in ids)], key=lambda job: job.job_id)
    return jobs


def recorded_as(store: JobStore, job_id: int) -> int:
    """The job under whose id the catalogue has the content of this one: of a duplicate or superseded one another."""
    try:
        job = store.get(job_id)
    except JobNotFound:
        return job_id  # the catalogue may have jobs that the store has forgotten
    return job_id if job.successor is None else recorded_as(store, job.successor)


def is_of_user(store: JobStore, job_id: int, user: str) -> bool:
    """Whether the store has the job, and it was submitted in this user's name."""
    try:
        return store.get(job_id).user == user
    except JobNotFound:
        return False


def require_recorded(store: JobStore, catalog: Catalog, job_id: int) -> int:
    """The job under whose id the catalogue has the content of this one. Raises JobNotRecorded, which says why."""
    recorded = recorded_as(store, job_id)
    if not catalog.contains(recorded):
        raise JobNotRecorded(f"the catalogue has no record of job {recorded}: {_why_not_recorded(store, recorded)}")
    return recorded


def _why_not_recorded(store: JobStore, job_id: int) -> str:
    if store.imported(job_id) is not None:
        return "Pacifica Ingest ran it, and only its state was imported"
    try:
        job = store.get(job_id)
    except JobNotFound:
        return "there is no such job"
    if job.state in UNFINISHED:
        return f"it is {job.status}, and not complete yet"
    if job.is_done:
        return "another catalogue was in use when it was recorded"
    ended = "it failed" if job.state is JobState.FAILED else f"it is {job.status}"
    return f"{ended}; 'ingest state {job_id}' says why"

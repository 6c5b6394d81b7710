"""Selects jobs: the failed ones, the interrupted ones, the one that was recorded."""

from dataclasses import replace

from ..errors import JobNotFound, JobNotRecorded
from ..jobs.filter import DEFERRED, FAILED, RUNNING, JobFilter
from ..jobs.job import UNFINISHED, JobState, JobStatus
from ..jobs.store import JobStore
from ..services.base import Catalog


def failed_jobs(store: JobStore) -> list[int]:
    """The ids of the jobs that failed, are held, or are deferred: all that Pacifica's clients see as FAILED, lowest
    first, but not those that were discarded."""
    return store.ids(JobFilter(statuses=FAILED | DEFERRED))


def interrupted_jobs(store: JobStore) -> list[int]:
    """The ids of the jobs that a run left in good order for another one, and of those whose run died, lowest first."""
    left = store.ids(JobFilter(statuses=frozenset({JobStatus.INTERRUPTED})))
    dead = [
        job.job_id
        for job in store.in_states([JobState.RUNNING, JobState.UNDOING])
        if job.holder is not None and store.is_dead(job)
    ]
    return sorted([*left, *dead])


def chosen_jobs(store: JobStore, wanted: JobFilter, *, interrupted: bool = False) -> list[int]:
    """The ids of the jobs that are wanted, lowest first; of those that were ``interrupted`` too, whatever their status,
    of which all else that is wanted is true."""
    job_ids = store.ids(wanted) if wanted.statuses else []
    if not interrupted:
        return job_ids
    others = store.ids(replace(wanted, statuses=RUNNING | {JobStatus.INTERRUPTED}))
    return sorted({*job_ids, *others}.intersection([*job_ids, *interrupted_jobs(store)]))


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

"""How an administrator sets the state of a job by hand, or discards a job.

A job that is running has a holder, which carries out what is asked; otherwise it is done here and at once.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from ..errors import IngestError, JobBusy, JobNotRecorded, RollbackFailed, WrongState
from ..jobs.interruption import Interruption
from ..jobs.job import UNFINISHED, Job, JobState, Override, PacificaState
from ..jobs.lease import Lease
from ..jobs.process import this_process
from ..jobs.stages import INGEST_METADATA
from ..jobs.store import JobStore
from ..services.base import Services
from ..settings import Timings
from .rollback import roll_back

Connect = Callable[[], AbstractContextManager[Services]]


def settle_by_hand(store: JobStore, job_id: int, override: Override, timings: Timings, connect: Connect) -> Job:
    """Override the job's state, and return the job as it is then.

    FAILED rolls back what it stored; OK runs it again if it failed. ``connect`` is only called where something must be
    rolled back. Raises JobNotRecorded rather than set a job to complete that the catalogue has no record of.
    """
    job = store.get(job_id)
    wants_completion = override.task == INGEST_METADATA and override.task_percent == 100
    if override.state is PacificaState.OK:
        if wants_completion and not job.is_done:
            raise JobNotRecorded(f"job {job_id} cannot be set to complete: the catalogue has no record of it")
        if job.state in (JobState.FAILED, JobState.HELD):
            store.retry(job_id)
        return store.override(job_id, override)
    works = job.state in UNFINISHED and not store.is_dead(job)
    if works or job.state not in (*UNFINISHED, JobState.HELD):
        return store.override(job_id, override)
    return _undo(store, store.end(job_id, JobState.FAILED, holder=this_process(), override=override), timings, connect)


def cancel(store: JobStore, job_id: int, reason: str, timings: Timings, connect: Connect) -> Job:
    """End a job that has not ended: a process that works on it stops and discards it; otherwise that is done here.

    Raises WrongState where it has ended in another way, and what `discard` raises.
    """
    job = store.get(job_id)
    if job.state not in (*UNFINISHED, JobState.DISCARDED):
        hint = "" if job.is_done or job.successor else f"; 'ingest discard {job_id}' abandons it"
        is_what = "has failed" if job.state is JobState.FAILED else f"is {job.status}"
        raise WrongState(f"job {job_id} cannot be cancelled: it {is_what}{hint}")
    wish = Override(PacificaState.FAILED, job.task, job.task_percent, reason, discards=True)
    if store.is_dead(job):
        with suppress(JobBusy):  # which a worker has just taken up
            return discard(store, job_id, timings, connect, override=wish)
    if job.state is JobState.UNDOING:
        return job
    try:
        return store.cancel(job_id, wish)
    except WrongState:
        if store.get(job_id).state is not JobState.QUEUED:
            raise
        # Its process has just let go of it.
        return discard(store, job_id, timings, connect, override=wish)


def discard(
    store: JobStore, job_id: int, timings: Timings, connect: Connect, *, override: Override | None = None
) -> Job:
    """Discard a job that is not complete: roll back what the archive holds of it.

    Raises JobBusy while a process works on it, RollbackFailed where something cannot be rolled back (the job is then
    held), and ServiceUnavailable where that must wait for a service (the job is then deferred).
    """
    recorded = IngestError(f"job {job_id} cannot be discarded: it is recorded in the catalogue")
    job = store.get(job_id)
    if job.is_done:
        raise recorded
    if job.state is JobState.DISCARDED:
        return job
    job = _undo(
        store, store.end(job_id, JobState.DISCARDED, holder=this_process(), override=override), timings, connect
    )
    if job.state is JobState.COMPLETE:
        raise recorded
    if job.state is JobState.HELD:
        raise RollbackFailed(f"job {job_id} is held: {job.exception.splitlines()[-1]}")
    return job


def _undo(store: JobStore, job: Job, timings: Timings, connect: Connect) -> Job:
    if job.state is not JobState.UNDOING:
        return job
    lease = Lease(store, job, timings, Interruption())
    try:
        with lease.kept_alive(), connect() as services:
            return roll_back(lease, services)
    except BaseException:
        if store.get(job.job_id).fence == job.fence and store.get(job.job_id).holder is not None:
            lease.requeue()
        raise

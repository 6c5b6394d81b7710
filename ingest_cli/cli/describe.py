"""A job's state in words, having checked whether its process is alive."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..jobs.job import Job
    from ..jobs.store import JobStore


def describe(job: "Job", store: "JobStore | None" = None) -> str:
    """The state in a word. With the ``store``, also whether the job's holder is alive or stopped."""
    from ..jobs.job import JobState
    from ..jobs.process import Life

    if job.state in (JobState.RUNNING, JobState.UNDOING) and job.holder is not None and store is not None:
        if job.holder.life() is Life.STOPPED:
            return "stopped"
        if store.is_dead(job):
            return "interrupted"
    return str(job.status)


def describe_fully(job: "Job", store: "JobStore") -> str:
    """The state in a sentence: where, since when, until when, or why."""
    word = describe(job, store)
    if job.holder is not None and word in ("running", "undoing"):
        return f"{word}: {job.holder}, since {job.began[:19]} UTC, last heartbeat {job.updated[:19]} UTC"
    if word == "stopped":
        return f"stopped: {job.holder} is suspended, and resumes the job when continued"
    if word == "interrupted":
        died = f"{job.holder} died; " if job.holder is not None else ""
        return f"interrupted: {died}'ingest retry {job.job_id}' or a worker resumes it"
    if job.is_deferred:
        return f"{word}: it is retried at {job.retried_at} UTC"
    if word == "duplicate":
        return f"duplicate of job {job.successor}"
    if word == "superseded":
        return f"superseded by job {job.successor}, which took over what it had stored"
    if word == "held":
        return f"held: 'ingest retry {job.job_id}' resumes it, 'ingest discard {job.job_id}' abandons it"
    return word

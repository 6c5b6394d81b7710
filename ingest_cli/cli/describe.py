"""A job's state in words, having checked whether its process is alive."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..text import ago, until

if TYPE_CHECKING:
    from ..jobs.job import Job
    from ..jobs.store import JobStore

WORKING = ("running", "undoing", "stopped")


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


def describe_fully(job: "Job", word: str) -> str:
    """The state that is called by this ``word`` in a sentence: where, since when, until when, or why."""
    if word in ("running", "undoing") and job.holder is not None:
        return f"{word}: {job.holder}, since {job.began[:19]} UTC, last heartbeat {job.updated[:19]} UTC"
    if word == "stopped":
        return f"stopped: {job.holder} is suspended, and resumes the job when continued"
    if word == "interrupted" and job.holder is not None:
        return f"interrupted: {job.holder} died"
    if word == "deferred":
        return f"deferred: it is retried at {job.retried_at} UTC"
    if word == "duplicate":
        return f"duplicate of job {job.successor}"
    if word == "superseded":
        return f"superseded by job {job.successor}, which took over what it had stored"
    return word


def details(job: "Job", word: str, now: datetime | None = None) -> str:
    """What there is to know besides the state's ``word``, in a line: where the job is, or why it is there.

    When a deferred job is due is told as seen from ``now``, else as a time of UTC.
    """
    reason = job.with_name(job.exception.partition("\n")[0])
    if job.override is not None:
        by_hand = job.override.exception.partition("\n")[0]
        if job.override.discards:
            return by_hand
        return ": ".join(filter(None, [f"set to {job.override.state} by hand", by_hand or reason]))
    if word == "deferred":
        due = datetime.fromtimestamp(job.retry_at, UTC)
        when = f"until {job.retried_at}" if now is None else until(due, now)
        return ": ".join(filter(None, [when, reason]))
    if word in WORKING:
        return reason or f"{job.task} {job.task_percent:.0f}%"
    if word == "interrupted":
        return reason or f"at {job.task}"
    if word == "duplicate":
        return f"of job {job.successor}"
    return f"by job {job.successor}" if word == "superseded" else reason


def since(moment: str, now: datetime | None) -> str:
    """When a moment of the job store was: how long before ``now``, else as a time of UTC."""
    return moment[:19] if now is None else ago(datetime.fromisoformat(moment).replace(tzinfo=UTC), now)

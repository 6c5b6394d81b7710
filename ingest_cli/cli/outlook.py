"""What will become of a job, and what a person can do about it."""

from collections.abc import Callable
from dataclasses import dataclass

from ..jobs.job import Job, JobState
from ..text import counted


@dataclass(frozen=True, slots=True)
class Outlook:
    """What comes ``next``, and which commands a person can give: each with what it does."""

    next: str
    commands: dict[str, str]


def outlook(job: Job, word: str) -> Outlook:
    """The outlook of a job whose state is called by this ``word``."""
    return OUTLOOKS[word](job)


def _waiting(job: Job) -> Outlook:
    return Outlook("it is run once a worker is free", _run_now(job) | _cancel(job))


def _deferred(job: Job) -> Outlook:
    return Outlook(f"a worker retries it, not before {job.retried_at} UTC", _run_now(job) | _cancel(job))


def _interrupted(job: Job) -> Outlook:
    return Outlook("a worker resumes it", {f"ingest retry {job.job_id}": "resumes it now"} | _cancel(job))


def _running(job: Job) -> Outlook:
    return Outlook("it goes on", _cancel(job))


def _stopped(job: Job) -> Outlook:
    holder = job.holder
    continues = {f"kill -CONT {holder.pid}": f"continues it, on {holder.host}"} if holder is not None else {}
    return Outlook("nothing, while its process is suspended", continues)


def _undoing(job: Job) -> Outlook:
    to = job.undo_to or JobState.FAILED
    return Outlook(f"what is stored of it is rolled back; then it is {to}", {})


def _held(job: Job) -> Outlook:
    left = "nothing by itself: some of what is stored of it could not be rolled back"
    return Outlook(left, {f"ingest retry {job.job_id}": "resumes it"} | _give_up(job))


def _failed(job: Job) -> Outlook:
    again = {f"ingest retry {job.job_id}": "runs it again, once the cause is mended"}
    return Outlook("nothing: it failed for good, and nothing of it is stored", again | _give_up(job))


def _discarded(_: Job) -> Outlook:
    return Outlook("nothing: it was given up, and nothing of it is stored; the same can be ingested as a new job", {})


def _complete(job: Job) -> Outlook:
    return Outlook(
        f"nothing: {counted(job.files, 'file')} and {'its' if job.files == 1 else 'their'} metadata are stored",
        {
            f"ingest ls {job.job_id}": "lists its files",
            f"ingest verify {job.job_id}": "checks what is stored of it",
            f"ingest restore {job.job_id} --to FOLDER": "gets its files back",
        },
    )


def _duplicate(job: Job) -> Outlook:
    return Outlook(f"nothing: job {job.successor} stored the same before", _see_successor(job))


def _superseded(job: Job) -> Outlook:
    return Outlook(f"nothing: job {job.successor} took over what it had stored", _see_successor(job))


def _run_now(job: Job) -> dict[str, str]:
    return {f"ingest retry {job.job_id}": "runs it now"}


def _cancel(job: Job) -> dict[str, str]:
    return {f"ingest cancel {job.job_id}": "ends it; nothing of it stays stored"}


def _give_up(job: Job) -> dict[str, str]:
    return {f"ingest discard {job.job_id}": "gives it up; nothing of it stays stored"}


def _see_successor(job: Job) -> dict[str, str]:
    return {f"ingest state {job.successor}": "shows that job"}


OUTLOOKS: dict[str, Callable[[Job], Outlook]] = {
    "waiting": _waiting,
    "deferred": _deferred,
    "interrupted": _interrupted,
    "running": _running,
    "stopped": _stopped,
    "undoing": _undoing,
    "held": _held,
    "failed": _failed,
    "discarded": _discarded,
    "complete": _complete,
    "duplicate": _duplicate,
    "superseded": _superseded,
}

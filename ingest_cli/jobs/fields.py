"""A job as programs are told of it: by every command, event and answer in the same fields."""

from collections.abc import Iterable
from typing import Any

from .history import Line
from .imported import ImportedJob
from .job import Job
from .places import Place


def naming_fields(job: Job) -> dict[str, Any]:
    """What says which job it is, and what of: of an event that tells of something else."""
    return {
        "job_id": job.job_id,
        "status": str(job.status),
        "source": job.source,
        "origin": job.name,
        "files": job.files,
        "bytes": job.bytes,
        "duplicate_of": job.duplicate_of,
    }


def job_fields(job: Job) -> dict[str, Any]:
    """All that programs are told of a job: first what Pacifica's clients are, then what these do not know."""
    return {
        **job.as_state(),
        **naming_fields(job),
        "kind": str(job.kind),
        "user": job.user,
        "stored": job.stored,
        "running": job.holder is not None,
        "attempts": job.attempts,
        "retried_at": job.retried_at if job.will_be_tried_again else None,
    }


def place_fields(job: Job, place: Place | None) -> dict[str, Any]:
    """Where the job stands in the queues of several hosts; nothing where one host has the store."""
    if place is None:
        return {}
    waits = place.waits_for(job)
    return {"queue": place.queue, "priority": place.priority, "waits_for": None if waits is None else str(waits)}


def history_fields(lines: Iterable[Line]) -> list[dict[str, str]]:
    """What was told of a job, as the field ``log`` has it."""
    return [{"time": line.moment, "text": line.text} for line in lines]


def imported_fields(job: ImportedJob) -> dict[str, Any]:
    """The same fields of a job that another service had: those that it did not tell are None."""
    return {
        **job.as_state(),
        "status": "imported",
        "source": "",
        "origin": "Pacifica Ingest",
        **dict.fromkeys(("files", "bytes", "duplicate_of", "kind", "user", "stored")),
        "running": False,
        **dict.fromkeys(("attempts", "retried_at")),
    }

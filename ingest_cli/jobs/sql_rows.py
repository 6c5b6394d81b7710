"""A job as a row of the store, and back."""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import UTC, datetime

from .database import Row
from .imported import ImportedJob
from .job import Job, JobKind, JobState, Override, PacificaState, Reservation
from .process import Process

# As many rows as there can be.
ALL_ROWS = (1 << 63) - 1
# By their names: what a newer version adds is nothing to a process that is at work meanwhile.
COLUMNS = (
    'job_id, kind, source, fingerprint, "user", spooled, origin, state, task, task_percent, exception, created,'
    " updated, began, digest, files, bytes, attempts, waits, retry_at, fence, holder, heartbeat, undo_to, successor,"
    " said"
)
IMPORTED = tuple(field.name for field in fields(ImportedJob))
SELECT = (
    f"SELECT jobs.{COLUMNS}, first_file_id, count AS reserved, stored FROM jobs LEFT JOIN reservations"
    " ON reservations.job_id = jobs.job_id"
)


def job_of(row: Row) -> Job:
    """The job of a row that `SELECT` gave."""
    columns = dict(zip(row.keys(), row, strict=True))
    first, count, stored = (columns.pop(name) for name in ("first_file_id", "reserved", "stored"))
    said, holder, undo_to, fence = (columns.pop(name) for name in ("said", "holder", "undo_to", "fence"))
    return Job(
        **{
            **columns,
            "kind": JobKind(columns["kind"]),
            "state": JobState(columns["state"]),
            "spooled": bool(columns["spooled"]),
        },
        fence_number=fence,
        holder=Process.from_text(holder) if holder is not None else None,
        undo_to=JobState(undo_to) if undo_to is not None else None,
        override=_override_of(said),
        reservation=Reservation(first, count, stored) if first is not None else None,
    )


def imported_job_of(row: Row) -> ImportedJob:
    """The imported job of a row."""
    columns = dict(zip(row.keys(), row, strict=True))
    return ImportedJob(**{**columns, "complete": bool(columns["complete"])})


def _override_of(text: str | None) -> Override | None:
    if text is None:
        return None
    columns = json.loads(text)
    return Override(**{**columns, "state": PacificaState(columns["state"])})


def override_text(override: Override | None) -> str | None:
    """An administrator's override as a column holds it."""
    return None if override is None else json.dumps(asdict(override))


def listed(states: Iterable[JobState]) -> str:
    """The states as SQL lists them between parentheses."""
    return ", ".join(f"'{state}'" for state in sorted(states))


def now_text() -> str:
    """This moment as a column holds it."""
    return time_text(datetime.now(UTC))


def time_text(moment: datetime) -> str:
    """A moment as a column holds it; one without a zone is of UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment:%Y}".zfill(4) + f"{moment:-%m-%d %H:%M:%S.%f}"

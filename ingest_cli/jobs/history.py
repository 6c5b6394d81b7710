"""What was told of a job: what befell it, the warnings of its runs, and the events that were sent of it.

A job that one run takes to its end without a word has nothing of its own here: the job says when that was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..text import one_line, shortened
from .database import Connection
from .job import Job, JobState
from .process import this_process
from .sql_rows import now_text, time_text
from .transitions import Event

# Of one job so much is kept, the newest.
MOST_LINES = 200
LONGEST_LINE = 500
# A run may have a warning for each of very many files.
MOST_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Line:
    """What was told at a ``moment``, which is a time of UTC as text."""

    moment: str
    text: str


def told_of(job: Job, kept: Iterable[Line], events: Iterable[Line] = ()) -> list[Line]:
    """Everything that was told of the job, in the order in which it was: what is kept of it, with its ``events``."""
    end = f"duplicate of job {job.successor}" if job.duplicate_of is not None else str(job.status)
    last = [Line(job.updated, end)] if job.is_done else []
    lines = [Line(job.created, f"submitted by {job.user}"), *named(job, kept), *last, *events]
    return sorted(lines, key=lambda line: line.moment)[-MOST_LINES:]


def named(job: Job, kept: Iterable[Line]) -> list[Line]:
    """What is kept of the job, in which what lies in the spool is called by its name."""
    return [Line(line.moment, job.with_name(line.text)) for line in kept]


def keep(connection: Connection, job_id: int, texts: Sequence[str]) -> None:
    """Keep what was told of the job, in a transaction of the caller's."""
    now = now_text()
    number = connection.execute("SELECT MAX(number) FROM history WHERE job_id = ?", [job_id]).fetchone()[0] or 0
    lines = [(job_id, number + 1 + place, now, _line(text)) for place, text in enumerate(texts)]
    connection.executemany("INSERT INTO history (job_id, number, moment, line) VALUES (?, ?, ?, ?)", lines)
    last = number + len(lines)
    if last > MOST_LINES:
        connection.execute("DELETE FROM history WHERE job_id = ? AND number <= ?", [job_id, last - MOST_LINES])


def first_of(texts: Sequence[str]) -> list[str]:
    """As many as are kept of what a run has told at once, and how many more there were."""
    more = len(texts) - MOST_AT_ONCE
    return [*texts] if more <= 0 else [*texts[:MOST_AT_ONCE], f"and {more:,} more"]


def befell(event: Event, to: JobState | None, changes: Mapping[str, Any]) -> str | None:
    """What a transition makes of a job, in words; None where the job itself says it, or it is no news."""
    reason = str(changes.get("exception") or "")
    match event:
        case Event.LEASE | Event.LEASE_AGAIN if "attempts" in changes:
            return f"a run resumes, by {this_process()}" if changes["fence"] > 1 else None
        case Event.LEASE_AGAIN | Event.UNDO:
            return _because("rolled back", reason)
        case Event.DEFER:
            again = time_text(datetime.fromtimestamp(changes["retry_at"], UTC))[:19]
            return _because(f"deferred until {again} UTC, in {changes['task']!r}", reason)
        case Event.REQUEUE:
            return "interrupted"
        case Event.EXHAUST | Event.ABANDON | Event.DISCARD | Event.HOLD:
            return None if to is JobState.DUPLICATE else _because(str(to), reason)
        case Event.ROLLED_BACK:
            return f"{to}: nothing of it is stored" if to is not JobState.DUPLICATE else None
        case Event.RETRY:
            return "queued to be run again"
        case Event.HASTEN:
            return "to be tried again at once"
        case Event.SUPERSEDE:
            return reason
        case Event.OVERRIDE | Event.CANCEL:
            return "an administrator has settled it by hand"
    return None


def _because(what: str, reason: str) -> str:
    return f"{what}: {reason.splitlines()[0]}" if reason else what


def _line(text: str) -> str:
    return shortened(one_line(text), LONGEST_LINE)

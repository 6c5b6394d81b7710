"""All that there is to know of one job."""

from collections.abc import Iterator

from rich.filesize import decimal

from ..jobs.imported import ImportedJob
from ..jobs.job import Job, JobKind
from ..jobs.stages import STAGES
from ..jobs.store import JobStore
from ..text import counted, duration
from .describe import describe, describe_fully
from .outlook import outlook

WIDTH = 10


def job_page(job: Job, store: JobStore) -> Iterator[str]:
    """The lines that tell of a job."""
    word = describe(job, store)
    yield from _rows(_facts(job, word))
    yield from _stages(store.stages(job.job_id))
    yield from _reason(job.exception)
    yield from _outlook(job, word)


def imported_page(job: ImportedJob) -> Iterator[str]:
    """The lines that tell of a job of Pacifica Ingest."""
    rows = {
        "job": f"{job.job_id}, imported from Pacifica Ingest",
        "state": job.state,
        "task": job.task,
        "percent": job.task_percent,
        "created": f"{job.created} UTC",
        "updated": f"{job.updated} UTC",
    }
    yield from _rows(rows)
    yield from _reason(job.exception)


def _facts(job: Job, word: str) -> dict[str, str]:
    said = job.override
    return {
        "job": f"{job.job_id}{', a move' if job.kind is JobKind.MOVE else ''}",
        "state": describe_fully(job, word),
        "set": "" if said is None else f"{said.state} at {said.task!r}, by an administrator: {said.exception}",
        "task": job.task,
        "percent": f"{job.task_percent:.1f}",
        "source": job.source,
        "origin": job.origin,
        "user": job.user,
        "files": _files(job),
        "size": decimal(job.bytes) if job.digest is not None else "",
        "attempts": ", and ".join([str(job.attempts), *([counted(job.waits, "wait")] if job.waits else [])]),
        "created": f"{job.created} UTC",
        "began": f"{job.began} UTC" if job.began else "",
        "updated": f"{job.updated} UTC",
    }


def _files(job: Job) -> str:
    if job.digest is None:
        return "not known: the metadata have not been read yet"
    return f"{job.files:,}, of which {job.stored:,} {'is' if job.stored == 1 else 'are'} stored"


def _rows(rows: dict[str, str]) -> Iterator[str]:
    return (f"{name:<{WIDTH}}{value}" for name, value in rows.items() if value)


def _stages(seconds: dict[str, float]) -> Iterator[str]:
    if seconds:
        yield ""
        width = max(map(len, seconds))
        lines = [f"{task:<{width}}  {duration(seconds[task]):>8}" for task in sorted(seconds, key=STAGES.index)]
        yield from _rows_under("stages", lines)


def _reason(exception: str) -> Iterator[str]:
    if exception:
        yield from ("", *exception.split("\n"))


def _outlook(job: Job, word: str) -> Iterator[str]:
    seen = outlook(job, word)
    yield ""
    yield from _rows({"next": seen.next})
    width = max(map(len, seen.commands), default=0)
    yield from _rows_under("you can", [f"{command:<{width}}  {does}" for command, does in seen.commands.items()])


def _rows_under(name: str, lines: list[str]) -> Iterator[str]:
    return (f"{name if number == 0 else '':<{WIDTH}}{line}" for number, line in enumerate(lines))

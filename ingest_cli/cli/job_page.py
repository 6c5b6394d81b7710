"""All that there is to know of one job."""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from textwrap import wrap

from rich.filesize import decimal

from ..jobs.history import Line, told_of
from ..jobs.imported import ImportedJob
from ..jobs.job import UNFINISHED, Job, JobKind, Override
from ..jobs.outbox import Notice
from ..jobs.places import Place
from ..jobs.stages import STAGES
from ..jobs.store import JobStore
from ..text import counted, duration
from .describe import describe, describe_fully
from .outlook import outlook

LABEL = 10
SHORTEST_TEXT = 20
MOST_EVENTS = 100
KINDS = {JobKind.BUNDLE: "", JobKind.MOVE: ", a move", JobKind.FOLDER: ", a folder"}
# What is said, and by which name; where that is empty, more of the same, or nothing at all.
Page = Iterator[tuple[str, str]]


def job_page(job: Job, store: JobStore) -> Page:
    """All that there is to know of a job."""
    word, place = describe(job, store), store.places([job.job_id]).get(job.job_id)
    yield from _rows({**_facts(job, word), **_standing(job, place), "host": _host(job, store)})
    yield from _part("stages", _stages(store.stages(job.job_id)))
    yield from _part("why", job.exception.splitlines())
    told = told_of(job, store.history(job.job_id), _events(store.outbox.newest(MOST_EVENTS, job_id=job.job_id)))
    yield from _part("log", [f"{line.moment[:19]}  {line.text}" for line in told])
    seen = outlook(job, word)
    yield from _part("next", [seen.next])
    width = max(map(len, seen.commands), default=0)
    # Elsewhere it says that the job waits for a worker there.
    there = {f"ingest retry {job.job_id}": f", on {place.host}" if place is not None and place.host else ""}
    lines = [f"{command:<{width}}  {does}{there.get(command, '')}" for command, does in seen.commands.items()]
    yield from _listed("you can", lines)


def imported_page(job: ImportedJob) -> Page:
    """All that is known of a job of Pacifica Ingest."""
    rows = {
        "job": f"{job.job_id}, imported from Pacifica Ingest",
        "state": job.state,
        "task": job.task,
        "percent": job.task_percent,
        "created": f"{job.created} UTC",
        "updated": f"{job.updated} UTC",
    }
    yield from _rows(rows)
    yield from _part("why", job.exception.splitlines())


def lines_of(page: Page, width: int | None) -> Iterator[str]:
    """The lines of a page, in ``width`` columns if that is given: no word is cut, so that it can be copied."""
    for name, text in page:
        room = None if width is None else max(SHORTEST_TEXT, width - LABEL)
        parts = [text] if room is None else wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        for label, part in zip(chain([name], repeat("")), parts, strict=False):
            yield f"{label:<{LABEL}}{part}".rstrip()


def _facts(job: Job, word: str) -> dict[str, str]:
    said = job.override
    return {
        "job": f"{job.job_id}{KINDS[job.kind]}",
        "state": describe_fully(job, word),
        "set": "" if said is None else _by_hand(said),
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


def _standing(job: Job, place: Place | None) -> dict[str, str]:
    """Where the job stands in the queues of several hosts, until it has ended."""
    if place is None or job.state not in UNFINISHED:
        return {}
    return {"queue": f"{place.queue}, with priority {place.priority}", "waits for": place.explained(job)}


def _host(job: Job, store: JobStore) -> str:
    """What the process has said of itself that works on the job, where several hosts share the store."""
    if job.holder is None or store.attendance is None:
        return ""
    said = next((presence for presence in store.attendance.present() if presence.process == job.holder), None)
    if said is None:
        return job.holder.host
    return f"{said.host}: a {said.role}, last sign of life {duration(said.told)} ago by the database's clock"


def _by_hand(said: Override) -> str:
    if said.discards:
        return said.exception
    return f"{said.state} at {said.task!r}, by an administrator: {said.exception}"


def _files(job: Job) -> str:
    if job.digest is None:
        return "not known: the metadata have not been read yet"
    return f"{job.files:,}, of which {job.stored:,} {'is' if job.stored == 1 else 'are'} stored"


def _stages(seconds: dict[str, float]) -> list[str]:
    width = max(map(len, seconds), default=0)
    return [f"{task:<{width}}  {duration(seconds[task]):>8}" for task in sorted(seconds, key=STAGES.index)]


def _events(notices: Iterable[Notice]) -> Iterator[Line]:
    for notice in notices:
        yield Line(notice.updated, f"event {notice.number}, {notice.kind!r} to the {notice.receiver}: {notice.status}")


def _rows(rows: dict[str, str]) -> Page:
    return ((name, value) for name, value in rows.items() if value)


def _part(name: str, lines: list[str]) -> Page:
    """Lines below an empty one."""
    if lines:
        yield "", ""
    yield from _listed(name, lines)


def _listed(name: str, lines: list[str]) -> Page:
    return zip(chain([name], repeat("")), lines, strict=False)

"""The page of a job: what it is of, how it went, what of it is stored, and what was told to others."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.filesize import decimal

from ...jobs.history import Line, told_of
from ...jobs.job import UNFINISHED, Job, JobKind, JobStatus
from ...jobs.outbox import Notice
from ...jobs.places import Place
from ...jobs.stages import STAGES
from ...jobs.store import JobStore
from ...services.base import StoredFile
from ...text import counted, duration
from .html import Html, element, join, link
from .rows import badge, bar, moment, name, whole_reason

MOST_EVENTS = 100
ON_A_PAGE = 200
NOUNS = {JobKind.BUNDLE: "Bundle", JobKind.MOVE: "Document", JobKind.FOLDER: "Folder"}
# A bar of no length would be none.
SHORTEST = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStory:
    """What the store has of a job."""

    job: Job
    stages: dict[str, float]
    history: list[Line]
    events: list[Notice]
    # None where one host has the store.
    place: Place | None = None

    @classmethod
    def of(cls, store: JobStore, job_id: int) -> "JobStory":
        """Ask the store. Raises JobNotFound."""
        job = store.get(job_id)
        events = store.outbox.newest(MOST_EVENTS, job_id=job_id)
        stages, history, place = store.stages(job_id), store.history(job_id), store.places([job_id]).get(job_id)
        return cls(job=job, stages=stages, history=history, events=events, place=place)


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Some of the ``total`` files that are stored of a job, from number ``first`` on, each after its name."""

    named: Sequence[tuple[str, StoredFile]]
    first: int
    total: int


def job_page(story: JobStory, below: str, *, files: Files | str | None, actions: Html | None) -> Html:
    """The content of the page. In place of the files, it may say why there are none to be seen."""
    job = story.job
    parts = {
        "title": element("h1", f"Job {job.job_id} ", badge(job)),
        "job": _state(job, story.place, below),
        "actions": actions,
        "stages": _stages(story.stages),
        "files": _files(files, job, below) if files is not None else None,
        "events": _events(story.events) if story.events else None,
        "log": _log(story),
    }
    return join(element("div", part, data_part=name) for name, part in parts.items())


def _state(job: Job, place: Place | None, below: str) -> Html:
    why = whole_reason(job)
    reason = element("pre", why, tabindex=0, aria_label="The reason") if why else None
    outlook = element("p", _outlook(job)) if _outlook(job) else None
    return join([bar(job), outlook, reason, _facts(job, place, below)])


def _facts(job: Job, place: Place | None, below: str) -> Html:
    standing = place if job.state in UNFINISHED else None
    known: dict[str, Html | str | None] = {
        NOUNS[job.kind]: name(job),
        "User": job.user,
        "Files": f"{job.files:,}, {decimal(job.bytes)}" if job.digest is not None else None,
        "Stored": counted(job.stored, "file") if job.reservation is not None else None,
        "Stage": f"{job.task}, {job.task_percent:.0f} %" if not job.is_done else None,
        "Content": _successor(job, below) if job.successor is not None else None,
        "Queue": f"{standing.queue}, with priority {standing.priority}" if standing is not None else None,
        "Waits for": standing.explained(job) or None if standing is not None else None,
        "Run by": str(job.holder) if job.holder is not None else None,
        "Submitted": join([moment(job.created), " UTC"]),
        "Last run began": join([moment(job.began), " UTC"]) if job.began else None,
        "Changed": join([moment(job.updated), " UTC"]),
        "Runs": f"{job.attempts:,}",
        "Digest of its document": job.digest,
    }
    return element(
        "dl", *(join([element("dt", word), element("dd", value)]) for word, value in known.items() if value is not None)
    )


def _successor(job: Job, below: str) -> Html:
    return join(["is that of ", link(f"{below}jobs/{job.successor}", f"job {job.successor}")])


def _outlook(job: Job) -> str:
    """What comes next, and what a person can do."""
    match job.status:
        case JobStatus.WAITING:
            return "It runs as soon as a worker is free."
        case JobStatus.DEFERRED:
            return f"It will be tried again at {job.retried_at} UTC."
        case JobStatus.INTERRUPTED:
            return "A run was interrupted, and another one resumes it as soon as a worker is free."
        case JobStatus.FAILED:
            return "Nothing of it is stored. When its reason is mended, retry it, or send it again."
        case JobStatus.DISCARDED:
            return "It was given up, and nothing of it is stored. It can be sent again, as a new job."
        case JobStatus.HELD:
            return "Some of what it stored could not be rolled back. Retry it, or discard it."
        case JobStatus.UNDOING:
            return "What is stored of it is being rolled back."
    return ""


def _stages(stages: dict[str, float]) -> Html | None:
    """The stages with a bar each, of all that took the job so long."""
    total = sum(stages.values())
    known = [stage for stage in STAGES if stage in stages]
    if not known:
        return None
    rows = (
        element(
            "tr",
            element("th", stage, scope="row"),
            element("td", _bar(stages[stage] / total if total else 0)),
            element("td", _seconds(stages[stage]), class_="number"),
        )
        for stage in known
    )
    columns = (("Stage", None), ("Share of the time", None), ("Time", "number"))
    head = (element("th", word, scope="col", class_=kind) for word, kind in columns)
    return element(
        "section",
        element("h2", f"Stages, {_seconds(total)} in all", id="stages-title"),
        element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="bars"),
        aria_labelledby="stages-title",
    )


def _seconds(seconds: float) -> str:
    if seconds >= 1:
        return duration(seconds)
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "under 1 ms"


def _bar(share: float) -> Html:
    length = f"{max(SHORTEST, share * 100):.2f}"
    mark = element("rect", class_="mark", width=length, height=10)
    return element("svg", mark, viewBox="0 0 100 10", preserveAspectRatio="none", role="img", aria_label=f"{share:.0%}")


def _files(files: Files | str, job: Job, below: str) -> Html:
    here = f"{below}jobs/{job.job_id}"
    if isinstance(files, str):
        content = element("p", files, class_="quiet")
    else:
        content = join([_download(here), _paths(files, here), _pages(files, here)])
    return element("section", element("h2", "Files", id="files-title"), content, aria_labelledby="files-title")


def _download(here: str) -> Html:
    return element("p", link(f"{here}/bundle", "Download all of them as a bundle"))


def _paths(files: Files, here: str) -> Html:
    rows = (
        element(
            "tr",
            element("td", link(f"{here}/files/{file.file_id}", path)),
            element("td", decimal(file.size), class_="number"),
            element("td", f"{file.hashtype}:{file.hashsum}", class_="wide quiet paths"),
        )
        for path, file in files.named
    )
    columns = (("Name", None), ("Size", "number"), ("Hash", "wide"))
    head = element("tr", *(element("th", word, scope="col", class_=kind) for word, kind in columns))
    return element("table", element("thead", head), element("tbody", *rows), class_="paths")


def _pages(files: Files, here: str) -> Html | None:
    last = files.first + len(files.named)
    if len(files.named) == files.total:
        return None
    before = link(f"{here}?files={max(0, files.first - ON_A_PAGE)}", "Earlier files") if files.first else None
    after = link(f"{here}?files={last}", "Further files") if last < files.total else None
    shown = element("span", f"{files.first + 1:,} to {last:,} of {files.total:,}")
    return element("nav", before, shown, after, aria_label="Pages of files", id="pages")


def _log(story: JobStory) -> Html:
    """What was told of the job; its events have their own table."""
    rows = (
        element("tr", element("td", moment(line.moment), class_="when"), element("td", line.text))
        for line in told_of(story.job, story.history)
    )
    head = (element("th", word, scope="col") for word in ("When (UTC)", "What"))
    return element(
        "section",
        element("h2", "Log", id="log-title"),
        element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="log"),
        aria_labelledby="log-title",
    )


def _events(events: list[Notice]) -> Html:
    rows = (
        element(
            "tr",
            element("th", event.number, scope="row"),
            element("td", str(event.kind), " to the ", str(event.receiver)),
            element("td", str(event.status), element("p", event.reason, class_="reason") if event.reason else None),
            element("td", moment(event.updated)),
        )
        for event in events
    )
    head = (element("th", word, scope="col") for word in ("Event", "What", "Status", "Changed (UTC)"))
    return element(
        "section",
        element("h2", "Events", id="events-title"),
        element("table", element("thead", element("tr", *head)), element("tbody", *rows)),
        aria_labelledby="events-title",
    )

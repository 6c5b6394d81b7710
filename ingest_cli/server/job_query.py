"""Which jobs a client asks to be listed, and what it is to ask for the next page of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from ..errors import SettingsError
from ..jobs.filter import GROUPS, JobFilter
from ..jobs.job import Job, JobKind, JobStatus
from ..jobs.places import Place
from ..jobs.store import JobStore
from ..moments import moment
from ..text import quoted

MAX_JOB_ID = (1 << 63) - 1
USUAL_COUNT = 50
# Of a page. What does not fit is on the next one.
MAX_LISTED = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some of the jobs that are asked for, newest first; where they stand, if several hosts share the store; and the
    query for those that come after them, if any do."""

    jobs: list[Job]
    places: dict[int, Place]
    next: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobQuery:
    """What a client asks for: at most ``count`` jobs that are ``wanted``, with ids below ``before``; and whether in an
    ``envelope`` that says where the next page is."""

    wanted: JobFilter
    count: int
    before: int | None
    envelope: bool

    @classmethod
    def of(cls, params: QueryParams) -> "JobQuery":
        """What these parameters say. Raises HTTPException where one of them says nothing that can be understood."""
        return cls(
            wanted=_wanted(params),
            count=max(0, min(whole_number(params.get("count", str(USUAL_COUNT)), "count"), MAX_LISTED)),
            before=_id(params["before"]) if "before" in params else None,
            envelope=_one_of(("yes", "no"), params.get("envelope", "no"), "envelope") == "yes",
        )

    def page(self, store: JobStore) -> Page:
        """What the store has of it."""
        found = store.select(self.wanted, limit=self.count + 1, before=self.before)
        jobs = found[: self.count]
        places = store.places([job.job_id for job in jobs])
        return Page(jobs=jobs, places=places, next=self._after(jobs[-1]) if jobs and len(found) > len(jobs) else None)

    def _after(self, job: Job) -> str:
        wanted = self.wanted
        asked = [
            *(("status", str(status)) for status in sorted(wanted.statuses)),
            *((name, time.isoformat()) for name, time in _times(wanted) if time),
            *((name, text) for name, text in _texts(wanted) if text),
            ("count", str(self.count)),
            *([("envelope", "yes")] if self.envelope else []),
            ("before", str(job.job_id)),
        ]
        return urlencode(asked)


def _wanted(params: QueryParams) -> JobFilter:
    now, given = datetime.now(UTC), dict(params)
    statuses = [JobStatus(_one_of(list(JobStatus), text, "status")) for text in params.getlist("status")]
    groups = [GROUPS[_one_of(list(GROUPS), text, "group")] for text in params.getlist("group")]
    since, until = (_moment(given[name], name, now) if name in given else None for name in ("since", "until"))
    return JobFilter(
        statuses=frozenset(statuses).union(*groups),
        since=since,
        until=until,
        source=given.get("source", ""),
        user=given.get("user", ""),
        kind=JobKind(_one_of(list(JobKind), given["kind"], "kind")) if "kind" in given else None,
    )


def _times(wanted: JobFilter) -> list[tuple[str, datetime | None]]:
    return [("since", wanted.since), ("until", wanted.until)]


def _texts(wanted: JobFilter) -> list[tuple[str, str]]:
    return [("source", wanted.source), ("user", wanted.user), ("kind", str(wanted.kind or ""))]


def _id(text: str) -> int:
    if not 0 <= (number := whole_number(text, "before")) <= MAX_JOB_ID:
        raise HTTPException(400, "before must be the id of a job")
    return number


def _moment(text: str, name: str, now: datetime) -> datetime:
    try:
        return moment(text, now)
    except SettingsError as error:
        raise HTTPException(400, f"{name}: {error}") from error


def _one_of(known: Sequence[str], text: str, name: str) -> str:
    if text not in known:
        raise HTTPException(400, f"{name} must be one of {', '.join(known)}, not {quoted(text)}")
    return text


def whole_number(text: str, name: str) -> int:
    """The number that a client gives for this parameter. Raises HTTPException where it is none."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise HTTPException(400, f"{name} must be a whole number")
    # Python refuses to read very long numbers; none of them is the id of a job.
    return int(text) if len(digits) < 20 else -1

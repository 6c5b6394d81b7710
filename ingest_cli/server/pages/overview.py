"""The list of jobs: how many there are of each state, the failures first, a page of the others, and what leads on."""

import json
from dataclasses import asdict, dataclass, replace

from ...bundle.pack_rules import LITTER
from ...jobs.filter import FAILED, JobFilter, JobOrder
from ...jobs.filter import GROUPS as USUAL
from ...jobs.flow import Flow
from ...jobs.job import Job, JobStatus
from ...jobs.reasons import Reason
from ...jobs.sightings import Member, Sightings
from ...jobs.store import JobStore
from ...settings import Ids
from ...text import counted, number_of
from .hosts import hosts_table, members_of
from .html import Html, element, join, link
from .plots import flow_of, plots
from .query import GROUPS, Query
from .reasons import reasons_table, usual_reasons
from .rows import first_reason, moment, name, table

ON_A_PAGE = 50
PINNED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """What the store answers to a query: how many jobs there are of each group, those of the page, whether there are
    ``more``. Where nothing is asked for: the newest failures, what came and went, and who is there of several hosts;
    where failures are: why."""

    query: Query
    counts: dict[str, int]
    jobs: list[Job]
    more: bool
    failures: list[Job]
    flow: Flow | None
    reasons: list[Reason]
    hosts: list[Member] | None

    @classmethod
    def of(cls, store: JobStore, query: Query, sightings: Sightings) -> "Overview":
        """Ask the store."""
        jobs = store.select(query.filter, limit=ON_A_PAGE + 1, before=query.before)
        return cls(
            query=query,
            counts=counts_of(store.tally(query.any_state)),
            jobs=jobs[:ON_A_PAGE],
            more=len(jobs) > ON_A_PAGE,
            failures=newest_failures(store) if query.is_plain else [],
            flow=flow_of(store) if query.is_plain else None,
            reasons=usual_reasons(store) if query == Query(state="failed") else [],
            hosts=members_of(store, sightings) if query.is_plain else None,
        )


def counts_of(tally: dict[JobStatus, int]) -> dict[str, int]:
    """How many jobs there are of each group."""
    return {word: sum(tally[status] for status in statuses) for word, statuses in GROUPS.items()}


def newest_failures(store: JobStore) -> list[Job]:
    """The failures that stand above all else: those that came last."""
    return store.select(JobFilter(statuses=FAILED), order=JobOrder.UPDATED, limit=PINNED)


def overview_page(found: Overview, below: str, defaults: Ids) -> Html:
    """The content of the page. Folders that are sent from it are of whom and what the ``defaults`` say, unless the
    visitor says it."""
    query = found.query
    return join(
        [
            element("h1", "Jobs"),
            tabs(found.counts, query, below),
            failures(found.failures, found.counts["failed"], below) if query.is_plain else None,
            plots(found.flow) if found.flow is not None else None,
            _upload(defaults) if query.is_plain else None,
            reasons_table(found.reasons, below),
            _search(query, below),
            element("div", _jobs(found, below), _pages(found, below), data_part="jobs"),
            hosts_table(found.hosts, below) if found.hosts is not None else None,
        ]
    )


def _jobs(found: Overview, below: str) -> Html:
    if not found.jobs:
        return element("p", _nothing(found.query))
    return table(found.jobs, below, _caption(found.query))


def tabs(counts: dict[str, int], query: Query, below: str) -> Html:
    """The counts, each of which leads to the jobs that it counts."""
    asked = replace(query, before=None)
    total = _tab(replace(asked, state=""), "all", sum(counts.values()), asked, below)
    words = [word for word in GROUPS if word in USUAL or counts[word] or asked.state == word]
    tabs = (_tab(replace(asked, state=word), word, counts[word], asked, below) for word in words)
    return element("nav", element("ul", total, *tabs), aria_label="Jobs by state", id="counts", data_part="counts")


def _tab(query: Query, word: str, count: int, asked: Query, below: str) -> Html:
    number = element("b", f"{count:,}")
    is_asked = query.state == asked.state
    text = element("span", word, class_=query.state or None)
    to = link(query.address(below), number, " ", text, aria_current="page" if is_asked else None)
    return element("li", to, data_state=query.state)


def failures(jobs: list[Job], count: int, below: str) -> Html:
    """The newest failures with their reasons, and how many more there are."""
    if not jobs:
        return element("section", id="failures", data_part="failures", hidden=True)
    every = link(Query(state="failed").address(below), f"All {counted(count, 'failed job')}")
    return element(
        "section",
        element("h2", "Failed", id="failures-title"),
        element("ul", *(element("li", _failure(job, below)) for job in jobs)),
        element("p", every) if count > len(jobs) else None,
        id="failures",
        data_part="failures",
        aria_labelledby="failures-title",
    )


def _failure(job: Job, below: str) -> Html:
    first = first_reason(job) or f"in the stage {job.task!r}"
    return join(
        [
            link(f"{below}jobs/{job.job_id}", f"Job {job.job_id}"),
            " ",
            name(job),
            " ",
            element("span", moment(job.updated), class_="quiet"),
            element("p", first, class_="reason"),
        ]
    )


def _upload(defaults: Ids) -> Html:
    """Where bundles and folders are sent from; the script shows it."""
    bundles = element("input", type="file", multiple=True, id="bundles")
    directory = element("input", type="file", webkitdirectory=True, id="directory")
    return element(
        "section",
        element("h2", "Upload", id="upload-title"),
        element("p", element("label", "Choose bundles ", bundles, for_="bundles"), " (tar files, plain or packed)"),
        element("p", element("label", "or a folder ", directory, for_="directory"), " (packed as it is sent)"),
        element("p", "or drop them anywhere on this page. Links in a folder are passed over.", class_="quiet"),
        element("ul"),
        id="upload",
        aria_labelledby="upload-title",
        data_litter=json.dumps(LITTER),
        data_ids=json.dumps(asdict(defaults)),
        hidden=True,
    )


def _search(query: Query, below: str) -> Html:
    def field(label: str, key: str, value: str, hint: str) -> Html:
        entry = element("input", type="search", name=key, value=value, placeholder=hint, autocomplete="off")
        return element("label", element("span", label), entry)

    return element(
        "form",
        field("Bundle", "name", query.name, "part of name, glob, job"),
        field("User", "user", query.user, "whole name"),
        element("input", type="hidden", name="state", value=query.state) if query.state else None,
        element("button", "Search", type="submit"),
        link(f"{below}jobs/{query.name}", f"Job {query.name}") if number_of(query.name) else None,
        link(Query(state=query.state).address(below), "Show all again") if query.is_narrow else None,
        role="search",
        method="get",
        action=below or "./",
    )


def _caption(query: Query) -> str:
    words = [f"{query.state} jobs" if query.state else "jobs", "newest first"]
    return ", ".join([*words, f"older than job {query.before}"] if query.before is not None else words).capitalize()


def _nothing(query: Query) -> str:
    return "There are no such jobs." if query != Query() else "There are no jobs yet."


def _pages(found: Overview, below: str) -> Html | None:
    """The way to older jobs, and back to the newest."""
    newest = (
        link(replace(found.query, before=None).address(below), "Newest") if found.query.before is not None else None
    )
    older = None
    if found.more:
        older = link(replace(found.query, before=found.jobs[-1].job_id).address(below), "Older jobs", rel="next")
    return element("nav", newest, older, aria_label="Pages", id="pages") if newest or older else None

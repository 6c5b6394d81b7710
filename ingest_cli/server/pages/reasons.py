"""Why jobs failed, as people group it: above the list of those that did."""

from itertools import islice

from ...jobs.reasons import Reason, grouped
from ...jobs.store import JobStore
from ...text import counted, shortened
from .html import Html, element, join, link
from .rows import LONGEST_REASON

# Older failures are left to 'ingest stats'.
MOST_FAILURES = 2000
MOST_REASONS = 20
MOST_JOBS = 5


def newest_reasons(store: JobStore) -> list[Reason]:
    """The reasons of the failures that came last, that of most jobs first."""
    return grouped(islice(store.failed(), MOST_FAILURES))[:MOST_REASONS]


def reasons_table(reasons: list[Reason], below: str) -> Html | None:
    """How many jobs failed for each reason, and which ones did last."""
    if not reasons:
        return None
    columns = (("Jobs", "number"), ("Reason", None), ("Stage", "wide"), ("Newest", None))
    head = element("tr", *(element("th", word, scope="col", class_=kind) for word, kind in columns))
    rows = (
        element(
            "tr",
            element("td", f"{reason.jobs:,}", class_="number"),
            element("td", shortened(reason.reason, LONGEST_REASON), class_="reason"),
            element("td", reason.stage, class_="wide"),
            element("td", _jobs(reason, below)),
        )
        for reason in reasons
    )
    title = f"{counted(len(reasons), 'reason')}, of the newest failures"
    return element(
        "section",
        element("h2", title, id="reasons-title"),
        element("table", element("thead", head), element("tbody", *rows)),
        aria_labelledby="reasons-title",
        id="reasons",
    )


def _jobs(reason: Reason, below: str) -> Html:
    links = (join([link(f"{below}jobs/{job_id}", job_id), " "]) for job_id in reason.job_ids[:MOST_JOBS])
    return join(links)

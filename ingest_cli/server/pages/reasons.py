"""Why jobs failed, as people group it: above the list of those that did."""

from ...errors import ResourceUnavailable
from ...jobs.reasons import Reason
from ...jobs.store import JobStore
from ...text import counted, shortened
from .html import Html, element, join, link
from .rows import LONGEST_REASON

MOST_REASONS = 20
MOST_JOBS = 5


def usual_reasons(store: JobStore) -> list[Reason]:
    """The reasons for which most jobs failed. The others are left to 'ingest stats'."""
    try:
        return store.reasons(MOST_REASONS)
    except ResourceUnavailable:  # those that are new are noted, for which a disk may be too full now
        return []


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
    title = counted(len(reasons), "reason")
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

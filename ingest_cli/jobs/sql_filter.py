"""A filter of jobs as SQL, so that an index answers wherever one can."""

from collections.abc import Collection
from typing import Any

from .dialect import Condition, Dialect
from .filter import JobFilter, JobOrder
from .job import JobStatus
from .sql_rows import ALL_ROWS, time_text

NAME = "CASE WHEN origin <> '' THEN origin ELSE source END"
COLUMNS = {
    JobOrder.JOB: "jobs.job_id",
    JobOrder.UPDATED: "updated",
    JobOrder.SIZE: "bytes",
    JobOrder.FILES: "files",
    JobOrder.NAME: NAME,
}
# Those with an index behind the status.
INDEXED = {JobOrder.JOB, JobOrder.UPDATED}


def ordering(order: JobOrder, *, descending: bool) -> str:
    """The clause that puts jobs in this order, and those that are alike in that of their ids."""
    way = "DESC" if descending else "ASC"
    return "ORDER BY " + ", ".join(dict.fromkeys(f"{column} {way}" for column in (COLUMNS[order], "jobs.job_id")))


def selection(
    wanted: JobFilter,
    order: JobOrder,
    dialect: Dialect,
    *,
    descending: bool,
    limit: int | None,
    before: int | None,
) -> tuple[str, list[Any]]:
    """The query for the ids of the first jobs that are wanted, and its values."""
    tail, most = ordering(order, descending=descending), ALL_ROWS if limit is None else limit
    queries: list[str] = []
    values: list[Any] = []
    for statuses in _asked_together(wanted, order):
        where, needed = condition(wanted, statuses, dialect, before)
        queries.append(f"SELECT job_id FROM (SELECT job_id FROM jobs WHERE {where} {tail} LIMIT ?) AS few")
        values += [*needed, most]
    if len(queries) == 1:
        return queries[0], values
    return f"SELECT job_id FROM jobs WHERE job_id IN ({' UNION ALL '.join(queries)}) {tail} LIMIT ?", [*values, most]


def condition(
    wanted: JobFilter, statuses: Collection[JobStatus], dialect: Dialect, before: int | None = None
) -> tuple[str, list[Any]]:
    """The condition that a job is wanted and has one of the ``statuses``, and its values."""
    terms: list[Condition] = []
    if statuses:
        terms.append((f"status IN ({', '.join('?' * len(statuses))})", sorted(statuses)))
    if wanted.since is not None:
        terms.append(("updated >= ?", [time_text(wanted.since)]))
    if wanted.until is not None:
        terms.append(("updated < ?", [time_text(wanted.until)]))
    if before is not None:
        terms.append(("jobs.job_id < ?", [before]))
    if wanted.kind is not None:
        terms.append(("kind = ?", [wanted.kind]))
    if wanted.user:
        terms.append(('"user" = ?', [_storable(wanted.user)]))
    if wanted.source:
        terms.append(dialect.matches(NAME, _storable(wanted.source)))
    return " AND ".join(sql for sql, _ in terms) or "true", [value for _, values in terms for value in values]


def _storable(text: str) -> str:
    """The text as databases take it: what is not UTF-8 is in no job, and is asked for as something else that is not."""
    return text.encode(errors="backslashreplace").decode().replace("\0", r"\0")


def _asked_together(wanted: JobFilter, order: JobOrder) -> list[Collection[JobStatus]]:
    """The statuses, in groups of which each can be asked for in this order without looking at all of its jobs."""
    if order not in INDEXED:
        return [wanted.statuses]
    if wanted.statuses or order is JobOrder.UPDATED or wanted.since or wanted.until or wanted.user:
        return [[status] for status in sorted(wanted.statuses or JobStatus)]
    return [()]

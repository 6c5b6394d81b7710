"""A filter of jobs as SQL, so that an index answers wherever one can."""

from collections.abc import Collection
from typing import Any

from .filter import JobFilter, JobOrder, matches
from .job import JobStatus
from .sqlite_rows import time_text

NAME = "CASE WHEN origin <> '' THEN origin ELSE source END"
COLUMNS = {
    JobOrder.JOB: "jobs.job_id",
    JobOrder.UPDATED: "updated",
    JobOrder.SIZE: "bytes",
    JobOrder.FILES: "files",
    JobOrder.NAME: NAME,
}
# Of those that SQLite's own GLOB is given first, which is quicker by far and leaves little to be looked at. It knows
# other classes of characters, and takes no pattern of more than 50,000 bytes.
LONGEST_GLOB = 1000
# Those with an index behind the status.
INDEXED = {JobOrder.JOB, JobOrder.UPDATED}


class Matching:
    """`matches` as SQLite calls it. Of what ends it, as Ctrl-C may, SQLite only says that something did: `end` raises
    that again."""

    def __init__(self) -> None:
        self._ended_by: BaseException | None = None

    def __call__(self, glob: str, name: str) -> bool:
        """Whether the glob matches the name."""
        try:
            return matches(glob, name)
        except BaseException as error:
            self._ended_by = error
            raise

    def end(self, told: Exception) -> None:
        """Raise what ended it, if that is what SQLite ``told``."""
        error, self._ended_by = self._ended_by, None
        if error is None and "user-defined function" in str(told):
            # Only the handler of a signal can run before the function's own first line.
            error = KeyboardInterrupt()
        if error is not None:
            raise error from None


def ordering(order: JobOrder, *, descending: bool) -> str:
    """The clause that puts jobs in this order, and those that are alike in that of their ids."""
    way = "DESC" if descending else "ASC"
    return "ORDER BY " + ", ".join(dict.fromkeys(f"{column} {way}" for column in (COLUMNS[order], "jobs.job_id")))


def selection(
    wanted: JobFilter, order: JobOrder, *, descending: bool, limit: int | None, before: int | None
) -> tuple[str, list[Any]]:
    """The query for the ids of the first jobs that are wanted, and its values."""
    tail, most = ordering(order, descending=descending), -1 if limit is None else limit
    queries: list[str] = []
    values: list[Any] = []
    for statuses in _asked_together(wanted, order):
        where, needed = condition(wanted, statuses, before)
        queries.append(f"SELECT * FROM (SELECT job_id FROM jobs WHERE {where} {tail} LIMIT ?)")
        values += [*needed, most]
    if len(queries) == 1:
        return queries[0], values
    return f"SELECT job_id FROM jobs WHERE job_id IN ({' UNION ALL '.join(queries)}) {tail} LIMIT ?", [*values, most]


def condition(wanted: JobFilter, statuses: Collection[JobStatus], before: int | None = None) -> tuple[str, list[Any]]:
    """The condition that a job is wanted and has one of the ``statuses``, and its values."""
    terms: dict[str, Any] = {}
    if wanted.since is not None:
        terms["updated >= ?"] = time_text(wanted.since)
    if wanted.until is not None:
        terms["updated < ?"] = time_text(wanted.until)
    if before is not None:
        terms["jobs.job_id < ?"] = before
    if wanted.kind is not None:
        terms["kind = ?"] = wanted.kind
    if wanted.user:
        terms["user = ?"] = _storable(wanted.user)
    if wanted.source:
        glob = _storable(wanted.source)
        if "[" not in glob and len(glob) < LONGEST_GLOB:
            terms[f"{NAME} GLOB ?"] = f"*{glob}*"
        terms[f"matches(?, {NAME})"] = glob
    among = [f"status IN ({', '.join('?' * len(statuses))})"] if statuses else []
    return " AND ".join([*among, *terms]) or "1", [*sorted(statuses), *terms.values()]


def _storable(text: str) -> str:
    """The text as SQLite takes it: what is not UTF-8 is in no job, and is asked for as something else that is not."""
    return text.encode(errors="backslashreplace").decode()


def _asked_together(wanted: JobFilter, order: JobOrder) -> list[Collection[JobStatus]]:
    """The statuses, in groups of which each can be asked for in this order without looking at all of its jobs."""
    if order not in INDEXED:
        return [wanted.statuses]
    if wanted.statuses or order is JobOrder.UPDATED or wanted.since or wanted.until or wanted.user:
        return [[status] for status in sorted(wanted.statuses or JobStatus)]
    return [()]

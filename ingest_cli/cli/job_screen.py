"""A list of jobs as a table on a terminal, and as one that changes while it is looked at."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..jobs.filter import JobFilter, JobOrder
from ..jobs.job import Job
from ..jobs.store import JobStore
from ..text import counted
from .describe import describe
from .job_list import PlainList, none_of
from .job_table import FittedTable, Line, Row
from .output import say

FOLLOW_SECONDS = 1.0
SLACK = timedelta(minutes=1)


class JobList:
    """The jobs on a terminal, and below them how many there are of which state."""

    def __init__(self, store: JobStore, wanted: JobFilter, console: Console) -> None:
        self._store, self._wanted, self._console = store, wanted, console
        self._shown = 0

    def show(self, jobs: Sequence[Job]) -> None:
        """Write the jobs."""
        header, rows = _table_of(jobs, self._store, self._console)
        for line in [*([] if self._shown else [header]), *(line for row in rows for line in row)]:
            self._console.print(_text(line), crop=True, no_wrap=True, overflow="crop")
        self._shown += len(jobs)

    def end(self) -> None:
        """Say how many there are."""
        if self._shown:
            say("")
        self._console.print(Text(_summary(self._store, self._wanted, self._shown, "--all shows all")))


def follow(store: JobStore, wanted: JobFilter, order: JobOrder, console: Console, count: int | None) -> None:
    """Show the first ``count`` jobs that there is room for, as they are at each moment, until Ctrl-C."""
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with suppress(KeyboardInterrupt), live:  # which is how it is to end
        while True:
            live.update(_frame(store, wanted, order, console, count), refresh=True)
            time.sleep(FOLLOW_SECONDS)


def follow_in_lines(store: JobStore, wanted: JobFilter, order: JobOrder, count: int | None) -> None:
    """Write the first ``count`` jobs, then each that comes into another state or stage, until Ctrl-C."""
    shown, seen = PlainList(store), dict[int, tuple[str, str]]()
    jobs = store.select(wanted, order=order, descending=order is not JobOrder.NAME, limit=count)
    with suppress(KeyboardInterrupt):  # which is how it is to end
        while True:
            changed = [job for job in jobs if seen.get(job.job_id) != (job.status, job.task)]
            shown.show(changed)
            seen |= {job.job_id: (job.status, job.task) for job in changed}
            last = store.select(order=JobOrder.UPDATED, limit=1)
            time.sleep(FOLLOW_SECONDS)
            jobs = store.select(_changed_since(wanted, last), order=JobOrder.UPDATED, descending=False)


def _changed_since(wanted: JobFilter, last: list[Job]) -> JobFilter:
    """What is wanted of the jobs that changed since the ``last`` one did: by clocks that may be a bit apart."""
    if not last:
        return wanted
    moment = datetime.fromisoformat(last[0].updated).replace(tzinfo=UTC) - SLACK
    return replace(wanted, since=moment if wanted.since is None else max(moment, wanted.since))


def _frame(store: JobStore, wanted: JobFilter, order: JobOrder, console: Console, count: int | None) -> Group:
    most = min(count or console.height, console.height)
    jobs = store.select(wanted, order=order, descending=order is not JobOrder.NAME, limit=most)
    header, rows = _table_of(jobs, store, console)
    # What does not fit on the window could not be erased.
    room = console.height - len(_summary(store, wanted, 0, f"{most} shown")) // console.width - 4
    lines: list[Line] = []
    shown = 0
    for row in rows:
        if len(lines) + len(row) > room:
            break
        lines, shown = lines + row, shown + 1
    table = Text("\n", no_wrap=True, overflow="crop").join(map(_text, [header, *lines]))
    summary = Text(_summary(store, wanted, shown, f"{shown} shown"))
    return Group(table, "", summary) if jobs else Group(summary)


def _table_of(jobs: Sequence[Job], store: JobStore, console: Console) -> tuple[Line, list[list[Line]]]:
    now = datetime.now(UTC)
    rows = [Row.of(job, describe(job, store), now) for job in jobs]
    # A line as long as the window would make some terminals wrap.
    return FittedTable(width=console.width - 1, encoding=console.encoding).lines(rows)


def _summary(store: JobStore, wanted: JobFilter, shown: int, hint: str) -> str:
    counts = {status: count for status, count in store.tally(wanted).items() if count}
    total = sum(counts.values())
    if not total:
        return none_of(store)
    parts = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    return f"{counted(total, 'job')}: {parts}{f'; {hint}' if shown < total else ''}"


def _text(line: Line) -> Text:
    return Text.assemble(*line)

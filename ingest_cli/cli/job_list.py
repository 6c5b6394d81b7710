"""A list of jobs: as lines, as a table on a terminal, and as one that is drawn anew while it is looked at."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..jobs.filter import ALL, JobFilter, JobOrder
from ..jobs.job import Job
from ..jobs.store import JobStore
from ..streams import unguarded
from ..text import counted
from .describe import describe
from .job_table import FittedTable, Line, PlainTable, Row
from .output import say

FOLLOW_SECONDS = 1.0
SLACK = timedelta(minutes=1)
WIDTH_OF_NOBODY_KNOWS_WHAT = 80


def console_for(stream: TextIO | None = None) -> Console | None:
    """The terminal that the stream is, or standard output; None where it is none."""
    stream = stream or sys.stdout
    if stream is None or not stream.isatty():
        return None
    console = Console(file=unguarded(stream), highlight=False)
    if console.width < 2:
        console.width = WIDTH_OF_NOBODY_KNOWS_WHAT
    return console


class PlainList:
    """Every job in a line, with its times as times of UTC."""

    def __init__(self, store: JobStore) -> None:
        self._store, self._table = store, PlainTable(write=say)

    def show(self, jobs: Sequence[Job]) -> None:
        """Write the jobs."""
        self._table.show([Row.of(job, describe(job, self._store), None) for job in jobs])

    def end(self) -> None:
        """Say that there are none, where none were shown."""
        if not self._table.widths:
            say(_none(self._store))


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
        return _none(store)
    parts = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    return f"{counted(total, 'job')}: {parts}{f'; {hint}' if shown < total else ''}"


def _none(store: JobStore) -> str:
    return "no jobs match" if sum(store.tally(ALL).values()) else "no jobs yet"


def _text(line: Line) -> Text:
    return Text.assemble(*line)

"""Where a list of jobs is shown: on a terminal, or in lines."""

import sys
from typing import TYPE_CHECKING, TextIO

from ..jobs.filter import JobFilter
from ..jobs.store import JobStore
from ..streams import unguarded
from .job_list import PlainList

if TYPE_CHECKING:
    from rich.console import Console

    from .job_screen import JobList

WIDTH_OF_NOBODY_KNOWS_WHAT = 80


def console_for(stream: TextIO | None = None) -> "Console | None":
    """The terminal that the stream is, or standard output; None where it is none."""
    stream = stream or sys.stdout
    if stream is None or not stream.isatty():
        return None
    from rich.console import Console

    console = Console(file=unguarded(stream), highlight=False)
    if console.width < 2:
        console.width = WIDTH_OF_NOBODY_KNOWS_WHAT
    return console


def list_on(console: "Console | None", store: JobStore, wanted: JobFilter) -> "PlainList | JobList":
    """What lists the jobs that are wanted on the terminal, or in lines where there is none."""
    if console is None:
        return PlainList(store)
    from .job_screen import JobList

    return JobList(store, wanted, console)

"""Which screen shows a job, by the flags and the terminal."""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TextIO

from ..jobs.job import Job
from ..meter import Meter
from ..pipeline.observer import Observer
from .options import QuietOutput, RunOutput
from .output import record
from .screens import EventScreen, JsonScreen, PlainScreen, QueueScreen, QuietQueueScreen, Screen
from .verbosity import set_verbosity

if TYPE_CHECKING:
    from ..watch.said import Audience


def screen_for(options: RunOutput, name: str, number: int = 1, count: int = 1) -> Screen:
    """The screen of the ``number``th of ``count`` bundles, which has this name."""
    if options.json:
        return JsonScreen(name)
    if options.quiet:
        return Screen(name)
    if not can_be_drawn_on(sys.stderr):
        return PlainScreen(name)
    from .live import LiveScreen

    return LiveScreen(name, number, count)


def meter_for(options: QuietOutput, name: str, task: str, number: int = 1, count: int = 1) -> Meter:
    """Who is told how far a piece of work is that is no job: a display on a terminal, elsewhere nobody."""
    if options.json or options.quiet or not can_be_drawn_on(sys.stderr):
        return Meter()
    from .live import LiveWork

    return LiveWork(name, task, number, count)


def is_live(options: RunOutput) -> bool:
    """Whether jobs are shown by lines that are redrawn."""
    return not options.json and not options.quiet and can_be_drawn_on(sys.stderr)


def screens_of_queue(*, json: bool, quiet: bool, verbose: int) -> Callable[[Job], Observer]:
    """What makes the screen of a job from the queue; it can be handed to another process."""
    return partial(_screen_of_queue, json=json, quiet=quiet, verbose=verbose)


def audience_of_watcher(*, json: bool, quiet: bool) -> "Audience":
    """Who is told what happens in drop folders besides the jobs."""
    from ..watch.said import Audience

    def queued(job: Job) -> None:
        if json:
            EventScreen(job).queued(job)

    return Audience(problem=record, notice=None if quiet else record, queued=queued)


def _screen_of_queue(job: Job, *, json: bool, quiet: bool, verbose: int) -> Screen:
    # This may be a process of its own, which has not been told yet how much to say.
    set_verbosity(verbose)
    if json:
        return EventScreen(job)
    return QuietQueueScreen(job.name) if quiet else QueueScreen(job.name)


def can_be_drawn_on(stream: TextIO) -> bool:
    """Whether it is a terminal that can redraw lines."""
    return stream.isatty() and os.environ.get("TERM", "dumb").lower() not in ("dumb", "unknown")

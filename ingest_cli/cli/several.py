"""What is seen of a command that runs several jobs: their screens, and a summary at the end."""

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.filesize import decimal

from ..errors import Interrupted
from ..text import counted, duration
from .display import is_live, screen_for
from .options import RunOutput
from .output import notify
from .screens import JsonScreen, Screen, Turns

if TYPE_CHECKING:
    from ..pipeline.submission import FolderSource
    from .live import LiveTogether

STANDARD_INPUT = Path("-")
# So many failures are named once more; those of a night's work no one reads here.
MOST_FAILURES = 20
# What comes of a job, in the order of the summary: one, several.
Ending = tuple[str, str]
DONE_BEFORE = ("was complete", "were complete")
COMPLETE, SENT, DUPLICATE = ("complete", "complete"), ("sent", "sent"), ("duplicate", "duplicates")
FAILED, DEFERRED = ("failed", "failed"), ("deferred", "deferred")
INTERRUPTED, NOT_BEGUN = ("interrupted", "interrupted"), ("not begun", "not begun")
ENDINGS = (COMPLETE, SENT, DUPLICATE, DONE_BEFORE, FAILED, DEFERRED, INTERRUPTED, NOT_BEGUN)


class Screens:
    """Makes the screens of jobs, of which so many run ``at_once``, for as long as a ``with`` block lasts.

    ``noun`` is what one is called, and ``known`` what one is said to be that was done before; ``sizes`` are those of
    the files that they are of, where these are known.
    """

    def __init__(
        self,
        options: RunOutput,
        *,
        noun: str = "bundle",
        at_once: int = 1,
        sizes: Sequence[int] | None = None,
        known: Ending = DUPLICATE,
    ) -> None:
        self._options, self._noun, self._sizes, self._known = options, noun, sizes, known
        self._is_shown_together = at_once > 1 and is_live(options)
        self._screens: dict[int, Screen] = {}
        self._turns, self._count = Turns(), 0
        self._together: LiveTogether | None = None
        self._lock, self._stack, self._has_ended = threading.Lock(), ExitStack(), False

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __call__(self, name: str, number: int, count: int) -> Screen:
        """The screen of the ``number``th of ``count`` jobs. From any thread."""
        with self._lock:
            self._count = count
            screen = self._screens[number] = self._made(name, number, count)
            return screen

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._has_ended = True
            self._stack.close()
        self._turns.flush()
        is_over = error is None or isinstance(error, Interrupted | KeyboardInterrupt)
        if self._count > 1 and is_over and not self._options.quiet:
            notify(*self._summary())

    def _made(self, name: str, number: int, count: int) -> Screen:
        if self._options.json:
            return JsonScreen(name, number, self._turns)
        if self._has_ended:  # a thread that nobody waits for any more has not noticed yet
            return Screen(name)
        if not self._is_shown_together or count == 1:
            return screen_for(self._options, name, number, count)
        if self._together is None:
            from .live import LiveTogether

            self._together = self._stack.enter_context(LiveTogether(count, self._sizes))
        return self._together.row(name, number)

    def _summary(self) -> list[str]:
        screens = [screen for _, screen in sorted(self._screens.items())]
        endings = Counter(self._known if screen.was_done else _ending(screen) for screen in screens)
        endings[NOT_BEGUN] = self._count - len(screens)
        failures = [screen.failure for screen in screens if screen.failure is not None]
        lines = summary(self._noun, endings, self._stored(screens), failures)
        if len(failures) > MOST_FAILURES:
            lines[-1] += ": 'ingest state --failed'"
        return lines

    def _stored(self, screens: Sequence[Screen]) -> str:
        jobs = [screen.job for screen in screens if _ending(screen) is COMPLETE]
        files, size = sum(job.files for job in jobs if job), sum(job.bytes for job in jobs if job)
        return achieved(files, size, time.monotonic() - self._began)


def achieved(files: int, size: int, seconds: float) -> str:
    """How much was done, how long it took, and how fast that is."""
    rate = f" ({decimal(int(size / seconds))}/s)" if size and seconds else ""
    return f"{counted(files, 'file')}, {decimal(size)} in {duration(seconds)}{rate}"


def summary(noun: str, endings: Mapping[Ending, int], done: str, failures: Sequence[str]) -> list[str]:
    """The lines of a summary: how many of what, what was ``done``, and the first failures once more.

    Where there is nothing but a few failures, these were told just before.
    """
    told = [f"{endings[ending]:,} {ending[endings[ending] != 1]}" for ending in ENDINGS if endings.get(ending)]
    line = f"{counted(sum(endings.values()), noun)}: {', '.join(told)}; {done}"
    if len(failures) == sum(endings.values()) <= MOST_FAILURES:
        return [line]
    lines = [line, *failures[:MOST_FAILURES]]
    if len(failures) > MOST_FAILURES:
        lines.append(f"and {len(failures) - MOST_FAILURES:,} more")
    return lines


def sizes_of(sources: "Sequence[Path | FolderSource]") -> list[int] | None:
    """How large the files and folders are, as far as can be told; None where one comes from standard input."""
    return None if STANDARD_INPUT in sources else [_size_of(source) for source in sources]


def _size_of(source: "Path | FolderSource") -> int:
    try:
        if isinstance(source, Path):
            return source.stat().st_size
        return sum(_size_of(Path(folder, name)) for folder, _, names in os.walk(source.path) for name in names)
    except OSError:  # its job will say so
        return 0


def _ending(screen: Screen) -> Ending:
    job, error = screen.job, screen.error
    if error is not None:
        return DEFERRED if screen.is_deferred else FAILED
    if job is None or not job.is_done:
        return INTERRUPTED
    return COMPLETE if screen.earlier is None else DUPLICATE

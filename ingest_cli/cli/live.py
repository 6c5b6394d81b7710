"""Jobs on a terminal: lines that are redrawn while they run, and erased when they are settled.

One that runs by itself has two lines; of several at once each has one, and all together have another.
"""

import io
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self, TextIO, cast

from rich.cells import cell_len
from rich.console import Console
from rich.filesize import decimal
from rich.live import Live
from rich.text import Text

from ..streams import unguarded
from ..text import counted, printable
from .screens import Once, PlainScreen

FRAMES_A_SECOND = 5
# The rate is that of the last seconds: a bundle's files are of all sizes.
RATE_SECONDS = 10
LONGEST_BAR = 40
SHORTEST_BAR = 10
# A shorter rest of a name says nothing.
SHORTEST_NAME = 6


class Display:
    """``lines`` of so many columns at most, below what is written to standard error: drawn again and again, until it is
    told to `erase` them. With ``answers``, what is written to standard output stands above them too, if it is shown."""

    def __init__(self, lines: Callable[[int], Sequence[Text]], *, answers: bool = False) -> None:
        self._lines, self._answers = lines, answers
        self._stdout, self._stderr = sys.stdout, sys.stderr
        self._console = Console(file=unguarded(self._stderr), highlight=False)
        if self._console.width < 2:  # as COLUMNS has it where nobody knows better
            self._console.width = 80
        self._live: Live | None = None

    @property
    def height(self) -> int:
        """How many lines the window has."""
        return self._console.height

    @property
    def speaks_unicode(self) -> bool:
        """Whether any character can be shown."""
        return self._console.encoding.startswith("utf")

    def shown(self, name: str) -> str:
        """A name as it will be shown: what is escaped on its way takes more room than it has here."""
        encoding = self._console.encoding
        return printable(name).encode(encoding, "backslashreplace").decode(encoding)

    def start(self) -> None:
        """Draw."""
        try:
            sys.stderr = cast(TextIO, _Above(self._console))
            if self._answers and self._stdout is not None and self._stdout.isatty():
                sys.stdout = cast(TextIO, _Above(self._console))
            self._live = Live(
                console=self._console,
                get_renderable=self._frame,
                refresh_per_second=FRAMES_A_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)
        except BaseException:
            self.erase()
            raise

    def erase(self) -> None:
        """Draw no more, and leave nothing of it."""
        sys.stdout, sys.stderr = self._stdout, self._stderr
        if self._live is not None:
            self._live.stop()

    def _frame(self) -> Text:
        # A line as long as the window would make some terminals wrap.
        lines = self._lines(self._console.width - 1)
        return Text("\n", no_wrap=True, overflow="crop").join(line for line in lines if line)


class LiveJob(PlainScreen):
    """A job on a display: its stage, how much of it is done, how fast, and how long it will take.

    ``place`` says which of several it is.
    """

    def __init__(self, name: str, display: Display, place: str = "") -> None:
        super().__init__(name)
        self._display, self._place = display, place
        self._rate = Rate()
        self._shown = display.shown(name)
        self._reached = (0.0, 0.0)

    def stage(self, task: str) -> None:
        """Show the stage."""
        self._reached = (self.share, self.done)
        self._rate = Rate()
        self._enter(task)

    def _count(self, phase: str, length: int, files: int) -> None:
        """Count; that it is shown is the business of the thread that draws."""
        bytes_done, files_done = self._counted[phase]
        self._counted[phase] = (bytes_done + length, files_done + files)
        self._done += length

    @property
    def share(self) -> float:
        """How much of the job is done, as far as is known. What an earlier stage has done counts in later ones."""
        return max(self._reached[0], min(1.0, self._done / self._whole) if self._total else 0.0)

    @property
    def done(self) -> float:
        """How many bytes of it are done."""
        return max(self._reached[1], self.share * self._total)

    def headline(self, width: int) -> Text:
        """The job and its stage, in so many columns."""
        working = f"{self._task}  {self._percent():2}%" if self._files else self._since(self._task)
        room = min(width - cell_len(working) - 2, width // 2)
        name = f"{self._shortened(self._shown, room)}: " if room >= SHORTEST_NAME else ""
        line = Text.assemble(name, (working, "bold"))
        bar = min(LONGEST_BAR, width - line.cell_len - 2)
        if self._files and bar >= SHORTEST_BAR:
            full, empty = "━─" if self._display.speaks_unicode else "#-"
            filled = bar * self._percent() // 100
            line.append("  ").append(full * filled, "green").append(empty * (bar - filled), "dim")
        return line

    def details(self, width: int) -> Text:
        """How far it is, in so many columns."""
        parts = [self._place]
        if self._files:
            rate = self._rate.at(self._done)
            parts += [*self._counts(), f"{decimal(int(rate))}/s" if rate else "", self._left(rate)]
        return Text(_fitted(parts, width, (3, 2, 1, 4)), "dim")

    def _since(self, task: str) -> str:
        seconds = int(time.monotonic() - self._entered)
        return f"{task}  {timedelta(seconds=seconds)}" if seconds else task

    def _left(self, rate: float) -> str:
        return "finishing" if self._done >= self._whole else _left(self._whole - self._done, rate)

    def _shortened(self, name: str, room: int) -> str:
        """The end of a long name, which tells more than its beginning."""
        if cell_len(name) <= room:
            return name
        dots = "…" if self._display.speaks_unicode else "..."
        while name and cell_len(dots + name) > room:
            name = name[1:]
        return dots + name


class LiveScreen(LiveJob):
    """A job by itself, the bundle ``number`` of ``count``: two lines."""

    def __init__(self, name: str, number: int = 1, count: int = 1, *, answers: bool = False) -> None:
        display = Display(lambda width: [self.headline(width), self.details(width)], answers=answers)
        super().__init__(name, display, f"bundle {number} of {count}" if count > 1 else "")

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.erase()

    def end(self) -> None:
        """Erase the display: how the job ended is written in its place."""
        self._display.erase()
        super().end()


class LiveWork(Once, LiveScreen):
    """A piece of work that is no job, and goes through every byte once; the ``number``th of ``count``."""

    def __init__(self, name: str, task: str, number: int = 1, count: int = 1) -> None:
        super().__init__(name, number, count, answers=True)
        self._enter(task)

    def part(self, task: str) -> None:
        """Show what it is at."""
        self._task = task

    def advance(self, length: int, files: int = 0) -> None:
        """Count."""
        self._count("done", length, files)

    def _counts(self) -> list[str]:
        _, files = self._counted["done"]
        return [f"{files:,} of {counted(self._files, 'file')}", *super()._counts()]


class LiveTogether:
    """Several jobs at once, for as long as a ``with`` block lasts: a line for each, and one for all ``count`` of them.

    ``sizes`` are those of their files in bytes, where they are known.
    """

    def __init__(self, count: int, sizes: Sequence[int] | None = None) -> None:
        self._count, self._sizes = count, sizes
        self._display = Display(self.lines, answers=True)
        self._rows: dict[int, LiveRow] = {}
        self._ended = self._failed = self._deferred = 0
        self._bytes = 0.0
        self._rate, self._lock = Rate(), threading.Lock()

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.erase()

    def row(self, name: str, number: int) -> "LiveRow":
        """The screen of the job with this number."""
        return LiveRow(name, number, self, self._display)

    def begin(self, number: int, row: "LiveRow") -> None:
        """A job is at work."""
        self._rows[number] = row

    def leave(self, number: int) -> None:
        """It is not any more, for now."""
        self._rows.pop(number, None)

    def end(self, number: int, row: "LiveRow") -> None:
        """It has come to its end."""
        with self._lock:
            self._ended += 1
            self._deferred += row.is_deferred
            self._failed += row.error is not None and not row.is_deferred
            self._bytes += row.done if self._sizes is None else self._sizes[number - 1]

    def lines(self, width: int) -> list[Text]:
        """What is drawn, in so many columns."""
        rows = sorted(self._rows.copy().items())
        room = max(1, self._display.height - 3)
        lines = [row.headline(width) for _, row in rows[:room]]
        if len(rows) > room:
            lines.append(Text(f"and {len(rows) - room:,} more at work", "dim"))
        return [*lines, self._whole(width, rows)]

    def _whole(self, width: int, rows: "Sequence[tuple[int, LiveRow]]") -> Text:
        sizes = self._sizes
        done = self._bytes + sum(row.done if sizes is None else row.share * sizes[number - 1] for number, row in rows)
        rate = self._rate.at(done)
        wrong = [(self._failed, "failed"), (self._deferred, "deferred")]
        parts = [
            f"{self._ended:,} of {self._count:,} done",
            "  ".join(f"{count:,} {what}" for count, what in wrong if count),
            decimal(int(done)) if sizes is None else f"{decimal(int(done))} of {decimal(sum(sizes))}",
            f"{decimal(int(rate))}/s" if rate else "",
            "" if sizes is None else _left(sum(sizes) - done, rate),
        ]
        return Text(_fitted(parts, width, (3, 2, 1, 4)), "dim")


class LiveRow(LiveJob):
    """One of several jobs at once: a line, from its begin to its end."""

    def __init__(self, name: str, number: int, together: LiveTogether, display: Display) -> None:
        super().__init__(name, display)
        self._number, self._together = number, together

    def __enter__(self) -> Self:
        self._together.begin(self._number, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self.is_postponed:
            self._together.end(self._number, self)
        self._together.leave(self._number)


class Rate:
    """How fast something is, of which so much is done at a moment: over the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=RATE_SECONDS * FRAMES_A_SECOND)

    def at(self, done: float) -> float:
        """So much is done now: how much a second that is."""
        now = time.monotonic()
        self._samples.append((now, done))
        then, before = self._samples[0]
        return max(0.0, (done - before) / (now - then)) if now > then else 0.0


def _left(rest: float, rate: float) -> str:
    return f"{timedelta(seconds=math.ceil(rest / rate))} left" if rate > 0 else ""


def _fitted(parts: list[str], width: int, expendables: Sequence[int]) -> str:
    """The parts of a line. Where the window is narrow, the first to go is the first of the ``expendables``."""
    parts = list(parts)
    for expendable in expendables:
        if cell_len("  ".join(filter(None, parts))) > width and expendable < len(parts):
            parts[expendable] = ""
    return "  ".join(filter(None, parts))


class _Above(io.TextIOBase):
    """A standard stream while there is a display: whole lines are written above it."""

    def __init__(self, console: Console) -> None:
        self._console, self._begun = console, ""

    def write(self, text: str) -> int:
        """Write all lines that have come to their end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.print(Text(printable(line)), soft_wrap=True)
        return len(text)

"""A job on a terminal: two lines that are redrawn while it runs, and erased when it is settled."""

import io
import math
import sys
import time
from collections import deque
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Console
from rich.filesize import decimal
from rich.live import Live
from rich.text import Text

from ..streams import unguarded
from ..text import printable
from .screens import PlainScreen

FRAMES_A_SECOND = 5
# The rate is that of the last seconds: a bundle's files are of all sizes.
RATE_SECONDS = 10
LONGEST_BAR = 40
SHORTEST_BAR = 10
# A shorter rest of a name says nothing.
SHORTEST_NAME = 6


class LiveScreen(PlainScreen):
    """The bundle ``number`` of ``count``: its stage, how much of it is done, how fast, and how long it will take."""

    def __init__(self, name: str, number: int = 1, count: int = 1) -> None:
        super().__init__(name)
        self._place = f"bundle {number} of {count}" if count > 1 else ""
        self._samples: deque[tuple[float, int]] = deque(maxlen=RATE_SECONDS * FRAMES_A_SECOND)
        self._stderr = sys.stderr
        self._console = Console(file=unguarded(self._stderr), highlight=False)
        if self._console.width < 2:  # as COLUMNS has it where nobody knows better
            self._console.width = 80
        # What will be escaped on its way takes more room than it has here.
        encoding = self._console.encoding
        self._name = printable(name).encode(encoding, "backslashreplace").decode(encoding)
        self._live = Live(
            console=self._console,
            get_renderable=self._frame,
            refresh_per_second=FRAMES_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        try:
            sys.stderr = _Above(self._console)
            self._live.start(refresh=True)
        except BaseException:
            self._erase()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._erase()

    def _erase(self) -> None:
        sys.stderr = self._stderr
        self._live.stop()

    def end(self) -> None:
        """Erase the display: how the job ended is written in its place."""
        self._erase()
        super().end()

    def stage(self, task: str) -> None:
        """Show the stage."""
        self._samples.clear()
        self._enter(task)

    def _count(self, phase: str, length: int, files: int) -> None:
        """Count; that it is shown is the business of the thread that draws."""
        bytes_done, files_done = self._counted[phase]
        self._counted[phase] = (bytes_done + length, files_done + files)
        self._done += length

    def _frame(self) -> Text:
        # A line as long as the window would make some terminals wrap.
        width = self._console.width - 1
        lines = [self._headline(width), self._details(width)]
        return Text("\n", no_wrap=True, overflow="crop").join(line for line in lines if line)

    def _headline(self, width: int) -> Text:
        working = f"{self._task}  {self._percent():2}%" if self._files else self._since(self._task)
        room = min(width - cell_len(working) - 2, width // 2)
        name = f"{self._shortened(self._name, room)}: " if room >= SHORTEST_NAME else ""
        line = Text.assemble(name, (working, "bold"))
        bar = min(LONGEST_BAR, width - line.cell_len - 2)
        if self._files and bar >= SHORTEST_BAR:
            full, empty = "━─" if self._speaks_unicode else "#-"
            filled = bar * self._percent() // 100
            line.append("  ").append(full * filled, "green").append(empty * (bar - filled), "dim")
        return line

    def _since(self, task: str) -> str:
        seconds = int(time.monotonic() - self._entered)
        return f"{task}  {timedelta(seconds=seconds)}" if seconds else task

    def _details(self, width: int) -> Text:
        parts = [self._place]
        if self._files:
            rate = self._rate()
            parts += [*self._counts(), f"{decimal(int(rate))}/s" if rate else "", self._left(rate)]
        # Where the window is narrow, the first to go is the rate, the last the place.
        for expendable in (3, 2, 1, 4):
            if cell_len("  ".join(filter(None, parts))) > width and expendable < len(parts):
                parts[expendable] = ""
        return Text("  ".join(filter(None, parts)), "dim")

    def _rate(self) -> float:
        now = time.monotonic()
        self._samples.append((now, self._done))
        then, done = self._samples[0]
        return (self._done - done) / (now - then) if now > then else 0.0

    def _left(self, rate: float) -> str:
        if self._done >= self._whole:
            return "finishing"
        return f"{timedelta(seconds=math.ceil((self._whole - self._done) / rate))} left" if rate else ""

    @property
    def _speaks_unicode(self) -> bool:
        return self._console.encoding.startswith("utf")

    def _shortened(self, name: str, room: int) -> str:
        """The end of a long name, which tells more than its beginning."""
        if cell_len(name) <= room:
            return name
        dots = "…" if self._speaks_unicode else "..."
        while name and cell_len(dots + name) > room:
            name = name[1:]
        return dots + name


class _Above(io.TextIOBase):
    """Standard error while there is a display: whole lines are written above it."""

    def __init__(self, console: Console) -> None:
        self._console, self._begun = console, ""

    def write(self, text: str) -> int:
        """Write all lines that have come to their end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.print(Text(printable(line)), soft_wrap=True)
        return len(text)

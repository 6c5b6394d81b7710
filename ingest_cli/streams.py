"""The standard streams: what is printed comes as whole lines, and commands nothing of what shows it."""

import codecs
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from .text import printable

STANDARD_OUTPUT = "standard output"


def occupy_closed() -> None:
    """Open /dev/null in place of each standard stream that is closed.

    Otherwise the first file to be opened gets the stream's number, and with it what is printed. In Python such a stream
    stays None: whoever is to read or write data there can tell.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003


def guard() -> None:
    """Write each line in one piece, so that lines of other processes come before or after it, not within.

    What a terminal would obey rather than show is escaped, and so is what the stream's encoding does not have. From
    then on, a standard error that cannot be written, such as a log on a full disk, does not fail a job either.
    """
    # Where it is closed, too: to print to None is to print to standard output.
    messages = _StandardError(2, "w", closefd=False)
    sys.stderr = Guarded(messages, getattr(sys.stderr, "encoding", "utf-8"), line_buffering=True)
    if sys.stdout is not None:
        # Under PYTHONUNBUFFERED a line and its end would be two writes.
        at_once = sys.stdout.isatty() or getattr(sys.stdout, "write_through", False)
        binary = io.BufferedWriter(_StandardOutput(1, "w", closefd=False))
        sys.stdout = Guarded(binary, sys.stdout.encoding, line_buffering=at_once)


def flush() -> OSError | None:
    """Write what is left of standard output, and nothing more from then on. Returns what could not be done.

    What could not be written would be tried again, and complained of, at the very end.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return error
    finally:
        with suppress(OSError):  # then the interpreter complains at its very end, once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return None


def unguarded(stream: TextIO) -> TextIO:
    """The same stream for those who draw on a terminal, and print only what they have made printable."""
    return cast(TextIO, _Unguarded(stream)) if isinstance(stream, Guarded) else stream


class Guarded(io.TextIOWrapper):
    """A stream of printable lines. ``speaks`` is the encoding whose characters are written as they are; so many
    ``lines`` have been written."""

    def __init__(self, binary: Any, encoding: str, *, line_buffering: bool) -> None:
        self.speaks, self.lines = encoding, 0
        self._only_ascii = codecs.lookup(encoding).name == "ascii"
        # typer takes ASCII for a mistake, and would write UTF-8 past this stream.
        written = "utf-8" if self._only_ascii else encoding
        super().__init__(binary, written, "backslashreplace", line_buffering=line_buffering)

    def write(self, text: str) -> int:
        """Write what is printable as it is, as tabs and the ends of lines are, and escape the rest."""
        self.lines += text.count("\n")
        return self.draw(printable(text, besides="\n\t"))

    def draw(self, text: str) -> int:
        """Write what may command a terminal."""
        return super().write(text.encode("ascii", "backslashreplace").decode() if self._only_ascii else text)


class _Unguarded(io.TextIOBase):
    def __init__(self, stream: Guarded) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.speaks

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def write(self, text: str) -> int:
        return self._stream.draw(text)

    def flush(self) -> None:
        self._stream.flush()


class _Descriptor(io.FileIO):
    """A file of which a write writes all."""

    def write(self, data: Any) -> int:
        """Write, also where another process has made writing not wait. Raises OSError."""
        unwritten = memoryview(data)
        while unwritten:
            written: int | None = super().write(unwritten)
            if written is None:
                select.select([], [self], [])
            unwritten = unwritten[written or 0 :]
        return len(data)


class _StandardOutput(_Descriptor):
    """Standard output, by whose name its failures are known."""

    def write(self, data: Any) -> int:
        """Write. Raises OSError."""
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error


class _StandardError(_Descriptor):
    """Standard error, whose failures are ignored."""

    def write(self, data: Any) -> int:
        """Write, or ignore that it cannot be written."""
        try:
            return super().write(data)
        except OSError:
            return len(data)

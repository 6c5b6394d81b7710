"""How commands write: data goes to standard output, messages to standard error.

Names and texts of others are shown by what is here, so that none of them can command a terminal or pass for two lines.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, Self, TextIO

import typer

from ..errors import ExitCode, IngestError, SettingsError
from ..text import as_json, one_line, timed

MOST_WARNINGS = 20


def say(text: object) -> None:
    """Print a line of a command's answer."""
    _print([text], sys.stdout)


def write_json(answer: object, *, indent: int | None = None) -> None:
    """Write a command's whole answer, or that of one job, for programs."""
    print(f"{as_json(answer, indent)}\n", end="", flush=True)


def write_json_list(items: Iterable[object]) -> None:
    """Write a list for programs, of which no more than an item need be in memory."""
    lead = "["
    for item in items:
        print(lead, as_json(item), sep="", end="")
        lead = ", "
    print("[]" if lead == "[" else "]", flush=True)


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table for programs, with a line of the names of its columns."""
    import csv

    if sys.stdout is None:  # what is closed takes nothing, as with `print`
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([one_line(value) for value in row] for row in rows)
    sys.stdout.flush()


def finish(errors: Iterable[IngestError | None], *, debug: bool) -> None:
    """Exit as the table of exit codes says, where any of several things ended with an error; ``debug`` shows where."""
    import traceback

    errors = list(errors)
    if debug:
        for error in filter(None, errors):
            traceback.print_exception(error)
    code = ExitCode.of_errors(errors)
    if code is not ExitCode.SUCCESS:
        raise typer.Exit(code)


def write_event(event: str, /, **fields: object) -> None:
    """Write one of many lines for programs."""
    write_json({"event": event, **fields})


def error_fields(error: IngestError | None) -> dict[str, object]:
    """What a program is told of the error that ended one of several things; nothing where none did."""
    return {} if error is None else {"error": "\n".join(error.lines), "exit_code": int(error.exit_code)}


def mention(text: object) -> None:
    """Print a line of what happens to standard error."""
    _print([text], sys.stderr)


def notify(*texts: object) -> None:
    """Print a message for the person who runs the command; of several lines, between which there comes no other."""
    _print([f"ingest: {text}" for text in texts], sys.stderr)


def _print(lines: Iterable[object], stream: TextIO) -> None:
    # In one piece: other threads and processes write to the same place.
    print("".join(f"{one_line(line)}\n" for line in lines), end="", file=stream, flush=True)


def record(text: object) -> None:
    """Print a message after its time, as what runs for long does."""
    mention(timed(f"ingest: {text}"))


def warn(text: object) -> None:
    """Print a warning."""
    notify(f"warning: {text}")


class Warnings:
    """Prints the first of many warnings by ``tell``, and at the end how many more there were."""

    def __init__(self, tell: Callable[[str], None] = notify) -> None:
        self._tell, self._count = tell, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def warn(self, text: object) -> None:
        """Print a warning, unless there were too many."""
        self._count += 1
        if self._count <= MOST_WARNINGS:
            self._tell(f"warning: {text}")

    def end(self) -> None:
        """Print how many there were that are not printed. What comes afterwards is counted anew."""
        more, self._count = self._count - MOST_WARNINGS, 0
        if more > 0:
            self._tell(f"warning: and {more:,} more")


@contextmanager
def regardless() -> Iterator[None]:
    """Go on where standard output cannot be written, which is no failure of a job.

    It is one of the command: at its end the rest is tried once more.
    """
    with suppress(OSError):
        yield


def standard_input() -> BinaryIO:
    """Standard input, for data. Raises SettingsError where it is closed."""
    if sys.stdin is None:
        raise SettingsError("standard input is closed: there is nothing to read from it")
    return sys.stdin.buffer


def standard_output() -> BinaryIO:
    """Standard output, for data. Raises SettingsError where it is closed."""
    if sys.stdout is None:
        raise SettingsError("standard output is closed: there is nothing to write to")
    return sys.stdout.buffer


def bundle_output() -> BinaryIO:
    """Standard output, for a bundle. Raises SettingsError where it is closed, or a terminal."""
    if sys.stdout is not None and sys.stdout.isatty():
        raise SettingsError("a bundle cannot be shown on a terminal: redirect it, or give -o a file")
    return standard_output()

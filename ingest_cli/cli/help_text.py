"""The text of a command's help, as wide as the window: no word is cut, and no line is wider than it."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MAX_WIDTH = 100
INDENT = 2
GAP = 2
# What stands in a column is not to be squeezed into less than this: it stands below the names then.
LEAST_COLUMN = 34
MOST_NAMES = 30
BELOW = 4


class HelpText:
    """Takes the parts of a help as typer gives them to its own formatter."""

    def __init__(self, width: int | None = None) -> None:
        self._width = width or min(shutil.get_terminal_size().columns, MAX_WIDTH)
        self._indent = 0
        self._lines: list[str] = []

    def write_usage(self, prog: str, args: str = "") -> None:
        """How it is called."""
        first = f"Usage: {prog} "
        self._write(args, first, " " * (len(first) if len(first) <= self._width // 2 else INDENT))

    def write_text(self, text: str) -> None:
        """Paragraphs."""
        margin = " " * self._indent
        for number, paragraph in enumerate(text.split("\n\n")):
            if number:
                self._lines.append("")
            self._write(" ".join(paragraph.split()), margin, margin)

    def write_paragraph(self) -> None:
        """An empty line between two parts."""
        if self._lines:
            self._lines.append("")

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names, and what is said of each."""
        longest = max((len(name) for name, _ in rows if len(name) <= MOST_NAMES), default=0)
        column = self._indent + longest + GAP
        beside = self._width - column >= LEAST_COLUMN
        for name, said in rows:
            if beside and len(name) <= longest:
                self._write(said, f"{' ' * self._indent}{name:{longest + GAP}}", " " * column)
                continue
            margin = " " * (column if beside else self._indent + BELOW)
            self._write(name, " " * self._indent, " " * (self._indent + BELOW))
            self._write(said, margin, margin)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """A part under a heading."""
        self.write_paragraph()
        self._lines.append(f"{name}:")
        with self.indentation():
            yield

    @contextmanager
    def indentation(self) -> Iterator[None]:
        """What is indented."""
        self._indent += INDENT
        try:
            yield
        finally:
            self._indent -= INDENT

    def getvalue(self) -> str:
        """The whole text."""
        return "\n".join(self._lines)

    def _write(self, text: str, first: str, others: str) -> None:
        wrapped = textwrap.wrap(
            text,
            self._width,
            initial_indent=first,
            subsequent_indent=others,
            break_long_words=False,
            break_on_hyphens=False,
        )
        self._lines += wrapped or [first.rstrip()]

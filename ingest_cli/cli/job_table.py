"""Jobs as a table that fits the terminal's width; where nobody looks on, one whose lines hold everything."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.filesize import decimal

from ..jobs.job import Job
from ..text import one_line
from .describe import details, since

GAP = "  "
# The narrowest columns in which a name, or a reason, says something.
SHORTEST_NAME = 12
SHORTEST_DETAILS = 48
LONGEST_NAME = 48
STYLES = {
    "complete": "green",
    "running": "cyan",
    "undoing": "cyan",
    "deferred": "yellow",
    "interrupted": "yellow",
    "stopped": "yellow",
    "failed": "red",
    "held": "red",
}

Piece = tuple[str, str]
Line = list[Piece]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A job's line: what stands in each column, in their order."""

    job: str
    state: str
    name: str
    files: str
    size: str
    when: str
    details: str

    @classmethod
    def of(cls, job: Job, word: str, now: datetime | None) -> "Row":
        """The row of a job whose state is called by this ``word``; times are told as seen from ``now``, if given."""
        is_known = job.digest is not None
        return cls(
            job=str(job.job_id),
            state=word,
            name=one_line(job.name),
            files=f"{job.files:,}" if is_known else "-",
            size=decimal(job.bytes) if is_known else "-",
            when=since(job.updated, now),
            details=one_line(details(job, word, now)),
        )


COLUMNS = [column.name for column in fields(Row)]
RIGHT = {"job", "files", "size"}
HEADER = Row(**{name: name for name in COLUMNS})


@dataclass(kw_only=True, slots=True)
class PlainTable:
    """Writes lines of all there is to know. Jobs may come in any number of pieces: columns only grow wider."""

    write: Callable[[str], None]
    widths: dict[str, int] = field(default_factory=dict)

    def show(self, rows: Iterable[Row]) -> None:
        """Write the rows, the first time below the header."""
        rows = [*([] if self.widths else [HEADER]), *rows]
        for name in COLUMNS:
            self.widths[name] = max(self.widths.get(name, 0), *(cell_len(getattr(row, name)) for row in rows))
        for row in rows:
            self.write(GAP.join(_cell(row, name, self.widths[name]) for name in COLUMNS).rstrip())


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedTable:
    """Rows in ``width`` columns of a terminal that speaks this ``encoding``.

    Names are shortened to their last parts, before reasons are shortened, and to the ends of these. What there is to
    know besides stands in a column of its own where there is room for it, else on a line below; a very narrow table
    goes without sizes, then without times.
    """

    width: int
    encoding: str

    def lines(self, rows: list[Row]) -> tuple[Line, list[list[Line]]]:
        """The header, and the lines of each row."""
        rows = [self._speakable(row) for row in rows]
        widths = {name: max(cell_len(getattr(row, name)) for row in [HEADER, *rows]) for name in COLUMNS}
        with_last_parts = [replace(row, name=_last_part(row.name)) for row in rows]
        shortest = _longest_name(with_last_parts)
        names = self._names(widths | {"name": shortest})
        room = self.width - sum(widths[name] + len(GAP) for name in names if name != "name")
        details = widths["details"] if any(row.details for row in rows) else 0
        beside = room - min(details, SHORTEST_DETAILS) - len(GAP) if details else room
        has_room = min(shortest, LONGEST_NAME) <= beside
        if widths["name"] > (room - len(GAP) - details if details and has_room else room):
            rows, widths["name"] = with_last_parts, shortest
        if details and has_room:
            names.append("details")
            widths["name"] = min(widths["name"], max(LONGEST_NAME, room - len(GAP) - details))
            widths["details"] = room - len(GAP) - widths["name"]
        widths["name"] = min(widths["name"], room)
        return self._line(HEADER, names, widths, "bold"), [self._lines_of(row, names, widths) for row in rows]

    def _names(self, widths: dict[str, int]) -> list[str]:
        """The columns that there is room for."""
        names = [name for name in COLUMNS if name != "details"]
        for expendable in ("files", "size", "when"):
            others = sum(widths[name] + len(GAP) for name in names if name != "name")
            if self.width - others < min(SHORTEST_NAME, widths["name"]):
                names.remove(expendable)
        return names

    def _lines_of(self, row: Row, names: list[str], widths: dict[str, int]) -> list[Line]:
        line = self._line(row, names, widths, STYLES.get(row.state, ""))
        if "details" in names or not row.details:
            return [line]
        indent = widths["job"] + len(GAP)
        return [line, [(" " * indent, ""), (self._beginning(row.details, self.width - indent), "dim")]]

    def _line(self, row: Row, names: list[str], widths: dict[str, int], style: str) -> Line:
        if row is not HEADER:
            row = replace(row, name=self._end(row.name, widths["name"]))
            row = replace(row, details=self._beginning(row.details, widths["details"]))
        styles = dict.fromkeys(names, style) if row is HEADER else {"state": style, "details": "dim"}
        cells = [(_cell(row, name, widths[name]), styles.get(name, "")) for name in names]
        return [piece for cell in cells for piece in (cell, (GAP, ""))][:-1]

    def _speakable(self, row: Row) -> Row:
        # What will be escaped on its way takes more room than it has here.
        shown = {name: getattr(row, name).encode(self.encoding, "backslashreplace") for name in COLUMNS}
        return Row(**{name: text.decode(self.encoding) for name, text in shown.items()})

    def _end(self, text: str, room: int) -> str:
        if cell_len(text) <= room:
            return text
        while text and cell_len(self._dots + text) > room:
            text = text[1:]
        return self._dots + text

    def _beginning(self, text: str, room: int) -> str:
        if cell_len(text) <= room:
            return text
        return set_cell_size(text, max(0, room - len(self._dots))).rstrip() + self._dots

    @property
    def _dots(self) -> str:
        return "…" if self.encoding.lower().startswith("utf") else "..."


def _cell(row: Row, name: str, width: int) -> str:
    text: str = getattr(row, name)
    padding = " " * (width - cell_len(text))
    return padding + text if name in RIGHT else text + padding


def _longest_name(rows: list[Row]) -> int:
    return max(cell_len(row.name) for row in [HEADER, *rows])


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2] or name

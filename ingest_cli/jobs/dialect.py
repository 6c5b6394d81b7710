"""What SQLite and PostgreSQL have different words for."""

from collections.abc import Iterable
from typing import Any, Protocol

# Of those that SQLite's own GLOB is given first, which is quicker by far and leaves little to be looked at. It knows
# other classes of characters, and takes no pattern of more than 50,000 bytes.
LONGEST_GLOB = 1000
Condition = tuple[str, list[Any]]


class Dialect(Protocol):
    """Conditions come with their values."""

    def matches(self, column: str, glob: str) -> Condition:
        """That the glob `filter.matches` the column."""

    def resembles(self, column: str, pieces: Iterable[tuple[str, bool]]) -> Condition:
        """That the column is like these pieces, which are text, and ``*`` or ``?`` where they are said to be wild."""

    def seconds(self, moment: str) -> str:
        """How many whole seconds after 1970 a moment is that a column holds as text."""


class SqliteDialect:
    """SQLite's; the function ``matches`` is the store's own."""

    def matches(self, column: str, glob: str) -> Condition:
        """By the function, after SQLite's own where that can tell."""
        exact = f"matches(?, {column})"
        if "[" in glob or len(glob) >= LONGEST_GLOB:
            return exact, [glob]
        return f"{column} GLOB ? AND {exact}", [f"*{glob}*", glob]

    def resembles(self, column: str, pieces: Iterable[tuple[str, bool]]) -> Condition:
        """By a glob, whose sets are not quite those of Python."""
        return f"{column} GLOB ?", ["".join(text if is_wild else text.replace("[", "[[]") for text, is_wild in pieces)]

    def seconds(self, moment: str) -> str:
        """As a number."""
        return f"CAST(strftime('%s', {moment}) AS INTEGER)"

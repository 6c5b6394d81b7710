"""What SQLite and PostgreSQL have different words for."""

import re
from collections.abc import Iterable
from fnmatch import translate
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


class PostgresDialect:
    """PostgreSQL's."""

    def matches(self, column: str, glob: str) -> Condition:
        """By a regular expression, of the whole and of the last part."""
        last = f"substring(rtrim({column}, '/') from '[^/]*$')"
        return f"({column} ~ ? OR {last} ~ ?)", [expression := as_expression(glob), expression]

    def resembles(self, column: str, pieces: Iterable[tuple[str, bool]]) -> Condition:
        """By LIKE."""
        wild = {"*": "%", "?": "_"}
        like = "".join(wild[text] if is_wild else re.sub(r"([%_\\])", r"\\\1", text) for text, is_wild in pieces)
        return f"{column} LIKE ?", [like]

    def seconds(self, moment: str) -> str:
        """As a number."""
        return f"CAST(floor(extract(epoch FROM CAST({moment} AS timestamp))) AS bigint)"


# A set, as `fnmatch` finds its end; or what stands for others; or a character that stands for itself.
SIGN = re.compile(r"\[!?+\]?+[^\]]*+\]|\*+|.", re.DOTALL)


def as_expression(glob: str) -> str:
    """The glob as an advanced regular expression of PostgreSQL."""
    return "^" + "".join(map(_as_expression, SIGN.findall(glob))) + "$"


def _as_expression(sign: str) -> str:
    if sign[0] == "*":
        return ".*"
    if sign == "?":
        return "."
    if len(sign) > 1:
        found = translate(sign).removeprefix("(?s:").rpartition(")")[0]
        inner = re.sub(r"\\.|\[", lambda part: part[0] if len(part[0]) > 1 else r"\[", found[1:-1], flags=re.DOTALL)
        return f"[{inner}]" if found.startswith("[") else found
    return sign if sign.isalnum() else rf"\U{ord(sign):08x}"

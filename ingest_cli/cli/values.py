"""What the words of a command line mean: numbers, paths and words of a list, and what is said of one that is none.

Typer is only told of words, so that what it says of values, and of the types of Python, is said nowhere.
"""

import inspect
import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from ..errors import SettingsError
from ..text import quoted

TYPES = (int, float, Path, StrEnum)
# Longer than anyone waits, and not too long for any system to wait.
MOST_SECONDS = 10**9
# What a database and the kernel can hold.
MOST_WHOLE = 2**63 - 1


@dataclass(frozen=True)
class Reader:
    """Reads the words of a parameter: ``name`` is how a person knows it."""

    name: str
    kind: type
    metavar: str
    least: float | None
    most: float | None

    def read(self, given: Any) -> Any:
        """The value that was given: a word, several, or none. Raises SettingsError where one is not of its kind."""
        if isinstance(given, list | tuple):
            return [self.read(word) for word in given]
        return self._value(given) if isinstance(given, str) else given

    def _value(self, word: str) -> Any:
        if issubclass(self.kind, StrEnum):
            return self._one_of(self.kind, word)
        if self.kind is Path:
            if not word:
                raise SettingsError(f"{self.name} is empty: give a {self.metavar}")
            return Path(word)
        number = _whole(word) if self.kind is int else _real(word)
        if number is not None and self.metavar == "SECONDS":
            number = min(number, MOST_SECONDS)
        if number is None or not math.isfinite(number) or not self._is_between(number):
            raise SettingsError(f"{self.name} {quoted(word)} is not {self._expected}")
        return number

    def _one_of(self, words: type[StrEnum], word: str) -> StrEnum:
        try:
            return words(word)
        except ValueError:
            raise SettingsError(f"{self.name} {quoted(word)} is not one of {', '.join(words)}") from None

    def _is_between(self, number: float) -> bool:
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)

    @property
    def _expected(self) -> str:
        if self.metavar == "JOB_ID":
            return "the number of a job"
        what = "a whole number" if self.kind is int else "a number"
        if self.least is not None and self.most is not None:
            return f"{what} from {_text(self.least)} to {_text(self.most)}"
        return what if self.least is None else f"{what} from {_text(self.least)} on"


def as_words(parameter: inspect.Parameter) -> tuple[inspect.Parameter, Reader | None]:
    """The parameter of a command as typer is told of it, and who reads its words; None where typer does."""
    if get_origin(parameter.annotation) is not Annotated:
        return parameter, None
    hint, info = get_args(parameter.annotation)
    parts = list(_parts(hint))
    kind = next((part for part in parts if isinstance(part, type) and issubclass(part, TYPES)), bool)
    if issubclass(kind, bool) or getattr(info, "count", False):
        return parameter, None
    words = copy(info)
    words.min = words.max = None
    type_ = list[str] if any(get_origin(part) is list for part in parts) else str
    default = parameter.default if parameter.default in (None, inspect.Parameter.empty) else _text(parameter.default)
    reader = Reader(_name(info, parameter), kind, info.metavar or parameter.name.upper(), info.min, info.max)
    return parameter.replace(annotation=Annotated[type_, words], default=default), reader


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        yield from _parts(part)


def _name(info: Any, parameter: inspect.Parameter) -> str:
    """The long spelling of an option, or what stands for an argument."""
    spellings = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
    return max(spellings, key=len) if spellings else info.metavar or parameter.name.upper()


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _whole(word: str) -> int | None:
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MOST_WHOLE))):
        return None
    return int(word) if int(digits) <= MOST_WHOLE else None


def _real(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None

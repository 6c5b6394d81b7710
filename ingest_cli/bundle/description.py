"""What is said of a folder: of whom and what it is, and what is left out of it. It may stand in the folder itself."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from ..disk import explained, open_regular
from ..errors import SettingsError
from ..settings import Ids
from .folder import DESCRIPTION
from .records import Record, transaction_records

Pair = tuple[str, str]
IDS = ("submitter", "project", "instrument")
# Nobody writes a longer one by hand.
MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Description(Ids):
    """What is said of a folder, as far as it is: also its ``keys`` and their values, and patterns to ``exclude``."""

    keys: tuple[Pair, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """What must yet be said."""
        return [name for name in IDS if getattr(self, name) is None]

    @property
    def records(self) -> list[Record]:
        """What the document has of it, once nothing is missing."""
        if self.submitter is None or self.project is None or self.instrument is None:
            raise ValueError(f"not said: {self.missing}")
        return transaction_records(self.submitter, self.project, self.instrument, self.keys)

    def over(self, other: Ids) -> Self:
        """This, with what only the other says. A key that both have has this one's values."""
        ids = {name: getattr(other if getattr(self, name) is None else self, name) for name in IDS}
        if not isinstance(other, Description):
            return type(self)(**ids, keys=self.keys, exclude=self.exclude)
        own = {key for key, _ in self.keys}
        others = tuple(pair for pair in other.keys if pair[0] not in own)
        return type(self)(**ids, keys=(*others, *self.keys), exclude=(*other.exclude, *self.exclude))


def read_description(folder: Path) -> Description:
    """What stands in the folder itself; nothing where there is no such file. Raises SettingsError."""
    path = folder / DESCRIPTION
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return Description()
    except OSError as error:
        raise explained(error, f"cannot read {path}", SettingsError) from error
    if len(raw) > MAX_BYTES:
        raise SettingsError(f"{path} is longer than {MAX_BYTES:,} bytes")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not JSON: {error}") from error
    try:
        return _description_of(found)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None


def description_of(records: list[Record]) -> Ids:
    """Of whom and what a document with these records is."""
    values = {record["destinationTable"].removeprefix("Transactions."): record.get("value") for record in records}
    return Ids(**{name: values.get(name) for name in IDS})


def _description_of(found: Any) -> Description:
    if not isinstance(found, dict):
        raise ValueError('not an object, such as {"project": "1234a"}')
    known = [field.name for field in fields(Description)]
    for name in found:
        if name not in known:
            raise ValueError(f"{name!r} is not known: {', '.join(known)} are")
    return Description(
        submitter=_number(found, "submitter"),
        project=_text(found, "project"),
        instrument=_number(found, "instrument"),
        keys=tuple(_pairs(found.get("keys", {}))),
        exclude=tuple(_texts("exclude", found.get("exclude", []))),
    )


def _number(found: dict[str, Any], name: str) -> int | None:
    value = found.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{name!r} is not a number: {value!r}")
    return value


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name!r} is not a text: {value!r}")
    return value


def _pairs(keys: Any) -> list[Pair]:
    if not isinstance(keys, dict):
        raise ValueError("'keys' is not an object of keys and their values")
    return [(key, text) for key, value in keys.items() for text in _texts(key, value)]


def _texts(name: str, value: Any) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name!r} is neither a text nor a list of texts")
    return texts

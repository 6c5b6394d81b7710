"""The section of folders: of whom and what they are, where nothing else says so."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .forms import number_of, printable_of
from .options import DEFAULT_INSTRUMENT, DEFAULT_PROJECT, DEFAULT_SUBMITTER, Option
from .values import Value

# No database takes more.
MAX_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Ids:
    """Of whom and what a folder is, as far as it is said; None where it is not."""

    submitter: int | None = None
    project: str | None = None
    instrument: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What the environment says of folders, and what the configuration file does."""

    environment: Ids = Ids()
    file: Ids = Ids()

    @property
    def ids(self) -> Ids:
        """What both say together; the environment's word counts first."""
        return Ids(**{**_said(self.file), **_said(self.environment)})


def defaults_of(values: Mapping[Option, Value]) -> Defaults:
    """Both. Raises SettingsError."""
    ids: dict[bool, dict[str, int | str]] = {True: {}, False: {}}
    for option in (DEFAULT_SUBMITTER, DEFAULT_PROJECT, DEFAULT_INSTRUMENT):
        value = values[option]
        if value.text:
            read = printable_of(value) if option is DEFAULT_PROJECT else number_of(value, 0, MAX_ID)
            ids[value.origin == option.variable][option.key] = read
    return Defaults(environment=Ids(**ids[True]), file=Ids(**ids[False]))  # type: ignore[arg-type]


def _said(ids: Ids) -> dict[str, Any]:
    return {name: value for name, value in asdict(ids).items() if value is not None}

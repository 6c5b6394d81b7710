"""The section of `ingest watch`: its drop folders."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .forms import folders_of, path_of
from .options import WATCH_DONE, WATCH_FOLDERS, Option
from .values import Value


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchSettings:
    """The drop folders of the site, and where what was ingested is moved; ``done`` is None where it stays."""

    folders: tuple[Path, ...] = ()
    done: Path | None = None


def watch_settings_of(values: Mapping[Option, Value]) -> WatchSettings:
    """The drop folders. Raises SettingsError."""
    return WatchSettings(
        folders=folders_of(values[WATCH_FOLDERS]),
        done=path_of(values[WATCH_DONE]) if values[WATCH_DONE].text else None,
    )

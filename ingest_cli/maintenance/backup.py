"""Backs up the databases on this machine while they are in use."""

import os
from collections.abc import Iterator
from pathlib import Path

from ..disk import new_at, opened
from ..errors import SettingsError
from ..jobs.neighbours import NAMES, databases, is_to_be_made
from ..jobs.sqlite_database import copy_database, require_usable, size_of
from ..meter import NOBODY, Meter
from ..settings import PostgresUrl, Settings


def back_up(settings: Settings, target: Path, meter: Meter = NOBODY) -> list[Path]:
    """Copy the job store, and catalogue and ids where they are embedded, into the new folder ``target``.

    Returns the copies. The folder appears whole or not at all. Raises SourceError where it cannot be written or
    already exists, SettingsError where a database was never made or none is a file, StoreError where one cannot be
    copied, and ResourceUnavailable where that may pass.
    """
    if len(elsewhere(settings)) == len(_places(settings)):
        raise SettingsError(f"nothing to copy: all is in {settings.database}, which pg_dump copies")
    for option, path in databases(settings).items():
        is_to_be_made(settings, option, new=False)
        require_usable(path, NAMES[option])
    with new_at(target) as aside:
        # Folders above it are not made: where they are missing, a disk may not be mounted.
        aside.mkdir()
        named = list(_databases(settings))
        meter.plan(len(named), sum(size_of(database) for _, database in named))
        for name, database in named:
            meter.part(name)
            copy_database(database, aside / name, meter.advance)
            meter.advance(0, 1)
        with opened(aside) as folder:
            os.fsync(folder)
        aside.rename(target)
    return sorted(target.iterdir())


def elsewhere(settings: Settings) -> dict[str, PostgresUrl]:
    """What PostgreSQL holds, and its own programs back up, by its name."""
    return {name: place for name, place in _places(settings).items() if isinstance(place, PostgresUrl)}


def _databases(settings: Settings) -> Iterator[tuple[str, Path]]:
    for name, database in _places(settings).items():
        if isinstance(database, Path):
            yield f"{name}.sqlite3", database


def _places(settings: Settings) -> dict[str, object]:
    # Jobs first: one that completes meanwhile is found in the catalogue. Ids last: none in use is given out again.
    return {"jobs": settings.database, "catalogue": settings.catalog, "ids": settings.unique_id}

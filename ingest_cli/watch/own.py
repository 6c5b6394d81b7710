"""What lies in a drop folder but was not dropped: folders and files of this program itself, and other drop folders."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import SettingsError
from ..settings import Settings

Identity = tuple[int, int]
# What SQLite keeps beside a database.
BESIDE_DATABASES = ("", "-wal", "-shm", "-journal")


class OwnPlaces:
    """The places of the program, with the drop ``folders`` and with ``outputs``, which are named for messages.

    They are known by what the kernel says of them, since a link or a mount may give a folder another path. Raises
    SettingsError where a drop folder is one of the others.
    """

    def __init__(self, settings: Settings, folders: list[Path], outputs: dict[str, Path]) -> None:
        services = {
            "the job store": settings.database,
            "the id store": settings.unique_id,
            "the archive": settings.archive,
            "the catalogue": settings.catalog,
        }
        local = {what: place for what, place in services.items() if isinstance(place, Path)}
        others = {"the spool": settings.spool, **local, **outputs}
        databases = [f"{place}{end}" for place in others.values() for end in BESIDE_DATABASES]
        self._places = [*folders, *map(Path, databases)]
        self.look_again()
        for folder in folders:
            for what, place in others.items():
                if identity_at(place) == identity_at(folder) is not None:
                    raise SettingsError(f"the drop folder {folder} is {what} as well: give it a folder of its own")

    def holds(self, found: Identity) -> bool:
        """Whether this is one of the places, or a folder that one of them is in."""
        return found in self._identities

    def look_again(self) -> None:
        """See which of the places exist now."""
        self._identities = set(_identities(self._places))


def identity(found: os.stat_result) -> Identity:
    """What tells a file or folder from all others on this machine."""
    return found.st_dev, found.st_ino


def identity_at(path: Path) -> Identity | None:
    """The identity of what is at ``path``, through links; None where nothing can be seen there."""
    try:
        return identity(path.stat())
    except OSError:
        return None


def _identities(places: Iterable[Path]) -> Iterator[Identity]:
    seen: set[Path] = set()
    for place in places:
        with suppress(OSError):
            place = place.resolve()
        for path in (place, *place.parents):
            if path in seen:
                break
            seen.add(path)
            found = identity_at(path)
            if found is not None:
                yield found

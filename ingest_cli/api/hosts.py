"""Look at the processes of an installation, on whichever host."""

from typing import TYPE_CHECKING

from ..jobs.store import open_store
from ..settings import Settings, load_settings

if TYPE_CHECKING:
    from ..jobs.sightings import Member


def list_hosts(*, settings: Settings | None = None) -> "list[Member]":
    """The processes that say that they are there, and those that hold jobs, by host, once of each is known whether it
    lives. Where the store is one machine's, none of them says so."""
    from ..jobs.attendance import patience_of
    from ..jobs.sightings import Sightings

    settings = settings or load_settings()
    with open_store(settings, new=False) as store:
        return Sightings(patience_of(settings.timings)).watch(store)

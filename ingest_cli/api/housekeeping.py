"""Look after a site."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..jobs.store import open_store
from ..meter import NOBODY, Meter
from ..services.factory import archive, catalog, unique_id
from ..settings import Endpoint, Settings, load_settings
from .opening import AnyPath

if TYPE_CHECKING:
    from ..maintenance.doctor import Finding
    from ..maintenance.prune import Prunable
    from ..maintenance.skip_ids import Skipped


def prune(age: timedelta, *, remove: bool = False, settings: Settings | None = None) -> "Prunable":
    """Find what can be pruned: jobs and events that ended so long ago, and orphaned files in the spool; ``remove`` it
    if asked."""
    from ..maintenance.prune import Prunable

    found = Prunable()
    for piece in prune_in_pieces(age, remove=remove, settings=settings):
        found.jobs.extend(piece.jobs)
        found.spooled.extend(piece.spooled)
        found.orphans.extend(piece.orphans)
        found.uploads.extend(piece.uploads)
        found.left.extend(piece.left)
        found.objects.extend(piece.objects)
        found.events.extend(piece.events)
    return found


def prune_in_pieces(age: timedelta, *, remove: bool = False, settings: Settings | None = None) -> "Iterator[Prunable]":
    """Yield what `prune` finds in pieces, each removed by then, if asked: however much it is, little is in memory."""
    from ..maintenance.prune import find_prunable

    settings = settings or load_settings()
    with open_store(settings, new=False) as store:
        for piece in find_prunable(settings, store, age):
            if remove:
                piece.remove(store)
            yield piece


def back_up(target: AnyPath, *, meter: Meter = NOBODY, settings: Settings | None = None) -> list[Path]:
    """Copy the databases of this machine, which may be in use, into the new folder ``target``; return the copies."""
    from ..maintenance import backup

    return backup.back_up(settings or load_settings(), Path(target), meter)


def skip_ids(
    *, job: int | None = None, file: int | None = None, meter: Meter = NOBODY, settings: Settings | None = None
) -> "Skipped":
    """Give no new job and no new file an id up to these from now on, as a database that was brought back to an earlier
    moment would; see `skip_ids`. Raises SettingsError where a service over HTTP gives out ids."""
    from ..maintenance import skip_ids as skipping

    settings = settings or load_settings()
    if isinstance(settings.unique_id, Endpoint):
        raise SettingsError(
            f"ids are given out by {settings.unique_id.url}, which has its own backup: nothing is skipped"
        )
    with closing(unique_id(settings, new=False)) as ids, closing(archive(settings)) as stored:
        return skipping.skip_ids(ids, stored, job=job, file=file, meter=meter)


def diagnose(*, probe: bool = False, settings: Settings | None = None) -> "Iterator[Finding]":
    """Check that all works which a job needs, and yield what is found.

    With ``probe``, test files are written into the archive, read and deleted: nothing else should write to it.
    """
    from ..maintenance import doctor
    from ..maintenance import probe as probing

    settings = settings or load_settings()
    yield from doctor.diagnose(settings)
    if probe:
        yield from probing.probe(settings)


def make_databases(*, settings: Settings | None = None) -> None:
    """Make the site's databases that are on this machine, and bring those that are there up to date."""
    settings = settings or load_settings()
    with open_store(settings), closing(unique_id(settings)), closing(catalog(settings)):
        pass

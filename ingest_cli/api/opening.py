"""What every call opens, and closes again."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from ..events.sender import sending
from ..jobs.store import JobStore, open_store
from ..pipeline.selection import require_recorded
from ..services.base import Catalog, Services
from ..services.factory import catalog, connect
from ..settings import Settings, load_settings

AnyPath = str | os.PathLike[str]


def require_several(paths: object) -> None:
    """Raise TypeError for a single path where there should be several: it would be taken for a list of its letters."""
    if isinstance(paths, str | bytes | os.PathLike):
        raise TypeError(f"this takes several paths, such as [{paths!r}]")


@contextmanager
def opened(
    settings: Settings | None, *, new_store: bool = False, new_services: bool = True
) -> Iterator[tuple[Settings, Services, JobStore]]:
    """The store and the services of a site; what may be new is made where it is not there yet."""
    settings = settings or load_settings()
    with (
        open_store(settings, new=new_store) as store,
        connect(settings, store, new=new_services) as services,
    ):
        yield settings, services, store


@contextmanager
def catalogued(settings: Settings | None) -> Iterator[tuple[Settings, JobStore, Catalog]]:
    """The store and the catalogue of a site."""
    settings = settings or load_settings()
    with open_store(settings, new=False) as store, closing(catalog(settings, new=False)) as site_catalog:
        yield settings, store, site_catalog


@contextmanager
def recorded_job(job_id: int, settings: Settings | None) -> Iterator[tuple[Services, int]]:
    """The services, and the job under whose id the catalogue has the content of this one. Raises JobNotRecorded."""
    with opened(settings, new_services=False) as (_, services, store):
        yield services, require_recorded(store, services.catalog, job_id)


@contextmanager
def running(
    settings: Settings | None, tell: Callable[[str], None], *, new_store: bool = False
) -> Iterator[tuple[Settings, Services, JobStore]]:
    """The store and the services of a site whose jobs are run; events are sent meanwhile, of which ``tell`` is told
    what a person should know."""
    with opened(settings, new_store=new_store) as found, sending(found[0], tell):
        yield found

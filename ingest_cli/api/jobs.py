"""Find jobs, and settle them."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial

from ..errors import IngestError, JobNotFound
from ..events.sender import sending
from ..jobs.filter import ALL, JobFilter
from ..jobs.imported import ImportedJob
from ..jobs.job import Job, JobStatus, Override
from ..jobs.store import open_store
from ..maintenance import import_jobs as import_old_jobs
from ..pipeline import settlement
from ..pipeline.batch import Outcome
from ..services.factory import connect, unique_id
from ..settings import Settings, load_settings

JOBS_AT_ONCE = 500

log = logging.getLogger(__name__)


def find_job(job_id: int, *, settings: Settings | None = None) -> Job:
    """Return the job. Raises JobNotFound."""
    with open_store(settings or load_settings(), new=False) as store:
        return store.get(job_id)


def list_jobs(wanted: JobFilter = ALL, *, settings: Settings | None = None) -> Iterator[Job]:
    """Yield the jobs that are ``wanted``, newest first, as they are when it comes to them."""
    with open_store(settings or load_settings(), new=False) as store:
        before = None
        while jobs := store.select(wanted, limit=JOBS_AT_ONCE, before=before):
            yield from jobs
            before = jobs[-1].job_id


def count_jobs(wanted: JobFilter = ALL, *, settings: Settings | None = None) -> dict[JobStatus, int]:
    """How many of the jobs that are ``wanted`` have each status."""
    with open_store(settings or load_settings(), new=False) as store:
        return store.tally(wanted)


def discard_jobs(
    job_ids: Iterable[int], *, tell: Callable[[str], None] = log.info, settings: Settings | None = None
) -> Iterator[Outcome]:
    """Abandon jobs that are not complete, one after the other: what they have stored is rolled back.

    ``tell`` is told what a person should know besides.
    """
    settings = settings or load_settings()
    with open_store(settings, new=False) as store, sending(settings, tell):
        connecting = partial(connect, settings, store)
        for job_id in job_ids:
            yield _outcome(job_id, lambda job_id: settlement.discard(store, job_id, settings.timings, connecting))


def cancel_jobs(
    job_ids: Iterable[int], *, tell: Callable[[str], None] = log.info, settings: Settings | None = None
) -> Iterator[Outcome]:
    """End jobs that have not ended, one after the other: whoever works on one stops, and rolls back what is stored.

    ``tell`` is told what a person should know besides.
    """
    settings = settings or load_settings()
    reason = f"cancelled by {settings.user}"
    with open_store(settings, new=False) as store, sending(settings, tell):
        connecting = partial(connect, settings, store)
        for job_id in job_ids:
            yield _outcome(
                job_id, lambda job_id: settlement.cancel(store, job_id, reason, settings.timings, connecting)
            )


def set_job_state(
    job_id: int, override: Override, *, tell: Callable[[str], None] = log.info, settings: Settings | None = None
) -> Job:
    """Override a job's state by hand, and return the job as it is then. ``tell`` is told what a person should know
    besides."""
    settings = settings or load_settings()
    with open_store(settings, new=False) as store, sending(settings, tell):
        return settlement.settle_by_hand(store, job_id, override, settings.timings, partial(connect, settings, store))


def prioritize_job(job_id: int, priority: int, *, settings: Settings | None = None) -> Job:
    """Have an unfinished job run before those of a lower priority, and return it. Raises SettingsError where one host
    has the job store, which runs the oldest first."""
    with open_store(settings or load_settings(), new=False) as store:
        return store.prioritize(job_id, priority)


def import_jobs(
    source: str,
    *,
    tally: import_old_jobs.Tally | None = None,
    note: Callable[[str], None] = lambda _: None,
    settings: Settings | None = None,
) -> Iterator[None]:
    """Import the jobs of Pacifica Ingest from its database, a page at each step; see `import_old_jobs.import_jobs`.

    They are not run: `find_imported_job` finds what became of them.
    """
    settings = settings or load_settings()
    with open_store(settings) as store, closing(unique_id(settings)) as ids:
        yield from import_old_jobs.import_jobs(source, store, ids, tally=tally or import_old_jobs.Tally(), note=note)


def find_imported_job(job_id: int, *, settings: Settings | None = None) -> ImportedJob:
    """Return the job of Pacifica Ingest that was imported under this id. Raises JobNotFound."""
    with open_store(settings or load_settings(), new=False) as store:
        found = store.imported(job_id)
    if found is None:
        raise JobNotFound(f"no job {job_id} was imported")
    return found


def _outcome(job_id: int, settle: Callable[[int], Job]) -> Outcome:
    """What came of settling a job."""
    try:
        return Outcome(f"job {job_id}", settle(job_id))
    except IngestError as error:
        return Outcome(f"job {job_id}", None, error)

"""Check bundles before they are ingested, and what is stored of them afterwards."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from ..errors import IngestError, JobNotFound, OnProblem, raise_problem
from ..jobs.store import JobStore, open_store
from ..maintenance import verify
from ..maintenance.receipt import read_receipt, write_receipt
from ..meter import NOBODY, Meter
from ..pipeline import check
from ..pipeline.selection import recorded_as
from ..services.factory import archive, catalog, policy
from ..settings import Settings, load_settings
from .opening import AnyPath, opened, require_several


def check_bundle(path: AnyPath, *, settings: Settings | None = None) -> check.Findings:
    """Find everything that is wrong with the bundle at ``path``; nothing is stored."""
    (findings,) = check_bundles([path], settings=settings)
    return findings


def check_bundles(
    paths: Iterable[AnyPath],
    *,
    observe: Callable[[Path], Meter] = lambda _: NOBODY,
    settings: Settings | None = None,
) -> Iterator[check.Findings]:
    """Find everything that is wrong with each of the bundles, one after the other; nothing is stored.

    ``observe`` makes a meter of a bundle.
    """
    require_several(paths)
    settings = settings or load_settings()
    with closing(policy(settings)) as site_policy:
        for path in map(Path, paths):
            with observe(path) as meter:
                findings = check.check_bundle(
                    path,
                    user=settings.user,
                    spool=settings.spool,
                    limit=settings.document_bytes,
                    policy=site_policy,
                    meter=meter,
                )
            yield findings


def verify_job(job_id: int, *, settings: Settings | None = None) -> list[verify.Damage]:
    """Hash a job's files in the archive again, and return what is wrong."""
    return list(verify_jobs([job_id], settings=settings))


def verify_jobs(
    job_ids: Iterable[int],
    *,
    share: float = 1.0,
    fast: bool = False,
    tally: verify.Tally | None = None,
    note: Callable[[str], None] = lambda _: None,
    meter: Meter = NOBODY,
    on_missing: OnProblem = raise_problem,
    settings: Settings | None = None,
) -> Iterator[verify.Damage]:
    """Hash jobs' files in the archive again, or a random ``share`` of them; yield what is wrong as it is found.

    With ``fast``, files of which the archive keeps a digest of its own are compared with that, which ``tally`` counts.
    ``tally`` counts along, and ``meter`` is told how far it is. In place of a duplicate, the job that has its content
    is verified, and ``note`` is told so. For a job that the catalogue does not have, ``on_missing`` gets a
    JobNotRecorded, or it is raised.
    """
    with opened(settings, new_services=False) as (settings, services, store):
        recorded = [_verified_for(store, job_id, note) for job_id in job_ids]
        _plan(meter, *_volume_of(store, recorded), share)
        yield from verify.verify_jobs(
            services, recorded, share=share, fast=fast, tally=tally, meter=meter, on_missing=on_missing
        )


def verify_all(
    *,
    since: int = 0,
    share: float = 1.0,
    fast: bool = False,
    tally: verify.Tally | None = None,
    note: Callable[[str], None] = lambda _: None,
    meter: Meter = NOBODY,
    settings: Settings | None = None,
) -> Iterator[verify.Damage]:
    """Verify all jobs from the id ``since`` on; then look for orphans, where the archive can list its files."""
    with opened(settings, new_services=False) as (settings, services, store):
        _plan(meter, *store.volume(since), share)
        recorded = list(store.recorded(since))
        yield from verify.verify_jobs(services, recorded, share=share, fast=fast, tally=tally, meter=meter)
        meter.stage("orphans")
        try:
            yield from verify.find_orphans(services, store)
        except IngestError as error:
            if error.transient:
                raise
            note(str(error))


def verify_receipt(
    path: AnyPath,
    *,
    share: float = 1.0,
    tally: verify.Tally | None = None,
    meter: Meter = NOBODY,
    settings: Settings | None = None,
) -> Iterator[verify.Damage]:
    """Verify a job by its receipt alone, without the job store or the catalogue; see `verify_jobs`."""
    receipt, tally = read_receipt(Path(path)), tally or verify.Tally()
    tally.jobs = 1
    with closing(archive(settings or load_settings())) as site_archive:
        files = list(receipt.files)
        _plan(meter, len(files), sum(file.size for file in files), share)
        yield from verify.verify_files(site_archive, receipt.job_id, files, share=share, tally=tally, meter=meter)


def save_receipt(job_id: int, path: AnyPath, *, settings: Settings | None = None) -> None:
    """Write a complete job's receipt to ``path``; for a duplicate, that of the job that has its content."""
    settings = settings or load_settings()
    with closing(catalog(settings, new=False)) as site_catalog, open_store(settings, new=False) as store:
        write_receipt(Path(path), site_catalog, store.get(recorded_as(store, job_id)))


def _volume_of(store: JobStore, job_ids: Iterable[int]) -> tuple[int, int]:
    """How many files and bytes these jobs have together, as far as the store has not forgotten them."""
    files = size = 0
    for job_id in job_ids:
        with suppress(JobNotFound):
            job = store.get(job_id)
            files, size = files + job.files, size + job.bytes
    return files, size


def _plan(meter: Meter, files: int, total_bytes: int, share: float) -> None:
    meter.plan(math.ceil(files * share), int(total_bytes * share))


def _verified_for(store: JobStore, job_id: int, note: Callable[[str], None]) -> int:
    recorded = recorded_as(store, job_id)
    if recorded != job_id:
        note(f"job {recorded} has the content of job {job_id}, and is verified instead")
    return recorded

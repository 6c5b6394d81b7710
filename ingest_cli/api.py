"""What a script needs of the program, as functions. Each call opens what it needs and closes it again.

``settings`` are those of `load_settings`, which is also what is used where none are given: the environment, the
configuration file and the defaults, as on the command line. All raise IngestError.
"""

from contextlib import closing
from pathlib import Path

from .jobs.job import Job, JobKind
from .jobs.process import this_process
from .jobs.store import open_store
from .maintenance import verify
from .pipeline import check
from .pipeline.observer import Observer
from .pipeline.runner import Runner
from .pipeline.selection import recorded_as
from .pipeline.submission import submit
from .retrieval import restore
from .services.factory import connect, policy
from .settings import Settings, load_settings


def ingest_bundle(
    path: Path, *, settings: Settings | None = None, again: bool = False, observer: Observer | None = None
) -> Job:
    """Ingest the bundle at ``path`` and return its job, which is complete; or the one that ingested it before.

    ``again`` ingests it all the same. After an error that is ``transient``, the next call resumes the job.
    """
    return _run(JobKind.BUNDLE, path, settings, again=again, observer=observer)


def move_files(
    document: Path, *, settings: Settings | None = None, again: bool = False, observer: Observer | None = None
) -> Job:
    """Move the files that a metadata document lists into the archive; what is returned is as of `ingest_bundle`."""
    return _run(JobKind.MOVE, document, settings, again=again, observer=observer)


def find_job(job_id: int, *, settings: Settings | None = None) -> Job:
    """The job as it stands. Raises JobNotFound."""
    with open_store(settings or load_settings()) as store:
        return store.get(job_id)


def check_bundle(path: Path, *, settings: Settings | None = None) -> check.Findings:
    """All that is wrong with the bundle at ``path``; nothing is stored."""
    settings = settings or load_settings()
    with closing(policy(settings)) as site_policy:
        return check.check_bundle(path, user=settings.user, spool=settings.spool, policy=site_policy)


def verify_job(job_id: int, *, settings: Settings | None = None) -> list[verify.Damage]:
    """Hash what the archive holds of a job again, and return what is wrong."""
    settings = settings or load_settings()
    with connect(settings) as services, open_store(settings) as store:
        return list(verify.verify_jobs(services, [recorded_as(store, job_id)]))


def restore_bundle(job_id: int, target: Path, *, settings: Settings | None = None) -> int:
    """Write a stored job as a bundle to the new file ``target``, and return how many files it holds."""
    settings = settings or load_settings()
    with connect(settings) as services, open_store(settings) as store:
        return restore.write_bundle_file(services, recorded_as(store, job_id), target)


def _run(kind: JobKind, path: Path, settings: Settings | None, *, again: bool, observer: Observer | None) -> Job:
    settings = settings or load_settings()
    with connect(settings) as services, open_store(settings) as store:
        runner = Runner(settings, services, store, again=again)
        ids, user = services.unique_id, settings.user
        job = submit(store, ids, kind, path, user=user, holder=this_process(), again=again)
        job = runner.run(job, observer or Observer())
        return store.get(job.duplicate_of) if job.duplicate_of is not None else job

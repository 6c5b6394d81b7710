"""The functions behind the command line, which has no logic of its own; scripts can call them too.

Each call opens what it needs and closes it again. ``settings`` are those of `load_settings`, which is also what is used
where none are given: the environment, the configuration file and the defaults, as on the command line. A path may be
any that ``open`` takes, but for bytes. What returns an iterator does its work while one goes through it, and closes
what it has opened at its end. All raise IngestError.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from .bundle.description import Description, description_of
from .bundle.folder import FolderRequest
from .bundle.pack_rules import USUAL, PackRules
from .errors import IngestError, JobNotFound, SettingsError
from .events.resend import require_receivers, resend
from .events.sender import Sender, Tally, sending
from .jobs.imported import ImportedJob
from .jobs.job import Job, JobKind, Override
from .jobs.outbox import Notice, NoticeStatus
from .jobs.process import this_process
from .jobs.spool import spooled_input
from .jobs.store import JobStore, open_store
from .maintenance import import_jobs as import_old_jobs
from .maintenance import verify
from .maintenance.receipt import read_receipt, write_receipt
from .pipeline import check, settlement
from .pipeline.at_once import run_at_once
from .pipeline.batch import ObserveTask, Outcome, Task, run_tasks
from .pipeline.describing import describe, request_of, require_described
from .pipeline.dry_run import FolderPlan, plan_folder
from .pipeline.observer import Observer
from .pipeline.runner import Runner
from .pipeline.selection import failed_jobs, interrupted_jobs, is_of_user, recorded_as, require_recorded
from .pipeline.sources import folders_in as find_folders
from .pipeline.submission import FolderSource, submit, submit_folder
from .retrieval import restore
from .retrieval.copies import Copies, look_up
from .retrieval.layout import Pieces
from .services.base import Services, StoredFile
from .services.factory import archive, catalog, connect, policy, unique_id
from .services.query import FileQuery, hash_of
from .settings import Ids, Settings, load_settings
from .throttle import Throttle

if TYPE_CHECKING:
    from .client.plan import Metadata, UploadDescription
    from .client.target import Target
    from .client.upload import Observe as ObserveUpload
    from .client.upload import Outcome as UploadOutcome
    from .client.upload import Terms

AnyPath = str | os.PathLike[str]
Source = AnyPath | BinaryIO | FolderSource

log = logging.getLogger(__name__)


def ingest_bundle(
    path: AnyPath, *, settings: Settings | None = None, again: bool = False, observer: Observer | None = None
) -> Job:
    """Ingest the bundle at ``path`` and return its job, which is complete; or the job that ingested it before.

    With ``again`` it is ingested even then. After an error that is ``transient``, the next call resumes the job.
    """
    return _run(JobKind.BUNDLE, path, settings, again=again, observer=observer)


def move_files(
    document: AnyPath, *, settings: Settings | None = None, again: bool = False, observer: Observer | None = None
) -> Job:
    """Move the files that a metadata document lists into the archive; return the job as `ingest_bundle` does."""
    return _run(JobKind.MOVE, document, settings, again=again, observer=observer)


def ingest_folder(
    path: Path,
    *,
    submitter: int | None = None,
    project: str | None = None,
    instrument: int | None = None,
    keys: Iterable[tuple[str, str]] = (),
    rules: PackRules = USUAL,
    settings: Settings | None = None,
    again: bool = False,
    observer: Observer | None = None,
) -> Job:
    """Ingest the folder at ``path`` as it lies, and return the job as `ingest_bundle` does.

    A submitter, project or instrument that is not given is taken from the environment, the file in the folder or the
    configuration, as on the command line. Of a folder that has grown only what is new is stored.
    """
    settings = settings or load_settings()
    given = Description(submitter=submitter, project=project, instrument=instrument, keys=tuple(keys))
    whole = describe([path], given, settings)
    require_described(whole, path)
    source = FolderSource(path, request_of(whole, rules))
    return _run(JobKind.FOLDER, source, settings, again=again, observer=observer)


def ingest_files(
    kind: JobKind,
    sources: Iterable[Source],
    observe: ObserveTask,
    *,
    settings: Settings | None = None,
    again: bool = False,
    at_once: int = 1,
    rate: float | None = None,
) -> list[Outcome]:
    """Ingest several bundles, or move the files of several documents; return their outcomes, in order.

    A folder is ingested as it lies, whatever the kind. A source that is an open file is first read to its end into the
    spool folder. ``observe`` makes an observer from the name of each source, its number, and how many there are; where
    several are ingested ``at_once``, in a thread of its own. At most ``rate`` bytes a second are read of all together,
    each of them twice: to be checked and to be stored. In the main thread, SIGINT and SIGTERM leave the current
    jobs to be resumed, and raise Interrupted or KeyboardInterrupt.
    """
    with _running(settings, new_store=True) as (settings, services, store):
        submitted = partial(_submitted, settings, kind, again=again)
        tasks = [Task(_name_of(source), partial(submitted, source)) for source in sources]
        runner = Runner(settings, services, store, again=again, throttle=Throttle(rate))
        return _run_all(tasks, at_once, settings, runner, observe)


def plan_folders(
    sources: Iterable[FolderSource], *, settings: Settings | None = None
) -> Iterator[FolderPlan | IngestError]:
    """What would be stored of each of the folders, or why it would not; nothing is stored, and no site is made."""
    settings = settings or load_settings()
    with ExitStack() as stack:
        site_policy = stack.enter_context(closing(policy(settings)))
        try:
            store = stack.enter_context(open_store(settings, new=False))
            earlier = (store, stack.enter_context(closing(catalog(settings, new=False))))
        except SettingsError:  # nothing was ever ingested
            earlier = None
        for source in sources:
            try:
                yield plan_folder(source, settings, site_policy, earlier)
            except IngestError as error:
                yield error


def folders_in(folder: AnyPath, rules: PackRules, *, settings: Settings | None = None) -> tuple[list[Path], list[str]]:
    """The folders in a folder that are to be ingested one by one; and in words, what else is in it."""
    return find_folders(Path(folder), rules, settings or load_settings())


def last_ids(*, settings: Settings | None = None) -> Ids:
    """Of whom and what the folder was that the user ingested last."""
    settings = settings or load_settings()
    with suppress(IngestError), open_store(settings, new=False) as store:
        request = store.last_request(settings.user)
        return description_of(FolderRequest.from_text(request).records) if request else Ids()
    return Ids()


def queue_files(
    kind: JobKind, paths: Iterable[AnyPath | FolderSource], *, settings: Settings | None = None
) -> Iterator[Job]:
    """Queue a job for every path, for workers to run, and yield each. Stops at the first that cannot be queued."""
    for outcome in queue_each(kind, paths, settings=settings):
        if outcome.error is not None:
            raise outcome.error
        assert outcome.job is not None
        yield outcome.job


def queue_each(
    kind: JobKind, paths: Iterable[AnyPath | FolderSource], *, settings: Settings | None = None
) -> Iterator[Outcome]:
    """Queue a job for every path, for workers to run, and yield what came of each; one failure stops no other."""
    with _opened(settings, new_store=True) as (settings, services, store):
        for path in paths:
            name = _name_of(path)
            try:
                if isinstance(path, FolderSource):
                    job = submit_folder(store, services.unique_id, path, settings)
                else:
                    job = submit(store, services.unique_id, kind, Path(path), user=settings.user)
            except IngestError as error:
                yield Outcome(name, None, error)
            else:
                yield Outcome(name, job)


def retry_jobs(
    job_ids: Iterable[int],
    observe: ObserveTask,
    *,
    failed: bool = False,
    interrupted: bool = False,
    settings: Settings | None = None,
    at_once: int = 1,
) -> list[Outcome]:
    """Run these jobs again, and all that ``failed`` or were ``interrupted`` if asked; see `ingest_files`."""
    with _running(settings) as (settings, services, store):
        jobs = [store.get(job_id) for job_id in job_ids]
        jobs += failed_jobs(store) if failed else []
        jobs += interrupted_jobs(store) if interrupted else []
        tasks = [Task(job.name, partial(_as_it_stands, job.job_id)) for job in jobs]
        return _run_all(tasks, at_once, settings, Runner(settings, services, store), observe)


def discard_jobs(job_ids: Iterable[int], *, settings: Settings | None = None) -> Iterator[Outcome]:
    """Abandon jobs that are not complete, one after the other: what they have stored is rolled back."""
    settings = settings or load_settings()
    with open_store(settings, new=False) as store, sending(settings):
        for job_id in job_ids:
            name = f"job {job_id}"
            try:
                job = settlement.discard(store, job_id, settings.timings, partial(connect, settings, store))
                yield Outcome(name, job)
            except IngestError as error:
                yield Outcome(name, None, error)


def set_job_state(job_id: int, override: Override, *, settings: Settings | None = None) -> Job:
    """Override a job's state by hand, and return the job as it is then."""
    settings = settings or load_settings()
    with open_store(settings, new=False) as store, sending(settings):
        return settlement.settle_by_hand(store, job_id, override, settings.timings, partial(connect, settings, store))


def find_job(job_id: int, *, settings: Settings | None = None) -> Job:
    """Return the job. Raises JobNotFound."""
    with open_store(settings or load_settings(), new=False) as store:
        return store.get(job_id)


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


def make_databases(*, settings: Settings | None = None) -> None:
    """Make the site's databases that are on this machine, and bring those that are there up to date."""
    settings = settings or load_settings()
    with open_store(settings), closing(unique_id(settings)), closing(catalog(settings)):
        pass


def find_imported_job(job_id: int, *, settings: Settings | None = None) -> ImportedJob:
    """Return the job of Pacifica Ingest that was imported under this id. Raises JobNotFound."""
    with open_store(settings or load_settings(), new=False) as store:
        found = store.imported(job_id)
    if found is None:
        raise JobNotFound(f"no job {job_id} was imported")
    return found


def list_events(
    count: int, *, job_id: int | None = None, given_up: bool = False, settings: Settings | None = None
) -> list[Notice]:
    """The newest ``count`` events that were or are to be sent, the newest last; of one job, or that were given up."""
    statuses = [NoticeStatus.GIVEN_UP] if given_up else list(NoticeStatus)
    with open_store(settings or load_settings(), new=False) as store:
        return store.outbox.newest(count, job_id=job_id, statuses=statuses)


def count_events(*, settings: Settings | None = None) -> dict[NoticeStatus, int]:
    """How many events there are of each status."""
    with open_store(settings or load_settings(), new=False) as store:
        return store.outbox.tallies()


def resend_events(
    numbers: Sequence[int] = (),
    *,
    job_id: int | None = None,
    given_up: bool = False,
    settings: Settings | None = None,
) -> Tally:
    """Send events again: those of the ``numbers``, those of a job, and those that were ``given_up``, if asked.

    Whatever else waits is sent with them. Returns what became of all of these.
    """
    settings = settings or load_settings()
    with open_store(settings, new=False) as store:
        resend(store, settings.notifications, numbers, job_id=job_id, failed=given_up)
    return send_events(settings=settings)


def send_events(*, settings: Settings | None = None) -> Tally:
    """Send the events that wait and are due, each once, and return what became of them."""
    settings = settings or load_settings()
    require_receivers(settings.notifications)
    with open_store(settings, new=False) as store:
        return Sender(settings, log.info).send(store)


def upload(
    paths: Iterable[AnyPath],
    description: "UploadDescription | None" = None,
    *,
    to: str | None = None,
    ask: "Callable[[Path, Target], Metadata] | None" = None,
    rules: PackRules = USUAL,
    pack: bool = False,
    together: bool = False,
    terms: "Terms | None" = None,
    observe: "ObserveUpload | None" = None,
    settings: Settings | None = None,
) -> "Iterator[UploadOutcome]":
    """Send bundles, and files and folders to be packed, to the server at ``to``, else to that of the settings.

    Yields what came of each, once that is known. What is packed has the metadata of the ``description``, or what
    ``ask`` returns for the first path and the server. Packed are folders, by the ``rules``; files too with ``pack``,
    or where something is described; and all as one bundle with ``together``. An upload that was cut off is resumed by
    the same call.
    """
    from .client.finding import find_target
    from .client.observer import UploadObserver
    from .client.plan import UploadDescription, described, plan
    from .client.server import IngestServer
    from .client.upload import Terms, Uploader

    settings, said = settings or load_settings(), description or UploadDescription()
    target, folder = find_target(settings, to), settings.upload.folder
    if folder is None:
        raise SettingsError("there is no home folder: set folder in [upload] (INGEST_UPLOADS)")

    def describe(path: Path) -> "Metadata":
        return described(said, path) if ask is None else ask(path, target)

    with closing(IngestServer(target)) as server:
        pack_files = pack or said.says_something
        items = plan(list(map(Path, paths)), rules, describe, pack_files=pack_files, together=together)
        uploader = Uploader(server, target, folder, terms or Terms())
        yield from uploader.upload_all(items, observe or (lambda *_: UploadObserver()))


def check_bundle(path: AnyPath, *, settings: Settings | None = None) -> check.Findings:
    """Find everything that is wrong with the bundle at ``path``; nothing is stored."""
    (findings,) = check_bundles([path], settings=settings)
    return findings


def check_bundles(paths: Iterable[AnyPath], *, settings: Settings | None = None) -> Iterator[check.Findings]:
    """Find everything that is wrong with each of the bundles, one after the other; nothing is stored."""
    settings = settings or load_settings()
    with closing(policy(settings)) as site_policy:
        for path in paths:
            yield check.check_bundle(Path(path), user=settings.user, spool=settings.spool, policy=site_policy)


def verify_job(job_id: int, *, settings: Settings | None = None) -> list[verify.Damage]:
    """Hash a job's files in the archive again, and return what is wrong."""
    return list(verify_jobs([job_id], settings=settings))


def verify_jobs(
    job_ids: Iterable[int],
    *,
    share: float = 1.0,
    tally: verify.Tally | None = None,
    note: Callable[[str], None] = lambda _: None,
    settings: Settings | None = None,
) -> Iterator[verify.Damage]:
    """Hash jobs' files in the archive again, or a random ``share`` of them; yield what is wrong as it is found.

    ``tally`` counts along. In place of a duplicate, the job that has its content is verified, and ``note`` is told so.
    """
    with _opened(settings, new_services=False) as (settings, services, store):
        recorded = [_verified_for(store, job_id, note) for job_id in job_ids]
        yield from verify.verify_jobs(services, recorded, share=share, tally=tally)


def verify_all(
    *,
    since: int = 0,
    share: float = 1.0,
    tally: verify.Tally | None = None,
    note: Callable[[str], None] = lambda _: None,
    settings: Settings | None = None,
) -> Iterator[verify.Damage]:
    """Verify all jobs from the id ``since`` on; then look for orphans, where the archive can list its files."""
    with _opened(settings, new_services=False) as (settings, services, store):
        yield from verify.verify_jobs(services, list(store.recorded(since)), share=share, tally=tally)
        try:
            yield from verify.find_orphans(services, store)
        except IngestError as error:
            if error.transient:
                raise
            note(str(error))


def verify_receipt(
    path: AnyPath, *, share: float = 1.0, tally: verify.Tally | None = None, settings: Settings | None = None
) -> Iterator[verify.Damage]:
    """Verify a job by its receipt alone, without the job store or the catalogue; see `verify_jobs`."""
    receipt, tally = read_receipt(Path(path)), tally or verify.Tally()
    tally.jobs = 1
    with closing(archive(settings or load_settings())) as site_archive:
        yield from verify.verify_files(site_archive, receipt.job_id, receipt.files, share=share, tally=tally)


def save_receipt(job_id: int, path: AnyPath, *, settings: Settings | None = None) -> None:
    """Write a complete job's receipt to ``path``; for a duplicate, that of the job that has its content."""
    settings = settings or load_settings()
    with closing(catalog(settings, new=False)) as site_catalog, open_store(settings, new=False) as store:
        write_receipt(Path(path), site_catalog, store.get(recorded_as(store, job_id)))


def restore_bundle(
    job_id: int, target: AnyPath | IO[bytes], *, paths: Collection[str] = (), settings: Settings | None = None
) -> int:
    """Write a stored job as a bundle to the new file ``target``, or to an open one; return the number of files.

    With ``paths``, only those of its files that have one of these in the bundle, or lie in one.
    """
    with _recorded(job_id, settings) as (services, recorded):
        if isinstance(target, str | os.PathLike):
            return restore.write_bundle_file(services, recorded, Path(target), paths)
        return restore.write_tar(services, recorded, target, paths)


def restore_folder(
    job_id: int, target: AnyPath, *, paths: Collection[str] = (), settings: Settings | None = None
) -> int:
    """Write a stored job's files to the new folder ``target``, and return their number; ``paths`` as for
    `restore_bundle`."""
    with _recorded(job_id, settings) as (services, recorded):
        return restore.write_folder(services, recorded, Path(target), paths)


def read_files(job_id: int, paths: Sequence[str], *, settings: Settings | None = None) -> Pieces:
    """Yield the bytes of a stored job's files, by their ``paths`` in the bundle, one after the other.

    They are hashed meanwhile: after what is damaged, ArchiveError is raised, and the file's last bytes never come.
    """
    with _recorded(job_id, settings) as (services, recorded):
        yield from restore.read_files(services, recorded, paths)


def list_files(
    job_id: int, *, note: Callable[[str], None] = lambda _: None, settings: Settings | None = None
) -> Iterator[tuple[int, StoredFile]]:
    """Yield the files of a stored job, each after the job that has it: another one, where that has the content.

    ``note`` is told of that. Raises JobNotRecorded.
    """
    with _recorded(job_id, settings) as (services, recorded):
        if recorded != job_id:
            note(f"job {recorded} has the content of job {job_id}, and its files are listed instead")
        for file in services.catalog.files(recorded):
            yield recorded, file


def find_files(
    *,
    name: str = "",
    path: str = "",
    hashsum: str = "",
    pairs: Iterable[tuple[str, str]] = (),
    project: str = "",
    instrument: int | None = None,
    submitter: int | None = None,
    user: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    settings: Settings | None = None,
) -> Iterator[tuple[int, StoredFile]]:
    """Yield the stored files of which all that is given holds, each after its job; all files where nothing is given.

    ``name`` and ``path`` are globs, and ``hashsum`` is ``HEX`` or ``TYPE:HEX``; see `FileQuery` for these and the rest.
    With a ``user``, only files of jobs that were submitted in this name and that the job store still has. Raises
    NotFindable where the catalogue cannot be asked.
    """
    digits, hashtypes = hash_of(hashsum) if hashsum else ("", ())
    query = FileQuery(
        name=name,
        path=path,
        hashsum=digits,
        hashtypes=hashtypes,
        pairs=tuple(pairs),
        project=project,
        instrument=instrument,
        submitter=submitter,
        since=since,
        until=until,
    )
    with _opened(settings, new_services=False) as (_, services, store):
        for job_id, files in groupby(services.catalog.find(query), key=itemgetter(0)):
            if not user or is_of_user(store, job_id, user):
                yield from files


def find_copies(paths: Iterable[AnyPath], *, settings: Settings | None = None) -> Iterator[Copies]:
    """Say of each of these files of this machine, and of all in these folders, whether what it holds is stored.

    They are hashed for it. What cannot be read is told in its place, as an ``error``.
    """
    with _opened(settings, new_services=False) as (_, services, _):
        yield from look_up(services.catalog, services.archive, map(Path, paths))


@contextmanager
def _opened(
    settings: Settings | None, *, new_store: bool = False, new_services: bool = True
) -> Iterator[tuple[Settings, Services, JobStore]]:
    """The store and the services of a site; what may be new is made where it is not there yet."""
    settings = settings or load_settings()
    with open_store(settings, new=new_store) as store, connect(settings, store, new=new_services) as services:
        yield settings, services, store


@contextmanager
def _recorded(job_id: int, settings: Settings | None) -> Iterator[tuple[Services, int]]:
    """The services, and the job under whose id the catalogue has the content of this one. Raises JobNotRecorded."""
    with _opened(settings, new_services=False) as (_, services, store):
        yield services, require_recorded(store, services.catalog, job_id)


@contextmanager
def _running(settings: Settings | None, *, new_store: bool = False) -> Iterator[tuple[Settings, Services, JobStore]]:
    """The store and the services of a site whose jobs are run; events are sent meanwhile."""
    with _opened(settings, new_store=new_store) as opened, sending(opened[0]):
        yield opened


def _run(
    kind: JobKind, path: AnyPath | FolderSource, settings: Settings | None, *, again: bool, observer: Observer | None
) -> Job:
    with _running(settings, new_store=True) as (settings, services, store):
        runner = Runner(settings, services, store, again=again)
        with _submitted(settings, kind, path, runner, again=again) as job:
            job = runner.run(job, observer or Observer())
        return store.get(job.duplicate_of) if job.duplicate_of is not None else job


def _run_all(
    tasks: list[Task], at_once: int, settings: Settings, runner: Runner, observe: ObserveTask
) -> list[Outcome]:
    if at_once == 1 or len(tasks) == 1:
        return run_tasks(tasks, runner, settings.timings.grace, observe)

    @contextmanager
    def another() -> Iterator[Runner]:
        with _opened(settings) as (_, services, store):
            yield runner.another(services, store)

    return run_at_once(tasks, at_once, runner, another, settings.timings.grace, observe)


@contextmanager
def _submitted(settings: Settings, kind: JobKind, source: Source, runner: Runner, *, again: bool) -> Iterator[Job]:
    unique_id, holder = runner.services.unique_id, this_process()
    enter = partial(submit, runner.store, unique_id, kind, user=settings.user, holder=holder, again=again)
    if isinstance(source, FolderSource):
        yield submit_folder(runner.store, unique_id, source, settings, holder=holder, again=again)
        return
    if isinstance(source, str | os.PathLike):
        yield enter(Path(source))
        return
    with spooled_input(source, settings.spool, runner.pace) as spooled:
        yield enter(spooled, spooled=True, origin=_name_of(source))


@contextmanager
def _as_it_stands(job_id: int, runner: Runner) -> Iterator[Job]:
    yield runner.store.get(job_id)


def _name_of(source: Source) -> str:
    if isinstance(source, FolderSource):
        return str(source.path)
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else str(source.name)
    return "standard input" if name == "<stdin>" else name


def _verified_for(store: JobStore, job_id: int, note: Callable[[str], None]) -> int:
    recorded = recorded_as(store, job_id)
    if recorded != job_id:
        note(f"job {recorded} has the content of job {job_id}, and is verified instead")
    return recorded

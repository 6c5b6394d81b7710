"""Ingest bundles, folders and the files of documents, now or by workers."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from ..bundle.description import Description
from ..bundle.pack_rules import USUAL, PackRules
from ..errors import IngestError, JobNotFound
from ..jobs.group_commit import Shared
from ..jobs.job import Job, JobKind
from ..jobs.process import this_process
from ..jobs.spool import spooled_input
from ..jobs.store import JobStore
from ..pipeline.at_once import run_at_once
from ..pipeline.batch import ObserveTask, Outcome, Task, as_it_stands, run_tasks
from ..pipeline.describing import describe, request_of, require_described
from ..pipeline.observer import Observer
from ..pipeline.runner import Runner
from ..pipeline.runner_threads import another_runner
from ..pipeline.selection import failed_jobs, interrupted_jobs
from ..pipeline.small import is_small, most_at_once
from ..pipeline.small_bundles import run_small_bundles
from ..pipeline.submission import FolderSource, NewFile, submit, submit_folder, submit_together
from ..settings import Settings, load_settings
from ..throttle import Throttle
from .opening import AnyPath, opened, require_several, running

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
    path: AnyPath,
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
    folder = Path(path)
    whole = describe([folder], given, settings.defaults)
    require_described(whole, folder)
    source = FolderSource(folder, request_of(whole, rules))
    return _run(JobKind.FOLDER, source, settings, again=again, observer=observer)


def ingest_files(
    kind: JobKind,
    sources: Iterable[Source],
    observe: ObserveTask = lambda *_: Observer(),
    *,
    settings: Settings | None = None,
    again: bool = False,
    at_once: int = 1,
    rate: float | None = None,
    tell: Callable[[str], None] = log.info,
) -> list[Outcome]:
    """Ingest several bundles, or move the files of several documents; return their outcomes, in order.

    A folder is ingested as it lies, whatever the kind. A source that is an open file is first read to its end into the
    spool folder. ``observe`` makes an observer from the name of each source, its number, and how many there are; where
    several are ingested ``at_once``, in a thread of its own. At most ``rate`` bytes a second are read of all together,
    each of them twice: to be checked and to be stored. ``tell`` is told what a person should know besides. In the main
    thread, SIGINT and SIGTERM leave the current jobs to be resumed, and raise Interrupted or KeyboardInterrupt.
    """
    require_several(sources)
    given = list(sources)
    with running(settings, tell, new_store=True) as (settings, services, store):
        submitted = partial(_submitted, settings, kind, again=again)
        tasks = [Task(_name_of(source), partial(submitted, source)) for source in given]
        most, throttle = min(at_once, len(tasks) or 1), Throttle(rate)
        with Runner(settings, services, store, again=again, throttle=throttle, at_once=most) as runner:
            if at_once > 1 or kind is not JobKind.BUNDLE:
                return _run_all(tasks, at_once, settings, runner, observe)
            return _run_in_order(given, tasks, settings, runner, observe, again=again)


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
    require_several(paths)
    with opened(settings, new_store=True) as (settings, services, store):
        for path in paths:
            name = _name_of(path)
            try:
                if isinstance(path, FolderSource):
                    job = submit_folder(store, services.unique_id, path, settings)
                else:
                    job = submit(store, services.unique_id, kind, Path(path), user=settings.user, peek=True)
            except IngestError as error:
                yield Outcome(name, None, error)
            else:
                yield Outcome(name, job)


def retry_jobs(
    job_ids: Iterable[int],
    observe: ObserveTask = lambda *_: Observer(),
    *,
    failed: bool = False,
    interrupted: bool = False,
    settings: Settings | None = None,
    at_once: int = 1,
    rate: float | None = None,
    tell: Callable[[str], None] = log.info,
) -> list[Outcome]:
    """Run these jobs again, and all that ``failed`` or were ``interrupted`` if asked; see `ingest_files`."""
    with running(settings, tell) as (settings, services, store):
        wanted = list(job_ids)
        wanted += failed_jobs(store) if failed else []
        wanted += interrupted_jobs(store) if interrupted else []
        tasks = [_task_of(store, job_id) for job_id in wanted]
        most, throttle = min(at_once, len(tasks) or 1), Throttle(rate)
        with Runner(settings, services, store, throttle=throttle, at_once=most) as runner:
            return _run_all(tasks, at_once, settings, runner, observe)


def run_queue(
    observe: Callable[[Job], Observer] = lambda _: Observer(),
    tell: Callable[[str], None] = log.info,
    *,
    until_empty: bool = True,
    settings: Settings | None = None,
) -> None:
    """Run queued jobs, and those whose process died, as a worker does; to the last, or for ever.

    ``observe`` makes the observer of a job, and ``tell`` is told what a person should know besides: both are called in
    this thread, though small jobs run at once. Jobs that fail do not stop it. In the main thread, SIGINT and SIGTERM
    leave the current jobs to be resumed, and raise Interrupted or KeyboardInterrupt.
    """
    from ..pipeline.worker_pool import work

    work(settings or load_settings(), observe, tell, until_empty=until_empty)


def _run(
    kind: JobKind, path: AnyPath | FolderSource, settings: Settings | None, *, again: bool, observer: Observer | None
) -> Job:
    with running(settings, log.info, new_store=True) as (settings, services, store):
        with (
            Runner(settings, services, store, again=again) as runner,
            _submitted(settings, kind, path, runner, again=again) as job,
        ):
            job = runner.run(job, observer or Observer())
        return store.get(job.duplicate_of) if job.duplicate_of is not None else job


def _run_in_order(
    sources: Sequence[Source],
    tasks: list[Task],
    settings: Settings,
    runner: Runner,
    observe: ObserveTask,
    *,
    again: bool,
) -> list[Outcome]:
    """Run the tasks of these sources one after the other, or as if: small bundles share what they wait for."""
    outcomes: list[Outcome] = []
    submit = partial(_submit_bundles, settings, again=again)
    for are_small, run in groupby(range(len(tasks)), lambda number: _is_small(sources[number], settings)):
        numbers = list(run)
        part = slice(numbers[0], numbers[-1] + 1)
        observe_part = partial(_observe_part, observe, numbers[0], len(tasks))
        if are_small and min(len(numbers), most_at_once()) > 1:
            paths = [Path(task.name) for task in tasks[part]]
            with Shared() as shared:
                another = partial(another_runner, settings, shared, runner, most_at_once())
                outcomes += run_small_bundles(paths, submit, runner, another, settings.timings.grace, observe_part)
        else:
            outcomes += run_tasks(tasks[part], runner, settings.timings.grace, observe_part)
    return outcomes


def _observe_part(observe: ObserveTask, before: int, count: int, name: str, number: int, _count: int) -> Observer:
    return observe(name, before + number, count)


def _is_small(source: Source, settings: Settings) -> bool:
    return isinstance(source, str | os.PathLike) and is_small(Path(source), settings)


def _submit_bundles(
    settings: Settings, runner: Runner, paths: Sequence[Path], *, again: bool
) -> Sequence[Job | Exception]:
    files = [NewFile(JobKind.BUNDLE, path, peek=True) for path in paths]
    unique_id, holder = runner.services.unique_id, this_process()
    return submit_together(runner.store, unique_id, files, user=settings.user, holder=holder, again=again)


def _run_all(
    tasks: list[Task], at_once: int, settings: Settings, runner: Runner, observe: ObserveTask
) -> list[Outcome]:
    if at_once == 1 or len(tasks) == 1:
        return run_tasks(tasks, runner, settings.timings.grace, observe)

    with Shared() as shared:
        another = partial(another_runner, settings, shared, runner)
        return run_at_once(tasks, at_once, runner, another, settings.timings.grace, observe)


@contextmanager
def _submitted(settings: Settings, kind: JobKind, source: Source, runner: Runner, *, again: bool) -> Iterator[Job]:
    unique_id, holder = runner.services.unique_id, this_process()
    enter = partial(submit, runner.store, unique_id, kind, user=settings.user, holder=holder, again=again, peek=True)
    if isinstance(source, FolderSource):
        yield submit_folder(runner.store, unique_id, source, settings, holder=holder, again=again)
        return
    if isinstance(source, str | os.PathLike):
        yield enter(Path(source))
        return
    with spooled_input(source, settings.spool, runner.pace) as spooled:
        yield enter(spooled, spooled=True, origin=_name_of(source))


def _task_of(store: JobStore, job_id: int) -> Task:
    """The task of running a job again. Where there is no such job, that fails, and no other."""
    try:
        name = store.get(job_id).name
    except JobNotFound:
        name = f"job {job_id}"
    return Task(name, partial(as_it_stands, job_id))


def _name_of(source: Source) -> str:
    if isinstance(source, FolderSource):
        return str(source.path)
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else str(source.name)
    return "standard input" if name == "<stdin>" else name

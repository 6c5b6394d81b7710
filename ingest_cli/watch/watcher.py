"""Watches folders, for ever or once."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ..errors import ExitCode, IngestError
from ..jobs.database import on_network
from ..jobs.job import Job
from ..jobs.store import JobStore, open_store
from ..pipeline.observer import Observer
from ..pipeline.runner import Runner
from ..pipeline.shutdown import graceful_shutdown
from ..pipeline.worker_pool import ObserveJob, WorkerPool, work
from ..services.base import UniqueId
from ..services.factory import connect
from ..settings import Settings
from .disposition import Disposition
from .folder import DropFolder
from .lock import FolderLock
from .presence import Presence
from .rules import WatchRules

# How soon files that are not stable yet, and jobs that are running, are looked at again.
ACTIVE_POLL_SECONDS = 0.5
POLL_SECONDS = 2.0


class Watcher:
    """Ingests what ``rules`` look for in ``folders``; ``disposition`` says what becomes of it afterwards."""

    def __init__(self, settings: Settings, folders: list[Path], rules: WatchRules, disposition: Disposition) -> None:
        self._settings, self._rules = settings, rules
        self._folders = [DropFolder(path, rules, disposition, settings.spool, settings.user) for path in folders]

    def once(self, observe: ObserveJob, notify: Callable[[str], None], queued: Callable[[Job], None]) -> ExitCode:
        """Ingest what is stable; how that went. ``queued`` is told of the jobs that this makes.

        Waits for as long as a file must hold still where there are files that it does not know.
        """
        settings = self._settings
        with ExitStack() as stack:
            for folder in self._folders:
                stack.callback(FolderLock(folder.path, settings.spool).release)
            ids = stack.enter_context(connect(settings)).unique_id
            store = stack.enter_context(open_store(settings))
            refusals = self._scan(ids, store)
            if any(folder.waiting for folder in self._folders):
                time.sleep(self._rules.settle + 0.01)
                refusals += self._scan(ids, store)
            submitted = self._take_submitted(observe, queued)
            ran: set[int] = set()

            def observed(job: Job) -> Observer:
                ran.add(job.job_id)
                return observe(job)

            work(settings, observed, until_empty=True)
            refusals += self._scan(ids, store)
            # What came meanwhile waits for the next run.
            submitted += self._take_submitted(observe, queued)
            for refusal in refusals:
                notify(refusal)
            ended = [store.get(job.job_id) for job in submitted]
            for job in ended:
                if not job.is_done and job.job_id not in ran:
                    # Another process has it, or has settled it.
                    notify(f"{job.name}: job {job.job_id} ({job.state}) at {job.task!r}: {job.exception}")
        return _exit_code(ended, len(refusals))

    def forever(
        self,
        observe: ObserveJob,
        notify: Callable[[str], None],
        queued: Callable[[Job], None],
        *,
        workers: int,
        scan_seconds: float,
        poll: bool,
    ) -> None:
        """Ingest what becomes stable until SIGINT or SIGTERM, with so many processes.

        A folder that is gone, such as an unmounted share, is waited for.
        """
        settings = self._settings
        poll = poll or any(on_network(folder.path) for folder in self._folders)
        with ExitStack() as stack:
            present = stack.enter_context(Presence(self._folders, settings.spool, notify, poll=poll))
            stack.enter_context(WorkerPool(settings, workers, observe))
            services = stack.enter_context(connect(settings))
            store = stack.enter_context(open_store(settings))
            runner = Runner(settings, services, store)
            stack.enter_context(graceful_shutdown(runner, settings.timings.grace))
            trouble: dict[DropFolder, str] = {}
            while not runner.interrupted:
                renamed = present.renamed()
                busy = False
                for folder in present.folders():
                    try:
                        for refusal in folder.scan(services.unique_id, store, renamed):
                            notify(refusal)
                        busy = busy or bool(folder.waiting)
                        trouble.pop(folder, None)
                    except IngestError as error:
                        # Nothing is lost by looking again; what fails for good fails as a job.
                        if trouble.get(folder) != str(error):
                            notify(str(error))
                        trouble[folder] = str(error)
                self._take_submitted(observe, queued)
                present.wait(runner, ACTIVE_POLL_SECONDS if busy else POLL_SECONDS if poll else scan_seconds)

    def _take_submitted(self, observe: ObserveJob, queued: Callable[[Job], None]) -> list[Job]:
        submitted = [taken for folder in self._folders for taken in folder.take_submitted()]
        for job, warnings in submitted:
            queued(job)
            for warning in warnings:
                observe(job).warn(f"{job.name}: {warning}")
        return [job for job, _ in submitted]

    def _scan(self, unique_id: UniqueId, store: JobStore) -> list[str]:
        return [refusal for folder in self._folders for refusal in folder.scan(unique_id, store, set())]


def _exit_code(jobs: list[Job], refused: int) -> ExitCode:
    failed = refused + sum(job.has_failed for job in jobs)
    unfinished = sum(not job.has_failed and not job.is_done for job in jobs)
    if not failed and not unfinished:
        return ExitCode.SUCCESS
    if failed + unfinished < refused + len(jobs):
        return ExitCode.SOME_FAILED
    return ExitCode.FAILED if failed else ExitCode.UNREACHABLE

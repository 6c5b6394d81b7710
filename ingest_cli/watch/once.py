"""Ingests what is in folders, once."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from ..errors import ExitCode, IngestError, JobBusy
from ..jobs.job import Job
from ..jobs.store import JobStore, open_store
from ..pipeline.observer import Observer
from ..pipeline.worker_pool import work
from ..services.base import UniqueId
from ..services.factory import connect
from .folder import DropFolder
from .lock import FolderLock, in_spool
from .said import Said, in_words
from .watcher import Watcher


def ingest_once(watcher: Watcher, *, may_overlap: bool) -> ExitCode:
    """Ingest what is stable; how that went.

    Waits for as long as a file must hold still where there are files that it does not know. Where runs ``may_overlap``,
    a folder that another one has is left to it without a word.
    """
    settings = watcher.settings
    with ExitStack() as stack:
        run, own = _Run(watcher), watcher.own_places()
        for path in watcher.paths:
            try:
                lock = FolderLock(path, settings.spool)
            except IngestError as error:
                if not (may_overlap and isinstance(error, JobBusy)):
                    run.note(error, path)
                continue
            stack.callback(lock.release)
            said = Said(path, watcher.audience, in_spool(path, settings.spool, "said"))
            stack.callback(said.save)
            run.folders.append(watcher.folder(path, own, said, lock.now))
        if run.folders:
            store = stack.enter_context(open_store(settings))
            run.to_the_end(stack.enter_context(connect(settings, store)).unique_id, store)
        return ExitCode.of_several(run.codes)


class _Run:
    """One run over ``folders``, fewer where something is wrong with one; ``codes`` says how it went."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.folders: list[DropFolder] = []
        self.codes: list[ExitCode] = []
        self._ran: set[int] = set()

    def note(self, error: Exception, folder: Path) -> None:
        """Say what is wrong with a folder."""
        self._watcher.audience.problem(in_words(error, folder))
        self.codes.append(error.exit_code if isinstance(error, IngestError) else ExitCode.FAILED)

    def to_the_end(self, ids: UniqueId, store: JobStore) -> None:
        """Ingest what is stable, and dispose of what has ended."""
        submitted = self._scan(ids, store, None)
        if any(folder.is_waiting for folder in self.folders):
            time.sleep(self._watcher.rules.settle + 0.01)
        # What comes from now on waits for the next run.
        submitted += self._scan(ids, store, ())
        while True:
            work(self._watcher.settings, self._observed, self._watcher.audience.problem, until_empty=True)
            more = self._scan(ids, store, ())
            submitted += more
            if not more:
                break
        for folder in self.folders:
            folder.say_what_is_left()
            self.codes += folder.problems
        for job in submitted:
            self._note_ended(store.get(job.job_id))

    def _scan(self, ids: UniqueId, store: JobStore, names: Iterable[str] | None) -> list[Job]:
        submitted = []
        for folder in list(self.folders):
            try:
                folder.see(store, names)
                folder.proceed(ids, store)
            except Exception as error:  # noqa: BLE001 - what is wrong with one folder is not to stop the others
                self.folders.remove(folder)
                self.note(error, folder.path)
            submitted += self._watcher.tell_of_submitted(folder)
        return submitted

    def _observed(self, job: Job) -> Observer:
        self._ran.add(job.job_id)
        return self._watcher.observe(job)

    def _note_ended(self, job: Job) -> None:
        if not job.is_done and job.job_id not in self._ran:
            # Another process has it, or has settled it.
            self._watcher.audience.problem(
                f"{job.name}: job {job.job_id} ({job.state}) at {job.task!r}: {job.exception}"
            )
        self.codes.append(
            ExitCode.SUCCESS if job.is_done else ExitCode.FAILED if job.has_failed else ExitCode.UNREACHABLE
        )

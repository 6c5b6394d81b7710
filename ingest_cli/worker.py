"""A worker: enters jobs into the store, claims them, walks them through the pipeline and settles the end."""

import errno
import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from .errors import IngestError, Interrupted, JobBusy, JobStopped, ServiceUnavailable, SourceError, StoreError
from .jobs import BEAT_SECONDS, MAX_RUNS, Job, JobKind, JobStore, is_alive
from .journal import INGEST_FILES, MOVE_FILES, UPLOADING
from .metadata import Document
from .pipeline import discard_files, ingest_bundle, move_files
from .services.base import Services
from .settings import Settings

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Someone who sees a job at work, such as a progress display."""

    def stage(self, task: str) -> None:
        """The job enters a stage."""

    def plan(self, files: int, total_bytes: int) -> None:
        """So many bytes will be read in all."""

    def advance(self, length: int) -> None:
        """So many more bytes were read, or need not be."""

    def file_done(self) -> None:
        """One more file was checked or, when all were, stored."""

    def warn(self, message: str) -> None:
        """A person should see this."""


class Nobody:
    """A watcher for jobs that no one sees."""

    def stage(self, task: str) -> None:
        """Pass over the stage."""

    def plan(self, files: int, total_bytes: int) -> None:
        """Pass over the plan."""

    def advance(self, length: int) -> None:
        """Pass over the bytes."""

    def file_done(self) -> None:
        """Pass over the file."""

    def warn(self, message: str) -> None:
        """Pass over the warning."""


class AlreadyIngested(Exception):
    """Another job has recorded the same bundle."""

    def __init__(self, job_id: int) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class Worker:
    """Ingests with ``services``, keeping its jobs in the store that ``settings`` name.

    ``again`` ingests a bundle even where it was ingested before.
    """

    def __init__(self, settings: Settings, services: Services, *, again: bool = False) -> None:
        self._store = JobStore(settings.database)
        self._settings, self._services, self._again = settings, services, again
        self._interrupted = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, trace)

    def interrupt(self) -> None:
        """Leave the job at hand after the file at hand, for a later run to go on with; from any thread or signal."""
        self._interrupted.set()

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._interrupted.is_set()

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond a call of `interrupt`."""
        self._interrupted.wait(seconds)

    def submit(self, kind: JobKind, source: Path, *, queued: bool = False, spooled: bool = False) -> Job:
        """The job of a file: the one that recorded it or that an earlier run left unfinished, else a new one.

        A new one is this process's own, to be run by it, unless it is ``queued`` for whichever worker comes first. A
        ``spooled`` file is removed when the job is complete.
        Raises SourceError where the file cannot be read, ServiceUnavailable where no id is to be had.
        """
        path = source.absolute()
        if not is_text(path):
            raise SourceError(f"{str(path)!r} is no name in UTF-8: rename the file")
        stamp = file_stamp(path)
        found = self._store.find(kind, str(path), stamp)
        if found is not None and not (found.recorded and self._again):
            return found
        job_id = self._services.unique_id.take("upload_job", 1)
        return self._store.submit(
            job_id,
            kind=kind,
            source=str(path),
            stamp=stamp,
            user=self._settings.user,
            queued=queued,
            spooled=spooled,
        )

    def retry(self, job_id: int) -> Job:
        """The job, ready to run again: from where it stopped if files of it are stored, else from the start.

        Raises JobNotFound, and SourceError where its file is not the one any more that it was submitted with.
        """
        job = self._store.get(job_id)
        if not job.recorded and file_stamp(Path(job.source)) != job.stamp:
            raise SourceError(
                f"{job.source} was changed since job {job_id} was submitted: ingest it as a job of its own"
            )
        return job

    def discard(self, job_id: int) -> Job:
        """Give up a job that is not complete: take back what the archive holds of it, and settle it as failed.

        Raises JobBusy while a process works on it, ArchiveKeeps where something cannot be taken back, and what hinders
        reading the document of a move. The job can then be discarded, or gone on with, once more.
        """
        held = IngestError(f"the catalogue holds job {job_id}: nothing of it is discarded")
        job = self._store.get(job_id)
        if job.recorded or job.duplicate_of is not None:
            raise held
        # Asked again when no other process can complete it any more.
        job = self._store.claim(job_id)
        journal = _StoreJournal(self._store, job, self._services, Nobody(), self._interrupted, again=False)
        try:
            with journal.beating():
                if job.recorded or self._services.catalog.has(job_id):
                    self._store.complete(job_id)
                    raise held
                document = Path(job.source) if job.kind is JobKind.MOVE else None
                discard_files(job.files, document, job.digest, self._services, journal)
        except BaseException as error:
            if error is held:
                raise
            self._store.fail(job_id, job.task, f"it could not be discarded: {error}", resumable=True)
            raise
        self._store.fail(job_id, job.task, "discarded: the archive holds nothing of it", resumable=False)
        return self._store.get(job_id)

    def run(self, job: Job, watcher: Watcher) -> Job:
        """Run a job to its end, unless it is recorded already, and return it as settled.

        Raises the IngestError that it failed with, after the store has it. Interrupted and KeyboardInterrupt leave it
        resumable.
        """
        if job.recorded:
            return job
        return self._run_claimed(self._store.claim(job.job_id), watcher, put_off=False)

    def claim_next(self) -> Job | None:
        """The job of the queue whose turn it is, to be given to `run_claimed`; None where none waits."""
        return self._store.claim_next()

    def run_claimed(self, job: Job, watcher: Watcher) -> Job:
        """Run a job from the queue and return it as it stands then: complete, failed, or put off for some time.

        Raises Interrupted and KeyboardInterrupt, which leave it in the queue.
        """
        try:
            return self._run_claimed(job, watcher, put_off=True)
        except Interrupted:
            raise
        except Exception:
            return self._store.get(job.job_id)

    def _run_claimed(self, job: Job, watcher: Watcher, *, put_off: bool) -> Job:
        journal = _StoreJournal(self._store, job, self._services, watcher, self._interrupted, again=self._again)
        watcher.stage(UPLOADING)
        try:
            try:
                with journal.beating():
                    self._walk(job, journal)
            finally:
                journal.leave()
            self._complete(job)
            self._forget_source(job)
        except AlreadyIngested as earlier:
            self._store.complete(job.job_id, duplicate_of=earlier.job_id)
            self._forget_source(job)
        except JobStopped:
            raise
        except Interrupted:
            self._store.release(job.job_id)
            raise
        except Exception as error:
            self._settle_failure(job, journal, error, put_off=put_off)
            raise
        except BaseException:
            self._store.release(job.job_id)
            raise
        return self._store.get(job.job_id)

    def state(self, job_id: int) -> Job:
        """The job as it stands now."""
        return self._store.get(job_id)

    def _walk(self, job: Job, journal: "_StoreJournal") -> None:
        path = Path(job.source)
        try:
            if job.kind is JobKind.MOVE:
                remote = self._settings.remote_sources
                move_files(path, user=job.user, services=self._services, journal=journal, remote_sources=remote)
            else:
                ingest_bundle(path, user=job.user, spool=self._settings.spool, services=self._services, journal=journal)
        except OSError as error:
            # The services explain their own: this is of the bundle, or of a file that is to be moved.
            unread = IngestError(f"cannot read what {path} holds or names: {error.strerror}")
            for note in getattr(error, "__notes__", ()):
                unread.add_note(note)
            raise unread from error

    def _complete(self, job: Job) -> None:
        try:
            self._store.complete(job.job_id)
        except JobStopped:
            # The administrator's word stands, but the catalogue holds the job: it must not be stored a second time.
            self._store.recorded_after_all(job.job_id)
            raise

    @staticmethod
    def _forget_source(job: Job) -> None:
        if job.spooled:
            # Where this fails, or is not come to, the file is removed with what else in the spool is no one's.
            with suppress(OSError):
                Path(job.source).unlink()

    def _settle_failure(self, job: Job, journal: "_StoreJournal", error: Exception, *, put_off: bool) -> None:
        stage = (error.stage if isinstance(error, IngestError) else None) or journal.task
        if stage == INGEST_FILES and job.kind is JobKind.MOVE:
            stage = MOVE_FILES
        transient = isinstance(error, IngestError) and error.transient
        # What could not be taken back is still this job's: another run may go on with it.
        resumable = transient or journal.first_file_id is not None
        story = "\n".join(error.lines) if isinstance(error, IngestError) else "".join(traceback.format_exception(error))
        if put_off and transient and job.attempts < MAX_RUNS:
            self._store.put_off(job, stage, story)
        else:
            self._store.fail(job.job_id, stage, story, resumable=resumable)


class _StoreJournal:
    """The pipeline's journal, kept in the job store and shown to a watcher."""

    def __init__(
        self,
        store: JobStore,
        job: Job,
        services: Services,
        watcher: Watcher,
        interruption: threading.Event,
        *,
        again: bool,
    ) -> None:
        self._store, self._job, self._services, self._watcher = store, job, services, watcher
        self._again, self._interruption = again, interruption
        self._stopped: JobStopped | None = None
        self._counting = threading.Lock()
        self._total_bytes = self._done_bytes = self._finished_bytes = 0
        self.task = job.task
        self._entered: float | None = None
        self.first_file_id = job.first_file_id
        self.stored = job.stored

    @property
    def job_id(self) -> int:
        return self._job.job_id

    @property
    def interrupted(self) -> bool:
        return self._interruption.is_set()

    def stage(self, task: str) -> None:
        if self.interrupted:
            raise Interrupted
        self.leave()
        self.task, self._entered = task, time.monotonic()
        self._total_bytes = self._done_bytes = self._finished_bytes = 0
        self._store.enter(self.job_id, task)
        self._watcher.stage(task)

    def leave(self) -> None:
        if self._entered is not None:
            log.info("job %d: %s took %.2f s", self.job_id, self.task, time.monotonic() - self._entered)

    def identify(self, document: Document) -> None:
        other = self._store.identify(self.job_id, document.digest)
        if other is None or self._again:
            return
        if other.recorded or self._services.catalog.has(other.job_id):
            raise AlreadyIngested(other.job_id)
        if is_alive(other):
            raise JobBusy(f"job {other.job_id} is ingesting the same bundle now, from {other.source}")
        if other.first_file_id is not None and self.first_file_id is None:
            self._job = self._store.inherit(self.job_id, other)
            self.first_file_id, self.stored = self._job.first_file_id, self._job.stored

    def plan(self, files: int, total_bytes: int) -> None:
        self._total_bytes = 2 * total_bytes
        self._store.plan(self.job_id, files, total_bytes)
        self._watcher.plan(files, 2 * total_bytes)

    def advance(self, length: int) -> None:
        if self._stopped is not None:
            raise self._stopped
        with self._counting:
            self._done_bytes += length
            self._watcher.advance(length)

    def file_done(self, size: int) -> None:
        if self._stopped is not None:
            raise self._stopped
        with self._counting:
            self._finished_bytes += size
            unread = self._finished_bytes - self._done_bytes
            if unread > 0:
                # It was renamed, or an earlier run has stored it.
                self._done_bytes += unread
                self._watcher.advance(unread)
            self._watcher.file_done()

    def warn(self, message: str) -> None:
        self._watcher.warn(message)

    def reserve(self, first_file_id: int) -> None:
        self._store.reserve(self.job_id, first_file_id)
        self.first_file_id = first_file_id

    def checkpoint(self, stored: int) -> None:
        self._store.checkpoint(self.job_id, stored)
        log.info("job %d: checkpoint: %d files are stored", self.job_id, stored)
        self.stored = stored

    def taken_back(self) -> None:
        self._store.taken_back(self.job_id)
        self.first_file_id, self.stored = None, 0

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Say from a thread that this process lives, and notice there when the job is no longer its own."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT_SECONDS):
                try:
                    with JobStore(self._store.path) as store:
                        store.beat(self.job_id, self._percent())
                except JobStopped as stopped:
                    self._stopped = stopped
                    return
                except (ServiceUnavailable, StoreError):
                    # A beat may be missed; what the job itself cannot write, it reports.
                    continue

        thread = threading.Thread(target=beat, name=f"beat of job {self.job_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _percent(self) -> float:
        # 100 is for what is complete; a stage at work stays below it.
        return min(99.0, 100 * self._done_bytes / self._total_bytes) if self._total_bytes else 0.0


def file_stamp(path: Path) -> str:
    """What tells the file at ``path`` from another one, or from itself after a change. Raises SourceError."""
    try:
        found = path.stat()
        is_file = path.is_file()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    if not is_file:
        raise SourceError(f"{path} is not a file")
    return stamp_of(found)


def is_text(path: Path) -> bool:
    """Whether the path is UTF-8, which the job store keeps."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def stamp_of(found: os.stat_result) -> str:
    """The same from what `os.stat` says of the file."""
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"

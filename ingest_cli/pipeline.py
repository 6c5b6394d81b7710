"""The road of one job through Pacifica's stages, with one rule: look at everything before anything is stored.

Every check that can be made beforehand is made first and reported under the stage that owns it; then files go in,
then metadata. What fails after that is either transient (what is stored is kept, and a later run goes on from there)
or permanent (what was stored is taken back).

A process may die between any two steps. They are ordered so that each side of each is safe:

- ids are taken, but not noted: they are never used, and others are taken.
- a file is stored, but not noted: it is stored once more, under the same id, over itself.
- a file is moved, but not noted: its source is gone, and the archive is asked whether it holds it.
- the document is recorded, but the job not complete: the catalogue is asked before it is recorded again.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .bundle import MAX_METADATA_BYTES, Bundle
from .errors import (
    ArchiveKeeps,
    IngestError,
    Interrupted,
    JobStopped,
    JobTakenOver,
    MetadataError,
    ServiceUnavailable,
    SourceError,
)
from .job_files import BundleFiles, JobFiles, MovedFiles, RemoteFiles
from .journal import INGEST_METADATA, LOAD_METADATA, OPEN_TAR, POLICY_VALIDATION, Journal
from .metadata import Document
from .services.base import Services

# How much work a loss of power or a kill may cost at most; each checkpoint costs one write-back of the disk.
CHECKPOINT_SECONDS = 10.0


def ingest_bundle(path: Path, *, user: str, spool: Path, services: Services, journal: Journal) -> None:
    """Take the bundle at ``path`` through all stages. ``spool`` is a folder for unpacking a compressed one."""
    journal.stage(OPEN_TAR)
    with Bundle(path, spool) as bundle:
        journal.stage(LOAD_METADATA)
        document = Document.parse(bundle.read_metadata())
        journal.identify(document)
        _walk(
            document,
            BundleFiles(bundle, document, services.archive, journal),
            user,
            services,
            journal,
        )


def move_files(path: Path, *, user: str, services: Services, journal: Journal, remote_sources: bool = False) -> None:
    """Take the files named by the document at ``path`` through all stages but ``open tar``.

    With ``remote_sources`` only the archive sees the files: then their sizes are checked, but not their hashes.
    """
    journal.stage(LOAD_METADATA)
    document = Document.parse(_read_document(path))
    journal.identify(document)
    files = RemoteFiles if remote_sources else MovedFiles
    _walk(document, files(document, services.archive, journal), user, services, journal)


def discard_files(count: int, document: Path | None, digest: str | None, services: Services, journal: Journal) -> None:
    """Take back what the archive holds of the ``count`` files of a job that is given up.

    Moved files go back to their sources, which the ``document`` with this digest names; for those of a bundle it is
    None. Raises ArchiveError and ServiceUnavailable, SourceError where the document is not that one any more, and what
    reading it raises; the rest is then still there.
    """
    first = journal.first_file_id
    if first is None:
        return
    files = None
    if document is not None:
        parsed = Document.parse(_read_document(document))
        if parsed.digest != digest:
            raise SourceError(f"{document} was changed: it does not say any more where the files of the job were")
        files = MovedFiles(parsed, services.archive, journal)
    # First: a run that goes on after a kill in the midst of this must not count on what is gone by then.
    journal.checkpoint(0)
    for position in reversed(range(count)):
        if files is not None:
            files.take_back(position, first + position)
        else:
            services.archive.delete(first + position)
    journal.taken_back()


def _walk(document: Document, files: JobFiles, user: str, services: Services, journal: Journal) -> None:
    storing = _Storing([entry.size for entry in document.files], files, services, journal)
    with storing.taken_back_on_failure():
        _check(document, files, user, services, journal)
        first = storing.reserve()
        storing.run(first)
        journal.stage(INGEST_METADATA)
        if not storing.is_recorded():
            services.catalog.record(document, journal.job_id, first)


def _check(document: Document, files: JobFiles, user: str, services: Services, journal: Journal) -> None:
    journal.stage(POLICY_VALIDATION)
    services.policy.check(document, user)
    journal.stage(files.stage)
    journal.plan(len(document.files), document.total_bytes)
    for entry in document.files:
        entry.require_usable_hash()
    services.catalog.check(document)
    services.archive.require_room(files.bytes_to_archive)
    files.check()


class _Storing:
    """Puts files into the archive one after the other, and takes them back where that must be."""

    def __init__(self, sizes: list[int], files: JobFiles, services: Services, journal: Journal) -> None:
        self._sizes, self._files, self._services, self._journal = sizes, files, services, journal
        self._count = len(sizes)
        self._resumed = journal.first_file_id is not None
        # A run before this one may have stored more than it came to note.
        self._reached = self._count if self._resumed else 0
        self._lock = threading.Lock()

    def reserve(self) -> int:
        """The first of the files' ids: the one that an earlier run reserved, else a new one."""
        first = self._journal.first_file_id
        if first is None:
            first = self._services.unique_id.take("file", self._count) if self._count else 0
            self._journal.reserve(first)
        return first

    def run(self, first: int) -> None:
        """Store what is not known to be stored, with a checkpoint now and then and one at the end.

        Raises Interrupted, after a checkpoint, where the job is to be left.
        """

        def store(position: int) -> None:
            try:
                self._files.store(position, first + position, replace=self._resumed)
            except (ServiceUnavailable, ArchiveKeeps):
                self._reach(position)
                raise
            self._reach(position)

        stored = self._still_stored(first)
        for size in self._sizes[:stored]:
            self._journal.file_done(size)
        due = time.monotonic() + CHECKPOINT_SECONDS
        for position in _done_in_order(store, range(stored, self._count), self._services.archive.transfers):
            self._journal.file_done(self._sizes[position])
            if self._journal.interrupted:
                self._checkpoint(position + 1)
                raise Interrupted
            if time.monotonic() >= due:
                self._checkpoint(position + 1)
                due = time.monotonic() + CHECKPOINT_SECONDS
        self._checkpoint(self._count)

    def _still_stored(self, first: int) -> int:
        """How many files need not be stored again: none where the archive has lost the last of those noted, as where
        its disk is not the one that it was."""
        stored = self._journal.stored
        return stored if stored and self._services.archive.stat(first + stored - 1) is not None else 0

    def _reach(self, position: int) -> None:
        """The archive may hold this file of the job; before its turn came, a file there was another job's."""
        with self._lock:
            self._reached = max(self._reached, position + 1)

    def is_recorded(self) -> bool:
        """Whether an earlier run came as far as the catalogue, and was cut off before the job said so."""
        return self._resumed and self._services.catalog.has(self._journal.job_id)

    @contextmanager
    def taken_back_on_failure(self) -> Iterator[None]:
        """After a failure that no second try can mend, undo the storing; after any other, keep what is stored."""
        try:
            yield
        except Exception as error:
            if not (isinstance(error, IngestError) and error.transient):
                self._take_back(error)
            raise

    def _checkpoint(self, stored: int) -> None:
        self._services.archive.flush()
        self._journal.checkpoint(stored)

    def _take_back(self, error: Exception) -> None:
        first, left = self._journal.first_file_id, []
        if first is None:
            return
        try:
            if self.is_recorded():
                return
        except IngestError as trouble:
            error.add_note(f"what is stored is kept, since the catalogue cannot be asked: {trouble}")
            return
        try:
            # First: a run that goes on after a kill in the midst of this must not count on what is gone by then.
            self._journal.checkpoint(0)
        except JobTakenOver:
            return  # what is stored is the other's by now
        except JobStopped:
            pass  # no run goes on with it
        except IngestError as trouble:
            error.add_note(f"what is stored is kept, since that cannot be noted: {trouble}")
            return
        for position in reversed(range(self._reached)):
            try:
                self._files.take_back(position, first + position)
            except IngestError as trouble:
                left.append(f"file {first + position} ({trouble})")
        if left:
            error.add_note(f"could not be taken back from the archive: {', '.join(left)}")
        else:
            self._journal.taken_back()


def _done_in_order(work: Callable[[int], None], positions: Iterable[int], at_once: int) -> Iterator[int]:
    """Do ``work`` for each position, so many at once, and yield the positions in their order as they are done.

    After an error no more is begun, and what runs is waited for.
    """
    if at_once == 1:
        for position in positions:
            work(position)
            yield position
        return
    begun: deque[tuple[int, Future[None]]] = deque()
    with ThreadPoolExecutor(at_once) as executor:
        try:
            for position in positions:
                begun.append((position, executor.submit(work, position)))
                # Enough in hand that no thread is idle while the first in order is a large one.
                if len(begun) > 4 * at_once:
                    yield _awaited(*begun.popleft())
            while begun:
                yield _awaited(*begun.popleft())
        finally:
            for _, future in begun:
                future.cancel()


def _awaited(position: int, future: "Future[None]") -> int:
    future.result()
    return position


def _read_document(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise MetadataError(f"{path} is longer than the {MAX_METADATA_BYTES} bytes allowed")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error

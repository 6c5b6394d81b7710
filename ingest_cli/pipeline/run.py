"""One run of a job through Pacifica's stages, with one rule: check everything before anything is stored.

Every check that can be made beforehand is made first and reported under the stage that owns it; then files go in,
then metadata. What fails after that is either transient (what is stored is kept, and a later run resumes) or permanent
(what was stored is rolled back).

A bundle is read once, where that can be. What of it is kept in memory is stored from there. A larger one is staged: its
files are hashed while they are written into the run's own folder, and get their names in the archive only when every
one of them has been found right. For that the ids are reserved, which name the folder, before the bytes are looked at;
those of a bundle that turns out to be bad are lost.

A process may die, or be frozen and find another one in its place, between any two steps. They are ordered so that each
side of each is safe:

- ids are reserved, but not noted: they are never used, and others are reserved.
- files are staged, all or some, but none is stored: whoever has the job next, be it to resume it, to roll it back or to
  discard it, ends the run's folder and clears it; they are no orphans until then, since their ids are reserved. Where
  the run itself fails or is interrupted, it clears it at once.
- files are staged, and some of them stored: as many as are noted count, the others are staged and stored once more.
- a file is stored, but not noted: it is stored once more, under the same id, over itself.
- a file is moved, but not noted: its source exists, or the archive is asked whether it holds it, and it is hashed.
- the document is recorded, but the job not complete: the catalogue is asked before anything else.
- a run that lost its lease wakes up: the store refuses its fence, the archive its folder, the catalogue its record.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle.folder import Folder, FolderRequest
from ..bundle.metadata import Document
from ..bundle.reader import Bundle, DocumentFile
from ..errors import ArchiveError, Interrupted, JobBusy, ResourceUnavailable, SourceChanged, WrongState
from ..in_threads import BATCH_COUNT, done_in_threads, pay_for
from ..jobs.job import Job, JobKind, JobState
from ..jobs.lease import Lease
from ..jobs.stages import INGEST_METADATA, LOAD_METADATA, OPEN_TAR, POLICY_VALIDATION
from ..meter import NOBODY, Meter
from ..services.base import ArchiveWriter, Services
from ..settings import ObjectStore, Settings
from ..text import counted, listed
from .bundle_files import BundleFiles
from .files import JobFiles
from .folder_files import FolderFiles
from .moved_files import MovedFiles, RemoteFiles, StoredObjects
from .precedence import Precedence
from .progress import Progress
from .sources import SourceRules, left_in_place
from .spooled import Spooled


@dataclass(frozen=True, slots=True)
class Recorded:
    """The catalogue has the job."""


@dataclass(frozen=True, slots=True)
class DuplicateOf:
    """The catalogue has the same document as another job."""

    job_id: int


class Run:
    """One run of the job that has ``lease``, of so many ``at_once``. ``again`` ingests a document even where another
    job recorded it; jobs of it that have ``precedence`` are waited for."""

    def __init__(
        self,
        lease: Lease,
        progress: Progress,
        services: Services,
        settings: Settings,
        *,
        again: bool,
        at_once: int,
        precedence: Precedence,
        spooled: Spooled,
    ) -> None:
        self._lease, self._progress, self._services = lease, progress, services
        self._settings, self._again, self._at_once, self._precedence = settings, again, at_once, precedence
        self._path, self._spooled = Path(lease.job.source), spooled
        # A run before this one may have stored more than it came to note.
        self.reached: int | None = None if lease.reservation is not None else 0
        self._lock = threading.Lock()

    def run(self) -> Recorded | DuplicateOf:
        """Go through all stages, to the catalogue's word."""
        if self._lease.job.kind is JobKind.MOVE:
            return self._move()
        if self._lease.job.kind is JobKind.FOLDER:
            return self._folder()
        self._progress.stage(OPEN_TAR)
        require, observe = self._lease.require_uninterrupted, self._progress.unpacking
        spool, got = self._settings.spool, self._spooled.fetch(self._lease.job, require, observe)
        path = self._path if got is None else Path(self._lease.job.name)
        with (
            self._spooled.in_turn(got, require),
            Bundle(path, spool, require=require, observe=observe, fetched=got) as bundle,
        ):
            self._require_same(bundle.fingerprint)
            self._progress.stage(LOAD_METADATA)
            document = self._parse(bundle.read_metadata(self._settings.document_bytes))
            earlier = self._identify(document)
            if earlier is not None:
                return earlier
            stages = self._services.archive.stages
            files = BundleFiles(bundle, document, self._progress, stages=stages, at_once=self._at_once)
            return self._store(document, files)

    def _move(self) -> Recorded | DuplicateOf:
        self._progress.stage(LOAD_METADATA)
        with DocumentFile(self._path, self._settings.document_bytes) as file:
            self._require_same(file.fingerprint)
            document = self._parse(file.pieces())
        earlier = self._identify(document)
        files = _kind_of_moved(self._settings)
        archive, reservation = self._services.archive, self._lease.reservation
        rules = SourceRules.of(self._lease.job, self._settings)
        return earlier or self._store(document, files(document, self._progress, archive, reservation, rules))

    def _folder(self) -> Recorded | DuplicateOf:
        self._progress.stage(LOAD_METADATA)
        job, services = self._lease.job, self._services
        request = FolderRequest.from_text(self._lease.request())
        folder = Folder(self._path, request, left_in_place(self._path, self._settings))
        if folder.fingerprint != job.fingerprint:
            raise SourceChanged(replaced(job, folder.changed_since(job.created_at)))
        for warning in folder.warnings:
            self._progress.warn(warning)
        # Before hours are spent on reading.
        services.policy.check(folder.unhashed, job.user)
        files = FolderFiles(folder, request, services.catalog, self._progress, at_once=self._at_once)
        if files.count_known:
            self._progress.note(_known_before(files, request))
        if files.document is None:
            return DuplicateOf(request.beyond[-1])
        return self._identify(files.document) or self._store(files.document, files)

    def _parse(self, pieces: Iterator[bytes]) -> Document:
        return Document.parse(pieces, require=self._lease.require_uninterrupted)

    def _require_same(self, found: str) -> None:
        if found != self._lease.job.fingerprint:
            raise SourceChanged(replaced(self._lease.job))

    def _identify(self, document: Document) -> DuplicateOf | None:
        """The job that the catalogue has of this document; None where this one is to record it, perhaps with what an
        earlier one has stored."""
        job, reservation = self._lease.job, self._lease.reservation
        if job.digest not in (None, document.digest):
            raise SourceChanged(replaced(job))
        self._precedence.give(job.job_id, document.digest)
        other = self._lease.identify(document.digest, len(document.files), document.total_bytes)
        if other is None or self._again:
            return None
        if other.state is JobState.COMPLETE or self._has(other):
            return DuplicateOf(other.job_id)
        if self._lease.holds(other):
            raise JobBusy(f"job {other.job_id} is ingesting the same from {other.name}")
        if other.reservation is not None and reservation is None and other.kind is job.kind:
            # A run of the other that wakes up must not record what is this one's by now.
            if self._services.catalog.bar(other.job_id, other.reservation.ids, other.fence_number):
                return DuplicateOf(other.job_id)
            try:
                self._lease.supersede(other)
            except WrongState as error:
                raise JobBusy(f"another job of the same document has just changed: {error}") from error
            self.reached = None
        return None

    def _store(self, document: Document, files: JobFiles) -> Recorded:
        lease, services = self._lease, self._services
        lease.admit(str(document.value("Transactions.project")), self._settings.cluster.jobs_per_project)
        if lease.reservation is not None and lease.reservation.count != len(document.files):
            found = counted(len(document.files), "file")
            raise SourceChanged(
                f"{lease.job.source} lists {found}, but the job has reserved {lease.reservation.count} ids"
            )
        is_recorded = self._has(lease.job)
        if lease.reservation is not None:
            # Before anything is looked at: from now on no earlier run changes it.
            ids = lease.reservation.ids
            writer = self._writer(ids, resumed=True)
            self._check(document, files, is_recorded=is_recorded)
        else:
            self._check(document, files, is_recorded=False)
            ids = self._reserve(document, files)
            writer = self._writer(ids, resumed=False)
        if not is_recorded:
            self._store_all(files, writer, ids)
        self._progress.stage(INGEST_METADATA)
        if not is_recorded:
            files.require_unchanged(writer, ids)
            lease.confirm()
            services.catalog.record(document, lease.job_id, ids.start, fence=lease.fence.number)
        files.release(writer, ids)
        writer.close()
        return Recorded()

    def _has(self, job: Job) -> bool:
        """Whether the catalogue has the job, even where the store does not say so yet."""
        reservation = job.reservation
        return reservation is not None and self._services.catalog.contains(job.job_id, reservation.ids)

    def _check(self, document: Document, files: JobFiles, *, is_recorded: bool) -> None:
        services = self._services
        self._progress.stage(POLICY_VALIDATION)
        if not is_recorded:
            services.policy.check(document, self._lease.job.user)
        self._progress.stage(files.stage)
        self._progress.plan(len(document.files), document.total_bytes)
        if is_recorded:
            return
        for entry in document.files:
            entry.require_usable_hash()
        services.catalog.check(document)
        self._require_room(files)
        files.check()

    def _require_room(self, files: JobFiles) -> None:
        archive, needed = self._services.archive, files.bytes_to_archive()
        try:
            archive.require_room(needed)
        except ResourceUnavailable:
            shared = files.bytes_shared(archive)
            if not shared:
                raise
            archive.require_room(needed - shared)

    def _reserve(self, document: Document, files: JobFiles) -> range:
        """New ids for the files, under which nothing stands."""
        count = len(document.files)
        first = self._services.unique_id.reserve("file", count) if count else 0
        ids = range(first, first + count)
        self._services.archive.require_free(ids)
        self._lease.reserve(ids, files.sources, files.mounts())
        return ids

    def _writer(self, ids: range, *, resumed: bool) -> ArchiveWriter:
        lease = self._lease
        writer = self._services.archive.writer(ids, lease.fence.number, resumed=resumed, require=lease.require)
        # Behind its making: the next holder finds it, and puts an end to it.
        lease.confirm()
        return writer

    def _store_all(self, files: JobFiles, writer: ArchiveWriter, ids: range) -> None:
        """Store what is not known to be stored; where the files are staged, once all of them have been found right.

        Nothing stays aside where that fails: a disk that is full needs its room, and no other run resumes from it.
        """
        # A moved file could be written to under its source's name since: those are looked at one by one.
        stored = 0 if self._lease.job.kind is JobKind.MOVE else self._still_stored(ids)
        left = range(stored, len(ids))
        for position in range(stored):
            self._progress.stored(files.size(position))
        try:
            if files.are_staged:
                self._stage_files(files, writer, ids, left)
            self._store_files(files, writer, ids, left)
        except Exception:
            if files.are_staged:
                writer.close()
            raise

    def _stage_files(self, files: JobFiles, writer: ArchiveWriter, ids: range, left: range) -> None:
        """Have the archive take aside what is ``left``, and check it on the way. Raises Interrupted."""

        def set_aside(position: int) -> None:
            files.set_aside(writer, position, ids[position])

        for position in self._done(set_aside, files, left):
            self._progress.checked(files.size(position))
            self._lease.require_uninterrupted()

    def _store_files(self, files: JobFiles, writer: ArchiveWriter, ids: range, left: range) -> None:
        """Store what is ``left``, with a checkpoint now and then and one at the end.

        Raises Interrupted, after a checkpoint, where the run is to be left.
        """

        def store(position: int) -> None:
            self._reach(position)
            files.store(writer, position, ids[position])

        checkpoint = self._settings.timings.checkpoint
        due = time.monotonic() + checkpoint
        for position in self._done(store, files, left):
            self._progress.stored(files.size(position))
            if self._lease.interrupted:
                self._checkpoint(writer, position + 1)
                raise Interrupted
            if time.monotonic() >= due:
                self._checkpoint(writer, position + 1)
                due = time.monotonic() + checkpoint
        self._checkpoint(writer, len(ids))

    def _done(self, work: Callable[[int], None], files: JobFiles, left: range) -> Iterator[int]:
        """Do the work for each file that is ``left``, as many of them at once as pays, and yield them in order."""
        archive = self._services.archive
        pays = archive.waits or pay_for(len(left), sum(map(files.size, left)))
        threads, most = archive.transfers if pays else 1, 1 if archive.waits else BATCH_COUNT

        def do(position: int, _: Meter) -> None:
            work(position)

        return (position for position, _ in done_in_threads(do, left, files.size, NOBODY, threads, most))

    def _still_stored(self, ids: range) -> int:
        """How many files need not be stored again: none where the archive has lost the last of those noted, as where
        its disk is not the one that it was."""
        stored = self._lease.reservation.stored if self._lease.reservation is not None else 0
        try:
            return stored if stored and self._services.archive.stat(ids[stored - 1]) is not None else 0
        except ArchiveError:
            return 0  # where it lies is damaged

    def _reach(self, position: int) -> None:
        with self._lock:
            if self.reached is not None:
                self.reached = max(self.reached, position + 1)

    def _checkpoint(self, writer: ArchiveWriter, stored: int) -> None:
        writer.flush()
        self._lease.checkpoint(stored)


def _kind_of_moved(settings: Settings) -> type[MovedFiles]:
    if not settings.remote_sources:
        return MovedFiles
    return StoredObjects if isinstance(settings.archive, ObjectStore) else RemoteFiles


def _known_before(files: FolderFiles, request: FolderRequest) -> str:
    jobs = f"job{'s' if len(request.beyond) > 1 else ''} {listed([str(job_id) for job_id in request.beyond])}"
    new = counted(0 if files.document is None else len(files.document.files), "file")
    return f"{counted(files.count_known, 'file')} ingested before by {jobs}; {new} new"


def replaced(job: Job, files: Sequence[str] = ()) -> str:
    """The error for a job whose file was replaced after the job was submitted, or whose folder was changed, as these
    ``files`` of it were."""
    if job.kind is JobKind.FOLDER:
        named = f" ({listed(files)})" if files else ""
        return f"{job.source} was changed after job {job.job_id} was submitted{named}: ingest it as a new job"
    return f"{job.source} was replaced after job {job.job_id} was submitted: ingest it as a new job"

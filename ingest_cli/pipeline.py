"""The road of one job through Pacifica's stages, with one rule: look at everything before anything is stored.

Every check that can be made beforehand is made first and reported under the stage that owns it; then files go in,
then metadata. What fails after that is either transient (what is stored is kept, and a later run goes on from there)
or permanent (what was stored is taken back).
"""

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from .bundle import DATA_FOLDER, MAX_METADATA_BYTES, METADATA_NAME, Bundle
from .content import Content
from .errors import FileRefused, IngestError, Interrupted, MetadataError, SourceError, SourceMissing
from .metadata import Document, FileEntry
from .services.base import Archive, Services
from .tar import Member

UPLOADING = "UPLOADING"
OPEN_TAR = "open tar"
LOAD_METADATA = "load metadata"
POLICY_VALIDATION = "Policy Validation"
INGEST_FILES = "ingest files"
MOVE_FILES = "move files"
INGEST_METADATA = "ingest metadata"
STAGES = (
    UPLOADING,
    OPEN_TAR,
    LOAD_METADATA,
    POLICY_VALIDATION,
    INGEST_FILES,
    MOVE_FILES,
    INGEST_METADATA,
)

# How much work a loss of power or a kill may cost at most; each checkpoint costs one write-back of the disk.
CHECKPOINT_SECONDS = 10.0


class Journal(Protocol):
    """What of a job must outlive this process, and who watches it. Any call may raise JobStopped."""

    @property
    def job_id(self) -> int:
        """The job's id, which is also its transaction's."""

    @property
    def first_file_id(self) -> int | None:
        """The first of the ids reserved for the files, by this run or one before; None where none are."""

    @property
    def stored(self) -> int:
        """How many files, in document order, are known to be durably stored."""

    @property
    def interrupted(self) -> bool:
        """Whether the job is to be left as soon as a later run can go on with it well."""

    def stage(self, task: str) -> None:
        """The job enters a stage."""

    def identify(self, document: Document) -> None:
        """Raise where this very document is recorded already or another process is at it."""

    def plan(self, files: int, total_bytes: int) -> None:
        """So many bytes will be read for so many files, each byte once to check it and once to store it."""

    def advance(self, length: int) -> None:
        """So many more bytes were read. Comes from several threads where the archive takes several files at once."""

    def warn(self, message: str) -> None:
        """Something that does not stop the job, but that a person should see."""

    def reserve(self, first_file_id: int) -> None:
        """The files' ids are reserved. Durable on return: before the first file is stored."""

    def checkpoint(self, stored: int) -> None:
        """The first ``stored`` files are durable in the archive."""

    def taken_back(self) -> None:
        """The archive holds nothing of the job any more, and its ids will not be used."""


class _Files(Protocol):
    """The files of a job: those in a bundle, or those to be moved. Positions are the document's."""

    stage: str
    bytes_to_archive: int

    def check(self) -> None: ...
    def store(self, position: int, file_id: int, *, replace: bool) -> None: ...
    def take_back(self, position: int, file_id: int) -> None: ...


def ingest_bundle(path: Path, *, user: str, spool: Path, services: Services, journal: Journal) -> None:
    """Take the bundle at ``path`` through all stages. ``spool`` is a folder for unpacking a compressed one."""
    journal.stage(OPEN_TAR)
    with Bundle(path, spool) as bundle:
        journal.stage(LOAD_METADATA)
        document = Document.parse(bundle.read_metadata())
        journal.identify(document)
        _walk(
            document,
            _BundleFiles(bundle, document, services.archive, journal),
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
    files = _RemoteFiles if remote_sources else _MovedFiles
    _walk(document, files(document, services.archive, journal), user, services, journal)


def _walk(document: Document, files: _Files, user: str, services: Services, journal: Journal) -> None:
    storing = _Storing(len(document.files), files, services, journal)
    with storing.taken_back_on_failure():
        _check(document, files, user, services, journal)
        first = storing.reserve()
        storing.run(first)
        journal.stage(INGEST_METADATA)
        if not storing.is_recorded():
            services.catalog.record(document, journal.job_id, first)


def _check(document: Document, files: _Files, user: str, services: Services, journal: Journal) -> None:
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

    def __init__(self, count: int, files: _Files, services: Services, journal: Journal) -> None:
        self._count, self._files, self._services, self._journal = count, files, services, journal
        self._resumed = journal.first_file_id is not None
        # A run before this one may have stored more than it came to note.
        self._reached = count if self._resumed else 0
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
            self._files.store(position, first + position, replace=self._resumed)
            with self._lock:
                self._reached = max(self._reached, position + 1)

        due = time.monotonic() + CHECKPOINT_SECONDS
        for position in _done_in_order(
            store, range(self._journal.stored, self._count), self._services.archive.transfers
        ):
            if self._journal.interrupted:
                self._checkpoint(position + 1)
                raise Interrupted
            if time.monotonic() >= due:
                self._checkpoint(position + 1)
                due = time.monotonic() + CHECKPOINT_SECONDS
        self._checkpoint(self._count)

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


class _BundleFiles:
    stage = INGEST_FILES

    def __init__(self, bundle: Bundle, document: Document, archive: Archive, journal: Journal) -> None:
        self._bundle, self._document, self._archive, self._journal = bundle, document, archive, journal
        self._members: list[Member] = []
        self.bytes_to_archive = document.total_bytes

    def check(self) -> None:
        """Find every listed file in the bundle, with its size and its hash."""
        self._members = [self._find(entry) for entry in self._document.files]
        self._warn_of_unlisted()
        for position in range(len(self._document.files)):
            self._content(position).verify()

    def store(self, position: int, file_id: int, *, replace: bool) -> None:
        self._archive.put(file_id, self._content(position), replace=replace)

    def take_back(self, position: int, file_id: int) -> None:
        self._archive.delete(file_id)

    def _content(self, position: int) -> Content:
        entry, member = self._document.files[position], self._members[position]
        return Content(
            name=entry.path,
            descriptor=self._bundle.descriptor,
            offset=member.offset,
            size=member.size,
            mtime=member.mtime,
            hashtype=entry.hashtype,
            hashsum=entry.hashsum,
            observe=self._journal.advance,
        )

    def _find(self, entry: FileEntry) -> Member:
        member = self._bundle.find(entry.path)
        if member is None:
            raise FileRefused(f"the metadata lists {entry.path!r}, but the bundle does not hold it")
        if member.size != entry.size:
            raise FileRefused(f"{entry.path!r} is {member.size} bytes long, but the metadata says {entry.size}")
        return member

    def _warn_of_unlisted(self) -> None:
        listed = {member.name for member in self._members}
        for name in self._bundle.members:
            if name not in listed and name != METADATA_NAME:
                hint = "" if name.startswith(DATA_FOLDER) else f", and is not under {DATA_FOLDER}"
                self._journal.warn(f"{name!r} is in the bundle but not in the metadata{hint}: it is not archived")


class _MovedFiles:
    stage = MOVE_FILES
    bytes_to_archive = 0  # most sources are renamed into the archive, which takes no room

    def __init__(self, document: Document, archive: Archive, journal: Journal) -> None:
        self._document, self._archive, self._journal = document, archive, journal
        self._sources = [_source(entry) for entry in document.files]
        if len(set(self._sources)) < len(self._sources):
            raise MetadataError("two files of the metadata have the same source")

    def check(self) -> None:
        """Hash every source; one that an earlier run has moved already is asked of the archive."""
        for position, entry in enumerate(self._document.files):
            if self._is_moved(position):
                self._journal.advance(entry.size)
                continue
            with self._content(position) as content:
                content.verify()

    def store(self, position: int, file_id: int, *, replace: bool) -> None:
        if self._is_moved(position):
            return
        with self._content(position) as content:
            size = self._document.files[position].size
            self._archive.move(file_id, self._sources[position], size, content, replace=replace)

    def take_back(self, position: int, file_id: int) -> None:
        self._archive.give_back(file_id, self._sources[position])

    def _is_moved(self, position: int) -> bool:
        first = self._journal.first_file_id
        if first is None or os.path.lexists(self._sources[position]):
            return False
        return self._archive.stat(first + position) == self._document.files[position].size

    @contextmanager
    def _content(self, position: int) -> Iterator[Content]:
        entry, source = self._document.files[position], self._sources[position]
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceMissing(f"cannot read the source {source} of {entry.path!r}: {error.strerror}") from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SourceMissing(f"the source {source} of {entry.path!r} is not a plain file")
            if found.st_size != entry.size:
                raise SourceMissing(f"the source {source} is {found.st_size} bytes long, not {entry.size}")
            yield Content(
                name=str(source),
                descriptor=descriptor,
                offset=0,
                size=entry.size,
                mtime=found.st_mtime,
                hashtype=entry.hashtype,
                hashsum=entry.hashsum,
                observe=self._journal.advance,
            )
        finally:
            os.close(descriptor)


class _RemoteFiles(_MovedFiles):
    """Files that only the archive sees."""

    def check(self) -> None:
        """Nothing can be looked at: say so, and count the bytes as looked at."""
        self._journal.warn("the files are not visible from here: their hashes are not checked")
        for entry in self._document.files:
            self._journal.advance(entry.size)

    def store(self, position: int, file_id: int, *, replace: bool) -> None:
        size = self._document.files[position].size
        # Only where an earlier run may have moved it: there a second move finds no source.
        if not (replace and self._archive.stat(file_id) == size):
            self._archive.move(file_id, self._sources[position], size, None, replace=replace)
        self._journal.advance(size)


def _source(entry: FileEntry) -> Path:
    if entry.source is None:
        raise MetadataError(f"{entry.path!r} has no 'source', the path of the file that is to be moved")
    source = Path(entry.source)
    if not source.is_absolute() or ".." in source.parts:
        raise MetadataError(f"the source {entry.source!r} of {entry.path!r} is not an absolute path without '..'")
    return source


def _read_document(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise MetadataError(f"{path} is longer than the {MAX_METADATA_BYTES} bytes allowed")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error

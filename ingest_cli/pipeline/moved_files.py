"""The files of a move, which lie on a disk: how they are checked and moved into the archive."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..bundle.content import Content, digest_of
from ..bundle.fingerprint import identity_of
from ..bundle.listed import FileEntry
from ..bundle.metadata import Document
from ..disk import HAS_SYNCFS, explained, sync_file_system
from ..errors import ArchiveError, FileRefused, MetadataError, SourceChanged, SourceMissing
from ..jobs.job import Reservation
from ..jobs.stages import MOVE_FILES
from ..mounts import mounts_of
from ..services.base import Archive, ArchiveWriter
from ..text import counted, quoted
from .progress import Progress
from .sources import SourceRules, own_file


class MovedFiles:
    """Files that lie on a disk and are to be moved into the archive, as far as ``rules`` let them be.

    Those that an earlier run has moved already are looked for there, and hashed unless they were surely durable.
    """

    stage = MOVE_FILES
    are_staged = False

    def __init__(
        self,
        document: Document,
        progress: Progress,
        archive: Archive,
        reservation: Reservation | None,
        rules: SourceRules,
    ) -> None:
        self._document, self._progress, self._archive = document, progress, archive
        self._reservation, self._rules = reservation, rules
        self._paths = [self._place(self._named(entry)) for entry in document.files]
        if len(set(self._paths)) < len(self._paths):
            raise MetadataError("two files of the metadata have the same source")
        self._hashed: list[os.stat_result | None] = []
        self.sources: list[str] | None = [str(path) for path in self._paths]

    def mounts(self) -> set[Path]:
        """Where the file systems are mounted that the sources lie on."""
        # Those of one folder lie on one of them.
        return mounts_of({path.parent for path in self._paths})

    def size(self, position: int) -> int:
        """As it is listed: where it is another one, it is refused."""
        return self._document.files[position].size

    def bytes_to_archive(self) -> int:
        """None: most sources come to the archive without being copied."""
        return 0

    def bytes_shared(self, archive: Archive) -> int:  # noqa: ARG002 - there is nothing to ask
        """None of those."""
        return 0

    def check(self) -> None:
        """Hash every source, and have it on its disk: what a loss of power takes from it was never seen as right."""
        for position, entry in enumerate(self._document.files):
            if self._is_moved(position):
                self._hashed.append(None)
            else:
                with self._content(position, self._progress.checking) as content:
                    content.verify()
                    self._hashed.append(os.fstat(content.descriptor))
                    if not HAS_SYNCFS:
                        os.fsync(content.descriptor)
            self._progress.checked(entry.size)
        self._refuse_archived()
        folders = {found.st_dev: path.parent for found, path in zip(self._hashed, self._paths, strict=True) if found}
        for folder in folders.values():
            sync_file_system(folder)

    def set_aside(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Nothing is: they are hashed where they lie, and not copied."""

    def store(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Move it, unless an earlier run did."""
        hashed, entry = self._hashed[position], self._document.files[position]
        if hashed is None or writer.holds(file_id, hashed) or self._is_copied(position, file_id):
            return
        with self._content(position, self._progress.storing) as content:
            found = os.fstat(content.descriptor)
            if (found.st_ctime_ns, *identity_of(found)) != (hashed.st_ctime_ns, *identity_of(hashed)):
                raise self._changed(position)
            writer.move(file_id, self._paths[position], entry.size, content)

    def require_unchanged(self, writer: ArchiveWriter, ids: range) -> None:
        """Raise where what was moved was written to, under whatever name it has."""
        for position, hashed in enumerate(self._hashed):
            if hashed is not None and writer.was_changed(ids[position], hashed):
                raise self._changed(position)

    def release(self, writer: ArchiveWriter, ids: range) -> None:
        """Remove the sources."""
        for position, file_id in enumerate(ids):
            self._progress.storing(0)  # asks whether the run still has its lease
            hashed = self._hashed[position] if self._hashed else None
            try:
                if hashed is None and os.path.lexists(self._paths[position]):
                    entry = self._document.files[position]
                    require_unmodified(self._archive, file_id, self._paths[position], entry.hashtype, entry.hashsum)
                writer.release(file_id, self._paths[position], hashed)
            except ArchiveError as error:
                self._progress.warn(str(error))
        # Who is told that the job is complete finds no source again after a loss of power.
        writer.flush()

    def _named(self, entry: FileEntry) -> Path:
        return _source(entry)

    def _place(self, source: Path) -> Path:
        return self._rules.place_of(source)

    def _refuse_archived(self) -> None:
        """Raise SourceRefused where a source is another name of a file that the archive holds, which is read-only."""
        linked = {
            (found.st_dev, found.st_ino): path
            for found, path in zip(self._hashed, self._paths, strict=True)
            if found is not None and found.st_nlink > 1 and not found.st_mode & 0o222
        }
        ids = self._reservation.ids if self._reservation is not None else range(0)
        for inode in self._archive.own_files(linked, ids) if linked else ():
            raise own_file(linked[inode])

    def _is_moved(self, position: int) -> bool:
        """Whether an earlier run moved it: its size may have survived a loss of power that its bytes did not, and
        until it was let go of it could be written to under its old name."""
        if self._reservation is None or os.path.lexists(self._paths[position]):
            return False
        entry, file_id = self._document.files[position], self._reservation.ids[position]
        if self._archive.stat(file_id) != entry.size:
            return False
        found = digest_of(self._archive.read(file_id), entry.hashtype)
        if found != entry.hashsum:
            raise FileRefused(f"{entry.path!r} was moved by an earlier run, but hashes to {entry.hashtype} {found}")
        return True

    def _is_copied(self, position: int, file_id: int) -> bool:
        """Whether an earlier run noted a copy of it as durable."""
        if self._reservation is None or position >= self._reservation.stored:
            return False
        entry = self._document.files[position]
        is_whole = self._archive.stat(file_id) == entry.size
        return is_whole and digest_of(self._archive.read(file_id), entry.hashtype) == entry.hashsum

    def _changed(self, position: int) -> SourceChanged:
        return SourceChanged(f"the source {self._paths[position]} was changed after it was hashed")

    @contextmanager
    def _content(self, position: int, observe: Callable[[int], None]) -> Iterator[Content]:
        entry, source = self._document.files[position], self._paths[position]
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            message = f"cannot read the source {source} of {entry.path!r}"
            raise explained(error, message, SourceMissing, source) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SourceMissing(f"the source {source} of {entry.path!r} is not a regular file")
            self._rules.require_open(source, descriptor, found)
            if found.st_size != entry.size:
                raise SourceMissing(f"the source {source} is {counted(found.st_size, 'byte')} long, not {entry.size:,}")
            yield Content(
                name=str(source),
                descriptor=descriptor,
                offset=0,
                size=entry.size,
                mtime=found.st_mtime,
                hashtype=entry.hashtype,
                hashsum=entry.hashsum,
                observe=observe,
                piece=self._progress.piece,
            )
        finally:
            # Nothing was written: no fault of closing it is one of the job.
            with suppress(OSError):
                os.close(descriptor)


class RemoteFiles(MovedFiles):
    """Files that only the archive sees: of their sources nothing but the name is known."""

    def _place(self, source: Path) -> Path:
        self._rules.require_name(source)
        return source

    def mounts(self) -> set[Path]:
        """They are not of this machine."""
        return set()

    def check(self) -> None:
        """Warn that nothing can be checked, and count the files as checked."""
        self._progress.warn("the files are not visible from here: their hashes are not checked")
        for entry in self._document.files:
            self._progress.checked(entry.size)

    def store(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Have the archive move it, unless an earlier run did."""
        size = self._document.files[position].size
        # Only where an earlier run may have moved it: there a second move finds no source.
        if self._reservation is None or self._archive.stat(file_id) != size:
            writer.move(file_id, self._paths[position], size, None)


class StoredObjects(RemoteFiles):
    """Objects of the storage that has the archive, which copies them itself: each as ``/BUCKET/KEY``."""

    def _named(self, entry: FileEntry) -> Path:
        bucket, _, key = (entry.source or "").removeprefix("s3://").partition("/")
        source = Path(f"/{bucket}/{key}")
        if f"s3:/{source}" != entry.source or not bucket or not key or ".." in source.parts:
            raise MetadataError(f"the source {quoted(entry.source or '')} of {entry.path!r} is not s3://BUCKET/KEY")
        return source

    def _place(self, source: Path) -> Path:
        self._rules.require_of_a_person(source)
        return source


def require_unmodified(archive: Archive, file_id: int, source: Path, hashtype: str, hashsum: str) -> None:
    """Raise ArchiveError where what a run before this one moved from ``source`` is not what it hashed any more."""
    if digest_of(archive.read(file_id), hashtype) != hashsum:
        raise ArchiveError(f"{source} was modified after it was moved, so it is kept; see 'ingest verify'")


def _source(entry: FileEntry) -> Path:
    if entry.source is None:
        raise MetadataError(f"{entry.path!r} has no 'source', the path of the file to move")
    source = Path(entry.source)
    if not source.is_absolute() or ".." in source.parts:
        raise MetadataError(f"the source {entry.source!r} of {entry.path!r} is not an absolute path without '..'")
    return source

"""The files of a job: how they are checked, stored and taken back, be they in a bundle or on a disk."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from .bundle import DATA_FOLDER, METADATA_NAME, Bundle
from .content import Content
from .errors import FileRefused, MetadataError, SourceMissing
from .journal import INGEST_FILES, MOVE_FILES, Journal
from .metadata import Document, FileEntry
from .services.base import Archive
from .tar import Member


class JobFiles(Protocol):
    """The files of a job. Positions are the document's."""

    stage: str
    bytes_to_archive: int

    def check(self) -> None:
        """Raise where a file is missing, or its bytes are not those that the document records."""

    def store(self, position: int, file_id: int, *, replace: bool) -> None:
        """Have the archive take one; ``replace`` says that an earlier run may have stored it already."""

    def take_back(self, position: int, file_id: int) -> None:
        """Undo ``store``."""


def find_member(bundle: Bundle, entry: FileEntry) -> Member:
    """The listed file in the bundle. Raises FileRefused where it is not there, or not of the size that is recorded."""
    member = bundle.find(entry.path)
    if member is None:
        raise FileRefused(f"the metadata lists {entry.path!r}, but the bundle does not hold it")
    if member.size != entry.size:
        raise FileRefused(f"{entry.path!r} is {member.size} bytes long, but the metadata says {entry.size}")
    return member


def content_of(bundle: Bundle, member: Member, entry: FileEntry, observe: Callable[[int], None]) -> Content:
    """The bytes of the member, which are to hash as ``entry`` says."""
    return Content(
        name=entry.path,
        descriptor=bundle.descriptor,
        offset=member.offset,
        size=member.size,
        mtime=member.mtime,
        hashtype=entry.hashtype,
        hashsum=entry.hashsum,
        observe=observe,
    )


def unlisted(bundle: Bundle, members: Iterable[Member]) -> Iterator[str]:
    """A warning for each file of the bundle that is not one of the listed ``members``."""
    listed = {member.name for member in members}
    for name in bundle.members:
        if name not in listed and name != METADATA_NAME:
            hint = "" if name.startswith(DATA_FOLDER) else f", and is not under {DATA_FOLDER}"
            yield f"{name!r} is in the bundle but not in the metadata{hint}: it is not archived"


class BundleFiles:
    """Those in a bundle."""

    stage = INGEST_FILES

    def __init__(self, bundle: Bundle, document: Document, archive: Archive, journal: Journal) -> None:
        self._bundle, self._document, self._archive, self._journal = bundle, document, archive, journal
        self._members: list[Member] = []
        self.bytes_to_archive = document.total_bytes

    def check(self) -> None:
        """Find every listed file in the bundle, with its size and its hash."""
        self._members = [find_member(self._bundle, entry) for entry in self._document.files]
        for warning in unlisted(self._bundle, self._members):
            self._journal.warn(warning)
        for position, entry in enumerate(self._document.files):
            self._content(position).verify()
            self._journal.file_done(entry.size)

    def store(self, position: int, file_id: int, *, replace: bool) -> None:
        """Send the bytes."""
        self._archive.put(file_id, self._content(position), replace=replace)

    def take_back(self, position: int, file_id: int) -> None:
        """Delete it."""
        self._archive.delete(file_id)

    def _content(self, position: int) -> Content:
        entry, member = self._document.files[position], self._members[position]
        return content_of(self._bundle, member, entry, self._journal.advance)


class MovedFiles:
    """Those that lie on a disk and are to be moved into the archive."""

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
            if not self._is_moved(position):
                with self._content(position) as content:
                    content.verify()
            self._journal.file_done(entry.size)

    def store(self, position: int, file_id: int, *, replace: bool) -> None:
        """Move it, unless an earlier run did."""
        if self._is_moved(position):
            return
        with self._content(position) as content:
            size = self._document.files[position].size
            self._archive.move(file_id, self._sources[position], size, content, replace=replace)

    def take_back(self, position: int, file_id: int) -> None:
        """Move it back to its source."""
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
            # Nothing was written: no fault of closing it is one of the job, whose file may have been moved by now.
            with suppress(OSError):
                os.close(descriptor)


class RemoteFiles(MovedFiles):
    """Files that only the archive sees."""

    def check(self) -> None:
        """Nothing can be looked at: say so, and count the files as looked at."""
        self._journal.warn("the files are not visible from here: their hashes are not checked")
        for entry in self._document.files:
            self._journal.file_done(entry.size)

    def store(self, position: int, file_id: int, *, replace: bool) -> None:
        """Have the archive move it, unless an earlier run did."""
        size = self._document.files[position].size
        # Only where an earlier run may have moved it: there a second move finds no source.
        if not (replace and self._archive.stat(file_id) == size):
            self._archive.move(file_id, self._sources[position], size, None, replace=replace)


def _source(entry: FileEntry) -> Path:
    if entry.source is None:
        raise MetadataError(f"{entry.path!r} has no 'source', the path of the file that is to be moved")
    source = Path(entry.source)
    if not source.is_absolute() or ".." in source.parts:
        raise MetadataError(f"the source {entry.source!r} of {entry.path!r} is not an absolute path without '..'")
    return source

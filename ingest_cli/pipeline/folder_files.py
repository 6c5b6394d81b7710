"""The files of a folder, which are read where they lie: how they are hashed, checked and stored."""

from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..bundle.compact import CompactList
from ..bundle.content import Content, shareable_bytes
from ..bundle.entries import Entries
from ..bundle.folder import Folder, FolderRequest
from ..bundle.metadata import Document
from ..bundle.reader import DATA_FOLDER
from ..bundle.records import Record, seconds_of
from ..bundle.tree import Entry
from ..errors import FileRefused
from ..jobs.stages import INGEST_FILES
from ..mounts import mounts_of
from ..services.base import Archive, ArchiveWriter, Catalog
from .bundle_files import KEPT_BYTES, KEPT_BYTES_A_FILE
from .progress import Progress

# Of what is kept, and too small to be shared with the archive, the file is not looked at any more.
NOT_OPEN = -1

Known = set[tuple[str, int, str, str]]


class FolderFiles:
    """The files of ``folder`` that the catalogue has not from the jobs that the request is beyond.

    They are hashed at once: ``document`` lists them, and is None where there are none. The bytes of small ones are kept
    until they are stored; large ones are read again, and hashed on their way, so that what is stored is what is listed.
    Raises FilesChanged where one of the folder is not as it was found.
    """

    stage = INGEST_FILES
    sources: list[str] | None = None
    are_staged = False

    def __init__(
        self, folder: Folder, request: FolderRequest, catalog: Catalog, progress: Progress, *, at_once: int = 1
    ) -> None:
        self._folder, self._progress = folder, progress
        self._room, self._chunk, self._kept = KEPT_BYTES // at_once, b"", dict[int, bytes]()
        known = _known(request.beyond, catalog)
        new, records = array("i"), CompactList[Record]()
        progress.plan(len(folder.files), folder.total_bytes)
        for position, record in enumerate(folder.hashed(self._take)):
            progress.checked(record["size"])
            if _key(record) not in known:
                self._keep(len(new), record["size"])
                new.append(position)
                records.append(record)
        self._entries = folder.files.chosen(new)
        self.document: Document | None = folder.document(records) if new else None

    @property
    def count_known(self) -> int:
        """How many files of the folder the catalogue has already."""
        return len(self._folder.files) - len(self._entries)

    def mounts(self) -> set[Path]:
        """Where the file systems are mounted that the files lie on: more than one may lie in a folder."""
        return mounts_of({entry.path.parent for entry in self._entries})

    def size(self, position: int) -> int:
        """As it was found in the folder."""
        return self._entries[position].found.st_size

    def bytes_to_archive(self) -> int:
        """Their sizes."""
        return sum(entry.found.st_size for entry in self._entries)

    def bytes_shared(self, archive: Archive) -> int:
        """What of large files fills blocks of a disk that can share them with the archive."""
        shareable, examples = Counter[int](), dict[int, Entry]()
        for entry in self._entries:
            if length := shareable_bytes(0, entry.found.st_size):
                shareable[entry.found.st_dev] += length
                examples[entry.found.st_dev] = entry
        return sum(shareable[device] for device, entry in examples.items() if self._is_shared(entry, archive))

    def check(self) -> None:
        """See that all are still what was hashed, before the first is stored."""
        for entry in self._entries:
            self._folder.require_unchanged(entry)
            self._progress.checked(entry.found.st_size)

    def set_aside(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Nothing is: they were read before the document was made."""

    def store(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Send the bytes that were kept, or read and hash them again on their way."""
        entry, kept = self._entries[position], self._kept.get(position)
        if kept is not None:
            writer.put(file_id, self._content(position, entry, NOT_OPEN, kept))
            return
        with self._folder.open(entry) as file:
            file.require_unchanged()
            try:
                writer.put(file_id, self._content(position, entry, file.descriptor))
            except FileRefused:
                file.require_unchanged()  # which says more plainly what has happened
                raise

    def require_unchanged(self, writer: ArchiveWriter, ids: range) -> None:
        """What was stored is what was hashed."""

    def release(self, writer: ArchiveWriter, ids: range) -> None:
        """The folder stays as it is."""

    def _take(self, chunk: bytes) -> None:
        self._progress.checking(len(chunk))
        self._chunk = chunk

    def _keep(self, position: int, size: int) -> None:
        """Keep what was just read of a file that is so small that it came in one chunk, while there is room."""
        needed = size + KEPT_BYTES_A_FILE
        if needed <= self._room and not shareable_bytes(0, size):
            self._room -= needed
            self._kept[position] = self._chunk if size else b""

    def _content(self, position: int, entry: Entry, descriptor: int, kept: bytes | None = None) -> Content:
        assert self.document is not None
        listed = self.document.files[position]
        return Content(
            name=entry.location,
            descriptor=descriptor,
            offset=0,
            size=listed.size,
            mtime=seconds_of(entry),
            hashtype=listed.hashtype,
            hashsum=listed.hashsum,
            observe=self._progress.storing,
            piece=self._progress.piece,
            kept=None if kept is None else [kept],
        )

    def _is_shared(self, entry: Entry, archive: Archive) -> bool:
        with self._folder.open(entry) as content:
            return archive.shares(content.descriptor)


def known_files(folder: Folder, jobs: Iterable[int], catalog: Catalog) -> Entries:
    """The files of the folder that the catalogue has from these jobs. Only those that look so are read."""
    known = _known(jobs, catalog)
    look_so = {(path, size) for path, size, _, _ in known}
    files = folder.files
    likely = files.chosen(
        position for position, file in enumerate(files) if (f"{DATA_FOLDER}{file.name}", file.found.st_size) in look_so
    )
    records = folder.hashed(lambda _: None, likely)
    return likely.chosen(position for position, record in enumerate(records) if _key(record) in known)


def _known(jobs: Iterable[int], catalog: Catalog) -> Known:
    """What the catalogue has of the jobs."""
    return {_key(file.as_record()) for job_id in jobs for file in catalog.files(job_id)}


def _key(record: Record) -> tuple[str, int, str, str]:
    return f"{record['subdir']}/{record['name']}", record["size"], record["hashtype"], record["hashsum"]

"""The files of a bundle: how they are checked and stored."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path

from ..bundle.content import CHUNK_BYTES, Content, require_hash, shareable_bytes, truncated
from ..bundle.metadata import Document, FileEntry
from ..bundle.reader import DATA_FOLDER, METADATA_NAME, Bundle
from ..bundle.tar import Member
from ..bundle.window import Window
from ..errors import FileRefused
from ..jobs.stages import INGEST_FILES
from ..services.base import Archive, ArchiveWriter
from ..text import MOST_LISTED, counted, quoted
from .progress import Progress

# Bundles whose files are no longer together are read once: what was checked is kept in memory until it is stored.
KEPT_BYTES = 64 << 20
# What a file takes there besides its bytes.
KEPT_BYTES_A_FILE = 512


def find_member(bundle: Bundle, entry: FileEntry) -> Member:
    """The listed file in the bundle. Raises FileRefused where it is not there, or not of the size that is recorded."""
    member = bundle.find(entry.path)
    if member is None:
        raise FileRefused(f"the metadata lists {quoted(entry.path)}, but it is not in the bundle")
    if member.size != entry.size:
        raise FileRefused(
            f"{quoted(entry.path)} is {counted(member.size, 'byte')} long, but the metadata says {entry.size:,}"
        )
    return member


def content_of(
    bundle: Bundle,
    member: Member,
    entry: FileEntry,
    observe: Callable[[int], None],
    piece: int = CHUNK_BYTES,
) -> Content:
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
        piece=piece,
    )


def warnings_about(bundle: Bundle, members: Sequence[Member]) -> Iterator[str]:
    """What does not fail a job: files of the bundle that are not the listed ``members``, and odd times of those."""
    listed = {member.name for member in members}
    unlisted = [name for name in bundle.members if name not in listed and name != METADATA_NAME]
    yield from _first(map(_unlisted, unlisted), len(unlisted), "in the bundle but not in the metadata")
    odd = [member for member in members if member.odd_time is not None]
    yield from _first(map(_of_odd_time, odd), len(odd), "without a usable modification time")


def _first(warnings: Iterable[str], count: int, what: str) -> Iterator[str]:
    """The first of so many warnings, and one about the others together."""
    yield from islice(warnings, MOST_LISTED)
    if count > MOST_LISTED:
        yield f"and {counted(count - MOST_LISTED, 'more file')} {what}"


def _unlisted(name: str) -> str:
    hint = "" if name.startswith(DATA_FOLDER) else f", and is not under {DATA_FOLDER}"
    return f"{quoted(name)} is in the bundle but not in the metadata{hint}: it is not archived"


def _of_odd_time(member: Member) -> str:
    given = f"{quoted(member.odd_time)} is not one" if member.odd_time else "there is none"
    kept = datetime.fromtimestamp(int(member.mtime), UTC).date()
    return f"{quoted(member.name)} has no usable modification time in the tar ({given}): it is stored as of {kept}"


class BundleFiles:
    """The files in a bundle. They are read once where they can be kept in memory, or where the archive ``stages``."""

    stage = INGEST_FILES
    sources: list[str] | None = None

    def __init__(self, bundle: Bundle, document: Document, progress: Progress, *, stages: bool) -> None:
        self._bundle, self._document, self._progress = bundle, document, progress
        self._window = Window(bundle.descriptor, progress.piece)
        self._stages = stages
        self._listed: list[tuple[str, str, str]] = []
        self._kept: dict[int, Content] = {}

    def mounts(self) -> set[Path]:
        """A bundle's own is known by its job."""
        return set()

    def size(self, position: int) -> int:
        """As it is in the tar."""
        return self._members[position].size

    def bytes_to_archive(self) -> int:
        """Their sizes, which no document can make larger than the bundle's own."""
        return sum(member.size for member in self._members)

    def bytes_shared(self, archive: Archive) -> int:
        """What of large files fills blocks of the bundle's disk, where that is the archive's too and can share them."""
        shareable = sum(shareable_bytes(member.offset, member.size) for member in self._members)
        return shareable if shareable and archive.shares(self._bundle.descriptor) else 0

    def check(self) -> None:
        """Find every listed file in the bundle, with its size and its hash."""
        for warning in warnings_about(self._bundle, self._members):
            self._progress.warn(warning)
        if self._fit_in_memory:
            self._keep_all()
        elif not self._stages:
            for position, member in enumerate(self._members):
                self._content(position, self._progress.checking).verify()
                self._progress.checked(member.size)

    @property
    def are_staged(self) -> bool:
        """Whether they are too large to be kept, and the archive can be given them before they are checked."""
        return self._stages and not self._fit_in_memory

    def set_aside(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Send the bytes, which are hashed on their way."""
        writer.stage(file_id, self._content(position, self._progress.staging))

    def store(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Store what is staged; else send the bytes that were kept, or read and hash them again on their way."""
        if self.are_staged:
            writer.place(file_id)
        else:
            writer.put(file_id, self._kept.get(position) or self._content(position, self._progress.storing))

    def require_unchanged(self, writer: ArchiveWriter, ids: range) -> None:
        """What was stored is what was hashed."""

    def release(self, writer: ArchiveWriter, ids: range) -> None:
        """The bundle stays where it is."""

    @cached_property
    def _members(self) -> list[Member]:
        """The listed files, in the document's order. Of as many as may be kept, what is listed of them is noted: it
        takes some time to go through a document once more."""
        members, left = [], KEPT_BYTES
        for entry in self._document.files:
            members.append(member := find_member(self._bundle, entry))
            left -= member.size + KEPT_BYTES_A_FILE
            if left >= 0:
                self._listed.append((entry.path, entry.hashtype, entry.hashsum))
        return members

    @cached_property
    def _fit_in_memory(self) -> bool:
        return len(self._members) == len(self._listed)

    def _keep_all(self) -> None:
        """Read and hash them in the order of the tar, of which then much is read at once."""
        for position in sorted(range(len(self._members)), key=lambda position: self._members[position].offset):
            self._kept[position] = self._read_whole(self._members[position], *self._listed[position])

    def _read_whole(self, member: Member, name: str, hashtype: str, hashsum: str) -> Content:
        """A file of which the bytes are kept, which are those that the document records."""
        digest, pieces, left = hashlib.new(hashtype, usedforsecurity=False), [], member.size
        while left:
            piece = self._window.read(member.offset + member.size - left, min(left, self._progress.piece))
            if not piece:
                raise truncated(name)
            digest.update(piece)
            pieces.append(piece)
            left -= len(piece)
            if left:
                self._progress.checking(len(piece))
        require_hash(name, hashtype, digest.hexdigest(), hashsum)
        self._progress.checked_to_end(len(pieces[-1]) if pieces else 0, member.size)
        return Content(
            name,
            self._bundle.descriptor,
            member.offset,
            member.size,
            member.mtime,
            hashtype,
            hashsum,
            observe=self._progress.storing,
            kept=pieces,
        )

    def _content(self, position: int, observe: Callable[[int], None]) -> Content:
        member, entry = self._members[position], self._document.files[position]
        return content_of(self._bundle, member, entry, observe, self._progress.piece)

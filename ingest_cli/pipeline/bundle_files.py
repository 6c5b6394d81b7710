"""The files of a bundle: how they are checked and stored."""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from itertools import compress, count, islice
from pathlib import Path

from ..bundle.content import CHUNK_BYTES, Content, require_hash, shareable_bytes, truncated
from ..bundle.listed import FileEntry
from ..bundle.metadata import Document
from ..bundle.reader import DATA_FOLDER, METADATA_NAME, Bundle
from ..bundle.tar import Member
from ..bundle.window import Window
from ..errors import FileRefused
from ..in_threads import done_in_threads, pay_for
from ..jobs.stages import INGEST_FILES
from ..meter import NOBODY, Meter
from ..services.base import Archive, ArchiveWriter
from ..text import MOST_LISTED, counted, quoted
from .progress import Progress

# Bundles whose files are no longer together are read once: what was checked is kept in memory until it is stored. Those
# that a process runs at once share that much.
KEPT_BYTES = 64 << 20
# What a file takes there besides its bytes.
KEPT_BYTES_A_FILE = 512


def find_member(bundle: Bundle, entry: FileEntry) -> Member:
    """The listed file in the bundle. Raises FileRefused where it is not there, or not of the size that is recorded."""
    return bundle.members.at(find_position(bundle, entry))


def find_position(bundle: Bundle, entry: FileEntry) -> int:
    """The position of the listed file among the bundle's members. Raises as `find_member` does."""
    position = bundle.position(entry.path)
    if position is None:
        raise FileRefused(f"the metadata lists {quoted(entry.path)}, but it is not in the bundle")
    size = bundle.members.size(position)
    if size != entry.size:
        raise FileRefused(f"{quoted(entry.path)} is {counted(size, 'byte')} long, but the metadata says {entry.size:,}")
    return position


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


def warnings_about(bundle: Bundle, listed: Iterable[int]) -> Iterator[str]:
    """What does not fail a job: files of the bundle that are not at the ``listed`` positions, and odd times of those
    that are."""
    members = bundle.members
    odd: list[int] = []
    is_unlisted = bytearray(b"\1") * len(members)
    for position in listed:
        is_unlisted[position] = False
        if members.has_odd_time(position):
            odd.append(position)
    document = members.position(METADATA_NAME)
    if document is not None:
        is_unlisted[document] = False
    unlisted = (_unlisted(members.at(position).name) for position in compress(count(), is_unlisted))
    yield from _first(unlisted, sum(is_unlisted), "in the bundle but not in the metadata")
    of_odd_time = (_of_odd_time(members.at(position)) for position in odd)
    yield from _first(of_odd_time, len(odd), "without a usable modification time")


def _first(warnings: Iterable[str], number: int, what: str) -> Iterator[str]:
    """The first of so many warnings, and one about the others together."""
    yield from islice(warnings, MOST_LISTED)
    if number > MOST_LISTED:
        yield f"and {counted(number - MOST_LISTED, 'more file')} {what}"


def _unlisted(name: str) -> str:
    hint = "" if name.startswith(DATA_FOLDER) else f", and is not under {DATA_FOLDER}"
    return f"{quoted(name)} is in the bundle but not in the metadata{hint}: it is not archived"


def _of_odd_time(member: Member) -> str:
    given = f"{quoted(member.odd_time)} is not one" if member.odd_time else "there is none"
    kept = datetime.fromtimestamp(int(member.mtime), UTC).date()
    return f"{quoted(member.name)} has no usable modification time in the tar ({given}): it is stored as of {kept}"


class BundleFiles:
    """The files in a bundle, which is one of so many that are run ``at_once``. They are read once where they can be
    kept in memory, or where the archive ``stages``."""

    stage = INGEST_FILES
    sources: list[str] | None = None

    def __init__(
        self, bundle: Bundle, document: Document, progress: Progress, *, stages: bool, at_once: int = 1
    ) -> None:
        self._bundle, self._document, self._progress = bundle, document, progress
        self._window = Window(bundle.descriptor, progress.piece)
        self._stages, self._kept_bytes = stages, KEPT_BYTES // at_once
        self._listed: list[tuple[str, str, str]] = []
        self._kept: dict[int, Content] = {}

    def mounts(self) -> set[Path]:
        """A bundle's own is known by its job."""
        return set()

    def size(self, position: int) -> int:
        """As it is in the tar."""
        return self._bundle.members.size(self._positions[position])

    def bytes_to_archive(self) -> int:
        """Their sizes, which no document can make larger than the bundle's own."""
        return sum(map(self._bundle.members.size, self._positions))

    def bytes_shared(self, archive: Archive) -> int:
        """What of large files fills blocks of the bundle's disk, where that is the archive's too and can share them."""
        shareable = sum(shareable_bytes(member.offset, member.size) for member in self._members())
        return shareable if shareable and archive.shares(self._bundle.descriptor) else 0

    def check(self) -> None:
        """Find every listed file in the bundle, with its size and its hash."""
        for warning in warnings_about(self._bundle, self._positions):
            self._progress.warn(warning)
        if self._fit_in_memory:
            self._keep_all()
        elif not self._stages:
            positions = range(len(self._positions))
            threads = os.cpu_count() or 1 if pay_for(len(positions), self.bytes_to_archive()) else 1
            for position, _ in done_in_threads(self._verify, positions, self.size, NOBODY, threads):
                self._progress.checked(self.size(position))

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
    def _positions(self) -> "array[int]":
        """Where among the bundle's members the listed files are, in the document's order. Of as many as may be kept,
        what is listed of them is noted: to go through a document once more takes its time."""
        positions, left = array("i"), self._kept_bytes
        for entry in self._document.files:
            position = find_position(self._bundle, entry)
            positions.append(position)
            left -= entry.size + KEPT_BYTES_A_FILE
            if left >= 0:
                self._listed.append((entry.path, entry.hashtype, entry.hashsum))
        return positions

    def _members(self) -> Iterator[Member]:
        """The listed files, in the document's order."""
        return map(self._bundle.members.at, self._positions)

    @cached_property
    def _fit_in_memory(self) -> bool:
        return len(self._positions) == len(self._listed)

    def _keep_all(self) -> None:
        """Read and hash them in the order of the tar, of which then much is read at once."""
        for position in sorted(range(len(self._positions)), key=self._positions.__getitem__):
            member = self._bundle.members.at(self._positions[position])
            self._kept[position] = self._read_whole(member, *self._listed[position])

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

    def _verify(self, position: int, _: Meter) -> None:
        """Compare what a file hashes to, which may be known since it arrived, with what the document records."""
        member, entry = self._found(position)
        found = self._bundle.sums.find(entry.hashtype, member.offset, member.size)
        if found is None:
            self._content(position, self._progress.checking).verify()
        else:
            require_hash(entry.path, entry.hashtype, found, entry.hashsum)

    def _content(self, position: int, observe: Callable[[int], None]) -> Content:
        return content_of(self._bundle, *self._found(position), observe, self._progress.piece)

    def _found(self, position: int) -> tuple[Member, FileEntry]:
        return self._bundle.members.at(self._positions[position]), self._document.files[position]

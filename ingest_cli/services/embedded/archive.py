"""The archive as a folder of this machine."""

import math
import os
import stat
import time
from array import array
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from rich.filesize import decimal

from ...bundle.content import CHUNK_BYTES
from ...disk import RESERVE_BYTES, existing, free_bytes, require_writable, sync_file_system
from ...errors import ArchiveError, ResourceUnavailable
from ...mounts import on_network
from ..base import ArchivedFile, Memory
from .cloning import can_clone
from .layout import RUNS_FOLDER, id_to_path, path_to_id
from .mark import MARK_NAME, Mark
from .noted import is_usable, new_digest, noted
from .writer import EmbeddedWriter

# How long its mark was seen before it is looked for again: with each of many files that would take its time.
LOOK_SECONDS = 1.0
# So many files of a folder are looked for one by one.
FEW = 4


class EmbeddedArchive:
    """Files under ``root``, read-only, each with the modification time it had in the bundle, written by up to
    ``transfers`` threads.

    The folder is made when something is to be stored, unless ``memory`` says that there was one: its disk is away.
    ``sync`` writes a file system back to its disk. It ``notes`` a second digest of each file, where that can be done.
    """

    is_exclusive = False
    stages = True

    def __init__(
        self,
        root: Path,
        memory: Memory | None = None,
        sync: Callable[[Path], None] = sync_file_system,
        *,
        transfers: int = 1,
        notes: bool = False,
    ) -> None:
        self._notes = notes
        self.transfers = transfers
        self._root, self._mark, self._sync = root, Mark(root, memory), sync
        self._seen = -math.inf

    @cached_property
    def waits(self) -> bool:
        """Whether a server is asked for each file."""
        return on_network(self._root)

    def ping(self) -> str:
        """Say where the archive is, having seen that it can be written."""
        if self._mark.is_to_be_made:
            self._require_writable()
            return f"{self._root}: not there yet"
        self._mark.require()
        self._require_writable()
        return str(self._root)

    def close(self) -> None:
        """Nothing is open."""

    def free_bytes(self) -> int:
        """The room on the disk, for an account like ours."""
        with self._mark.guarding("look at"):
            return free_bytes(existing(self._root))

    def require_room(self, total_bytes: int) -> None:
        """Raise ResourceUnavailable where the disk has no room, ArchiveError where the folder cannot be written."""
        self._mark.make()
        self._require_writable()
        free = self.free_bytes()
        if free < total_bytes + RESERVE_BYTES:
            room = f"{decimal(free)} free, {decimal(total_bytes)} to store, {decimal(RESERVE_BYTES)} in reserve"
            raise ResourceUnavailable(f"not enough space in the archive {self._root}: {room}")

    def shares(self, descriptor: int) -> bool:
        """Whether they lie on one file system that can do that."""
        with self._mark.guarding("look at"):
            return can_clone(descriptor, existing(self._root))

    def require_free(self, ids: range) -> None:
        """Raise ArchiveError where a file is stored under one of ``ids``."""
        for file_id, place in _standing(self._root, ids):
            raise ArchiveError(
                f"the archive already holds file {file_id} ({place}), which belongs to another job:"
                " does the id store belong to this archive?"
            )

    def writer(
        self, ids: range, fence: int, *, resumed: bool, require: Callable[[], None] | None = None
    ) -> EmbeddedWriter:
        """The writer of this run; earlier runs change nothing from now on."""
        self._mark.make()
        if ids:
            self._mark.note()
        with self._mark.guarding("prepare"):
            return EmbeddedWriter(self._mark, ids, fence, self._sync, notes=self._notes)

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes; None where the archive holds no such file."""
        with self._mark.guarding(f"check file {file_id} in"):
            self._require_there()
            try:
                found = os.lstat(self._path(file_id))
            except FileNotFoundError:
                self._mark.require()
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, file_id: int, start: int = 0) -> Generator[bytes, None, None]:
        """The stored bytes from ``start`` on, in pieces."""
        self._require_there()
        with self._mark.guarding(f"read file {file_id} from"):
            descriptor = os.open(self._path(file_id), os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield from _pieces(descriptor, start)
            finally:
                os.close(descriptor)

    def is_unchanged(self, file_id: int, observe: Callable[[int], None]) -> bool | None:
        """Whether the file is what was stored, by the digest that was noted of it; None where none was."""
        self._require_there()
        with self._mark.guarding(f"read file {file_id} from"):
            descriptor = os.open(self._path(file_id), os.O_RDONLY | os.O_CLOEXEC)
            try:
                then = noted(descriptor) if is_usable() else None
                if then is None:
                    return None
                digest = new_digest()
                for piece in _pieces(descriptor, 0):
                    digest.update(piece)
                    observe(len(piece))
            finally:
                os.close(descriptor)
        return bool(digest.digest() == then)

    def list_files(self) -> Iterator[ArchivedFile]:
        """Every file under the root, those of runs in progress too."""
        if self._mark.is_to_be_made:
            return
        self._mark.require()
        with self._mark.guarding("list"):
            root = str(self._root)
            for folder, _, names in os.walk(root, onerror=_raise):
                below = folder.removeprefix(root).lstrip("/")
                for name in names:
                    place = f"{below}/{name}" if below else name
                    if place != MARK_NAME:
                        yield _archived_file(f"{folder}/{name}", place)

    def still_holds(self, file: ArchivedFile) -> bool:
        """Whether what was listed is there now."""
        return os.path.lexists(file.location)

    def own_files(self, inodes: Collection[tuple[int, int]], ids: range) -> set[tuple[int, int]]:
        """Those of ``inodes`` that lie in the folder, but for those of ``ids``; takes a look at all that it holds."""
        wanted, found = {inode for _, inode in inodes}, set()
        with self._mark.guarding("list"):
            for entry in _entries(self._root):
                # What a folder says of its files costs no look at them.
                if entry.inode() in wanted and path_to_id(entry.path.removeprefix(f"{self._root}/")) not in ids:
                    status = entry.stat(follow_symlinks=False)
                    found.add((status.st_dev, status.st_ino))
        return found & set(inodes)

    def _path(self, file_id: int) -> str:
        return f"{self._root}/{id_to_path(file_id)}"

    def _require_there(self) -> None:
        """Raise ResourceUnavailable where the site's archive is not there, or was not a moment ago."""
        now = time.monotonic()
        if now - self._seen > LOOK_SECONDS:
            self._mark.require()
            self._seen = now

    def _require_writable(self) -> None:
        with self._mark.guarding("write to"):
            require_writable(existing(self._root))


def _pieces(descriptor: int, start: int) -> Iterator[bytes]:
    # A byte more is asked for than there seems to be left: one that is short is the last, and no other is asked for.
    end, position = os.fstat(descriptor).st_size, start
    is_last = False
    while not is_last:
        wanted = min(CHUNK_BYTES, max(0, end - position) + 1)
        piece = os.pread(descriptor, wanted, position)
        position, is_last = position + len(piece), len(piece) < wanted
        if piece:
            yield piece


def _standing(root: Path, ids: range) -> Iterator[tuple[int, str]]:
    """Those of ``ids`` under which something stands, and where."""
    by_folder: dict[str, array[int]] = {}
    for file_id in ids:
        folder = id_to_path(file_id).rpartition("/")[0]
        by_folder.setdefault(folder, array("q")).append(file_id)
    for folder, file_ids in by_folder.items():
        # One look at a folder, which holds no more than some hundred files, is one at all of them.
        names = _names_in(f"{root}/{folder}") if len(file_ids) > FEW else None
        for file_id in file_ids if names is None or names else ():
            place = f"{root}/{id_to_path(file_id)}"
            if (names is None or place.rpartition("/")[2] in names) and os.path.lexists(place):
                yield file_id, place


def _names_in(folder: str) -> set[str]:
    with suppress(OSError):
        return set(os.listdir(folder))
    return set()


def _raise(error: OSError) -> None:
    # Of a folder that is gone since, nothing is left to list.
    if not isinstance(error, FileNotFoundError):
        raise error


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """All files below the archive's folder, but for those of runs in progress."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield entry
            elif entry.name != RUNS_FOLDER:
                yield from _entries(Path(entry.path))


def _archived_file(location: str, place: str) -> ArchivedFile:
    top, _, below = place.partition("/")
    if top != RUNS_FOLDER or not below:
        return ArchivedFile(location=location, file_id=path_to_id(place))
    first = below.partition("/")[0].partition(".")[0]
    return ArchivedFile(location=location, run_of=int(first) if first.isdecimal() else None)

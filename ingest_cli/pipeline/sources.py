"""Which files a move may take: none of the program's own, and over HTTP only from the folders that the site names.

A name is only the beginning: links on the way lead elsewhere, and come to be made after a name was looked at. So what
counts is the file that is open, and where the kernel says that it lies.
"""

import errno
import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

from ..bundle.fingerprint import is_text
from ..bundle.folder import own_description
from ..bundle.gather import warnings_of
from ..bundle.pack_rules import PackRules, Reason
from ..bundle.tree import Entry, Identity, walk, within
from ..disk import opened
from ..errors import SourceRefused
from ..jobs.job import Job, JobKind
from ..jobs.spool import is_received
from ..services.embedded.mark import MARK_NAME
from ..settings import Settings
from ..settings.options import MOVE_FROM
from ..text import quoted

# What this program puts beside files of others while it works: locks, and files that it writes or is about to remove.
OWN_PREFIX = ".ingest-"
# A database of SQLite, and what SQLite keeps beside it.
SUFFIXES = ("", "-wal", "-shm", "-journal")
NAMED_BY = f"[{MOVE_FROM.section}] {MOVE_FROM.key}"
NO_FOLDERS = (
    f"this server moves no files: {NAMED_BY} ({MOVE_FROM.variable}) in its configuration names the folders that it may"
    " move files from, and names none"
)
# Where the kernel says by which path a descriptor was opened, all links followed.
DESCRIPTORS = Path("/proc/self/fd")
# Of so many folders it is remembered what they are: most files of a move lie together.
MOST_FOLDERS = 10_000
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


class SourceRules:
    """Which files a move may take at a site; ``over_http`` those of one that its server received."""

    def __init__(self, settings: Settings, *, over_http: bool) -> None:
        self._allowed = _beginnings(_with_real(settings.server.move_from)) if over_http else None
        self._own = OwnFiles(settings)
        self._real = lru_cache(MOST_FOLDERS)(real)

    @classmethod
    def of(cls, job: Job, settings: Settings) -> "SourceRules":
        """The rules for a job."""
        return cls(settings, over_http=came_over_http(job))

    def require_name(self, source: Path) -> None:
        """Raise SourceRefused where its name alone says that a file may not be taken; nothing is looked at."""
        if self._allowed is not None:
            if not self._allowed:
                raise SourceRefused(NO_FOLDERS)
            if not is_text(source) or "\0" in str(source):
                raise SourceRefused(f"the source {quoted(str(source))} cannot be the path of a file")
            if ".." in source.parts or not f"{source}/".startswith(self._allowed):
                raise SourceRefused(f"the source {quoted(str(source))} is not in a folder that {NAMED_BY} names")
        if self._own.has_name(source):
            raise own_file(source)

    def require_of_a_person(self, source: Path) -> None:
        """Raise SourceRefused where the job came over HTTP: no folder that is named for that holds an object."""
        if self._allowed is not None:
            raise SourceRefused(f"the source {quoted(f's3:/{source}')} is not in a folder that {NAMED_BY} names")

    def place_of(self, source: Path) -> Path:
        """Where a source really lies, over HTTP: links are followed once, here. Raises SourceRefused."""
        self.require_name(source)
        if self._allowed is None:
            return source
        place = self._real(source.parent) / source.name
        self.require_name(place)
        return place

    def require_open(self, source: Path, descriptor: int, found: os.stat_result) -> None:
        """Raise SourceRefused where the open file is not one that may be taken, whatever its name says."""
        place = _place_of(descriptor, source, found)
        if self._allowed is not None and place.parent != source.parent:
            raise SourceRefused(f"the source {quoted(str(source))} lies elsewhere now: a link leads there")
        if self._own.has(place, found):
            raise own_file(source)


class OwnFiles:
    """The files that this program works with at a site, under whatever name."""

    def __init__(self, settings: Settings) -> None:
        places = (settings.database, settings.unique_id, settings.catalog)
        policy = [settings.policy] if isinstance(settings.policy, Path) else []
        archive = [settings.archive] if isinstance(settings.archive, Path) else []
        self._spool = settings.spool
        self._databases = _with_real([place for place in places if isinstance(place, Path)])
        self._files = _with_real([*_config_files(settings), *policy])
        self._folders = _with_real([settings.spool, *archive])
        self._places = {path.parent for path in (*self._databases, *self._files)}
        beside = [path.with_name(path.name + suffix) for path in self._databases for suffix in SUFFIXES]
        marks = [folder / MARK_NAME for folder in archive]
        self._inodes = _inodes([*self._files, *marks, *beside])
        self._folder_inodes = _inodes(self._folders)
        self._within = _beginnings(self._folders)
        self._is_inside = lru_cache(MOST_FOLDERS)(self._holds_folder)

    def has_name(self, path: Path) -> bool:
        """Whether a file of this name is one of them."""
        folder = path.parent
        is_beside = folder in self._places and (path in self._files or self._is_of_database(path))
        return is_beside or path.name.startswith(OWN_PREFIX) or f"{folder}/".startswith(self._within)

    def has(self, place: Path, found: os.stat_result) -> bool:
        """Whether the file that was found at ``place`` is one of them: links and mounts give files further names."""
        inode = (found.st_dev, found.st_ino)
        is_known = inode in self._inodes or (found.st_nlink > 1 and inode in self._spooled)
        return is_known or self.has_name(place) or self._is_inside(place.parent)

    def holds(self, folder: Path) -> bool:
        """Whether a folder is one of them, or lies in one."""
        return self._is_inside(folder)

    @property
    def identities(self) -> set[Identity]:
        """What those are to the system that there are now."""
        locks = (
            path for database in self._databases for path in database.parent.glob(f"{glob.escape(database.name)}-*")
        )
        return {*self._inodes, *self._folder_inodes, *_inodes(locks)}

    @cached_property
    def _spooled(self) -> set[tuple[int, int]]:
        try:
            return _inodes(self._spool.iterdir())
        except OSError:
            return set()

    def _holds_folder(self, folder: Path) -> bool:
        return not self._folder_inodes.isdisjoint(_inodes([folder, *folder.parents]))

    def _is_of_database(self, path: Path) -> bool:
        """Whether it is a database, its log, or a lock beside it."""
        return any(
            path.parent == own.parent and (path.name == own.name or path.name.startswith(f"{own.name}-"))
            for own in self._databases
        )


def folders_in(folder: Path, rules: PackRules, settings: Settings) -> tuple[list[Path], list[str]]:
    """The folders in a folder that are to be ingested one by one; and in words, what else is in it.

    Raises SourceError where it cannot be read, SourceRefused where it is this program's own.
    """
    own = left_in_place(folder, settings)
    entries = [_or_empty(entry, rules, own) for entry in within(folder, rules, own)]
    left_out = [entry for entry in entries if entry.reason is not None]
    return [entry.path for entry in entries if entry.reason is None], warnings_of(left_out)


def _or_empty(entry: Entry, rules: PackRules, own: Mapping[Identity, Reason]) -> Entry:
    """The entry of a folder; with a reason to leave it out where surely no file is in it."""
    if entry.reason is not None:
        return entry
    unseen: list[str] = []
    within_it = walk(entry.path, "", rules, lambda path, _: unseen.append(path), own)
    # What is to be refused is no reason to pass a folder over.
    holds_something = any(found.reason is None or rules.refuses(found.reason) for found in within_it) or unseen
    return entry if holds_something else replace(entry, reason=Reason.EMPTY)


def left_in_place(folder: Path, settings: Settings) -> dict[Identity, Reason]:
    """What is not ingested of a folder, as it is this program's: what it works with, and what tells it of the folder.

    Raises SourceRefused where the folder itself is.
    """
    own = OwnFiles(settings)
    if own.holds(folder):
        raise SourceRefused(f"{quoted(str(folder))} is a folder of this program's own, and is not ingested")
    return {**dict.fromkeys(own.identities, Reason.OWN), **own_description([folder])}


def _config_files(settings: Settings) -> set[Path]:
    """The files that values were read from."""
    named = ("command line", "default")
    origins = (value.origin for value in settings.values if value.origin not in (*named, value.option.variable))
    return {Path(origin).absolute() for origin in origins}


def came_over_http(job: Job) -> bool:
    """Whether the server received the job's document, so that whoever may use it has named the sources."""
    return job.kind is JobKind.MOVE and job.spooled and is_received(Path(job.source))


def real(folder: Path) -> Path:
    """Where a folder lies, links followed; the path as it is where there is no such folder."""
    try:
        with opened(folder) as descriptor:
            return (DESCRIPTORS / str(descriptor)).readlink()
    except OSError as error:
        return folder if error.errno in ABSENT and DESCRIPTORS.exists() else Path(os.path.realpath(folder))


def _place_of(descriptor: int, source: Path, found: os.stat_result) -> Path:
    """Where an open file lies; an empty path where that is not known."""
    try:
        return (DESCRIPTORS / str(descriptor)).readlink()
    except OSError:
        place = Path(os.path.realpath(source))
        return place if (found.st_dev, found.st_ino) in _inodes([place]) else Path()


def own_file(source: Path) -> SourceRefused:
    """The error for a source that is a file of the program's own."""
    return SourceRefused(f"the source {quoted(str(source))} is a file of this program's own, and is not moved")


def _with_real(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Paths as they are given, and as they are once links are followed."""
    return tuple(dict.fromkeys(name for path in paths for name in (path, Path(os.path.realpath(path)))))


def _beginnings(folders: Iterable[Path]) -> tuple[str, ...]:
    """How all paths in these folders begin, and theirs with a slash: far quicker to look for than paths are."""
    return tuple(f"{str(folder).rstrip('/')}/" for folder in folders)


def _inodes(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """What the files and folders that exist are to the system."""
    inodes = set()
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        inodes.add((found.st_dev, found.st_ino))
    return inodes

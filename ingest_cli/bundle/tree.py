"""The files of a folder and of all the folders in it, for a bundle."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ..disk import explained
from ..errors import SourceError
from .fingerprint import Found
from .pack_rules import PackRules, Reason

MAX_DEPTH = 200

REASONS = {
    stat.S_IFREG: None,
    stat.S_IFDIR: None,
    stat.S_IFLNK: Reason.LINK,
    stat.S_IFIFO: Reason.FIFO,
    stat.S_IFSOCK: Reason.SOCKET,
    stat.S_IFBLK: Reason.DEVICE,
    stat.S_IFCHR: Reason.DEVICE,
}
LEADS_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}

OnError = Callable[[str, OSError], None]
Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """What was found at ``location``, and is ``name`` below ``data/``; a folder's name ends in a slash.

    ``reason`` is why it is left out; None for a file that is to be packed.
    """

    location: str
    name: str
    found: Found
    reason: Reason | None

    @property
    def path(self) -> Path:
        """Where it was found; of very many files, making it takes longer than looking at them."""
        return Path(self.location)

    @property
    def identity(self) -> Identity:
        """Its identity."""
        return identity_of(self.found)


def identity_of(found: os.stat_result | Found) -> Identity:
    """By what a file or folder is told from all others on this machine."""
    return found.st_dev, found.st_ino


# What is left out though no rule says so.
NOTHING: Mapping[Identity, Reason] = MappingProxyType({})


def walk(
    top: Path, name: str, rules: PackRules, on_error: OnError, own: Mapping[Identity, Reason] = NOTHING
) -> Iterator[Entry]:
    """The file ``top``, which is ``name`` below ``data/``, or the files in this folder; and what is left out of it.

    ``on_error`` is told what cannot be looked at, by its path. What is ``own`` is left out, whatever the rules say.
    """
    # Those that we are in. A folder stays open: whatever takes its name meanwhile, we stay in what we have seen.
    folders = [_Folder(None, None, iter([_Place(str(top), str(top), name)]))]
    try:
        while folders:
            place = next(folders[-1].places, None)
            if place is None:
                folders.pop().close()
                continue
            try:
                found = _enter(_look(place, folders[-1], rules, own), place, folders, rules)
            except OSError as error:
                # What has gone since its folder was read is not in it.
                if len(folders) == 1 or not isinstance(error, FileNotFoundError):
                    on_error(place.path, error)
            else:
                if found is not None:
                    yield found
    finally:
        for folder in folders:
            folder.close()


def within(top: Path, rules: PackRules, own: Mapping[Identity, Reason] = NOTHING) -> Iterator[Entry]:
    """What is directly in the folder ``top``: a folder has no reason to be left out, a file has none to be taken.

    Raises SourceError where that cannot be read.
    """
    try:
        children = sorted(os.listdir(top))
        folder = _Folder(None, None, iter([]))
        for child in children:
            path = str(top / child)
            entry = _look(_Place(path, path, child), folder, rules, own)
            is_loose = entry.reason is None and not stat.S_ISDIR(entry.found.st_mode)
            yield replace(entry, reason=Reason.LOOSE) if is_loose else entry
    except OSError as error:
        raise explained(error, f"cannot read {top}", SourceError, top) from error


@dataclass(frozen=True, slots=True)
class _Place:
    """What is to be looked at: its name in its folder, its path, and its name in the bundle."""

    child: str
    path: str
    name: str


@dataclass(frozen=True, slots=True)
class _Folder:
    """An open folder, and what of it is yet to come; the first is that which the top is in."""

    descriptor: int | None
    identity: Identity | None
    places: Iterator[_Place]

    def close(self) -> None:
        """Close it."""
        if self.descriptor is not None:
            os.close(self.descriptor)


def _look(place: _Place, folder: _Folder, rules: PackRules, own: Mapping[Identity, Reason]) -> Entry:
    found, reason = _find(place, folder, follow=rules.dereference)
    name = f"{place.name}/" if stat.S_ISDIR(found.st_mode) and place.name else place.name
    excluded = rules.exclusion(name) if name else None
    return Entry(place.path, name, Found.of(found), own.get(identity_of(found)) or excluded or reason)


def _find(place: _Place, folder: _Folder, *, follow: bool) -> tuple[os.stat_result, Reason | None]:
    found = os.lstat(place.child, dir_fd=folder.descriptor)
    if follow and stat.S_ISLNK(found.st_mode):
        try:
            found = os.stat(place.child, dir_fd=folder.descriptor)
        except OSError as error:
            if error.errno not in LEADS_NOWHERE:
                raise
            return found, Reason.BROKEN
    return found, REASONS.get(stat.S_IFMT(found.st_mode), Reason.OTHER)


def _enter(entry: Entry, place: _Place, folders: list[_Folder], rules: PackRules) -> Entry | None:
    """Have what is in a folder looked at next; return what is left out, or is no folder."""
    if entry.reason is not None or not stat.S_ISDIR(entry.found.st_mode):
        return entry
    if any(folder.identity == entry.identity for folder in folders):
        return replace(entry, reason=Reason.LOOP)
    if len(folders) > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, f"it is in more than {MAX_DEPTH} folders")
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if rules.dereference else os.O_NOFOLLOW)
    descriptor = os.open(place.child, flags, dir_fd=folders[-1].descriptor)
    try:
        children = sorted(os.listdir(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    if not children:
        os.close(descriptor)
        return replace(entry, reason=Reason.EMPTY)
    places = (_Place(child, f"{place.path}/{child}", f"{entry.name}{child}") for child in children)
    folders.append(_Folder(descriptor, entry.identity, places))
    return None

"""The file systems that are mounted on this machine: what a path lies on, and whether that is there now."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
    "virtiofs",
    "gpfs",
    "beegfs",
    "vboxsf",
    "gfs2",
    "ocfs2",
}
ROOT = Path("/")
MOUNTS = Path("/proc/self/mountinfo")


def on_network(path: Path) -> bool:
    """Whether ``path`` lies on a network file system (known on Linux only; False elsewhere)."""
    place, best, kind = f"{os.path.realpath(path)}/", "", ""
    for mount, type_of_mount in _mounted():
        beginning = f"{mount.rstrip('/')}/"
        # Of several at one place, the last is the one that is seen.
        if place.startswith(beginning) and len(beginning) >= len(best):
            best, kind = beginning, type_of_mount
    return kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse.")


def mounts_of(paths: Iterable[Path]) -> set[Path]:
    """The folders at which the file systems of these paths are mounted, links followed.

    The system's own is left out: where it is away, so is whoever asks.
    """
    return set().union(*mounts_of_each([path] for path in paths))


def mounts_of_each(groups: Iterable[Iterable[Path]]) -> list[set[Path]]:
    """`mounts_of` for several groups of paths, as of one moment."""
    known = {mount for mount, _ in _mounted()}
    below: dict[Path, Path] = {}
    return [{mount for path in paths if (mount := _mount_of(path, known, below)) != ROOT} for paths in groups]


def is_away(mount: Path) -> bool:
    """Whether the file system that was mounted at ``mount`` is not: an empty folder is left, or none.

    For another host or container that folder may be a part of something larger, where what it holds is there.
    """
    return not _is_mount(mount, {known for known, _ in _mounted()}) and not _holds_anything(mount)


def lies_below(path: Path, mount: Path) -> bool:
    """Whether ``path``, links followed, lies below ``mount``, be it that nothing is there now."""
    return Path(os.path.realpath(path)).is_relative_to(mount)


def _mount_of(path: Path, known: set[str], below: dict[Path, Path]) -> Path:
    """Where what ``path`` is on is mounted; ``below`` holds the answers for the folders that were looked at."""
    place = Path(os.path.realpath(path))
    if _is_mount(place, known):
        return place
    if place.parent not in below:
        below[place.parent] = next((folder for folder in place.parents if _is_mount(folder, known)), ROOT)
    return below[place.parent]


def _is_mount(folder: Path, known: set[str]) -> bool:
    # A part of a file system that is mounted elsewhere too looks like any folder of it, but to the system.
    return str(folder) in known or os.path.ismount(folder)


def _holds_anything(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _mounted() -> Iterator[tuple[str, str]]:
    """Where this process sees mounts, and the type of each file system; none where the system does not tell.

    See proc_pid_mountinfo(5). Names are bytes there, and a line of an unknown form is passed over.
    """
    if not sys.platform.startswith("linux"):
        return
    for line in _read(MOUNTS).split(b"\n"):  # in names, carriage returns stand as they are
        fields, separator, tail = line.partition(b" - ")
        words = fields.split(b" ")
        if separator and len(words) > 4:
            yield os.fsdecode(_unescaped(words[4])), os.fsdecode(tail.split(b" ")[0])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _unescaped(name: bytes) -> bytes:
    """A name as it is, of which blanks and backslashes are written as octal numbers."""
    if b"\\" not in name:
        return name
    return re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes([int(found[1], 8)]), name)

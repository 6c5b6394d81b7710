"""Files and folders on this machine's disks, written so that they appear whole and synced."""

import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import IngestError, ResourceUnavailable, SourceError
from .mounts import on_network

# Another file system, one without hard links, a file of someone else's, or one of too many names.
CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
# What passes: no room on a disk or within a limit, no locks or descriptors or memory, a disk that the system has made
# read-only, or a share whose server is away.
PASSING = {
    *(errno.EFBIG, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
}
# Left free on a disk when a job begins to fill it, for databases and everyone else.
RESERVE_BYTES = 16 << 20
HAS_SYNCFS = sys.platform.startswith("linux")


def explained(error: OSError, message: str, otherwise: type[IngestError], place: Path | None = None) -> IngestError:
    """The error to raise for one of the system: ResourceUnavailable where it passes, else an ``otherwise``.

    ``message`` says what cannot be done; the system's own words follow it. ``place``, where it is known, is what was
    read or written: a share that is away may say no more than that it failed.
    """
    away = error.errno == errno.EIO and place is not None and on_network(place)
    kind = ResourceUnavailable if away or error.errno in PASSING else otherwise
    return kind(f"{message}: {error.strerror or error}")


def free_bytes(folder: Path) -> int:
    """How much more an account like ours can write on the disk of ``folder``. Raises OSError."""
    return shutil.disk_usage(folder).free


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there: in which it would be made. Raises OSError."""
    for place in (path, *path.parents):
        with suppress(FileNotFoundError, NotADirectoryError):
            place.lstat()
            return place
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def require_writable(folder: Path) -> None:
    """Raise OSError where no file can be made in the folder."""
    if not stat.S_ISDIR(os.stat(folder).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def make_folder(folder: Path) -> None:
    """Make a private folder where there is none, and those above it, durably. Raises OSError."""
    above = existing(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for made in (folder, *folder.parents):
        if made == above:
            break
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a loss of power. Raises OSError."""
    with opened(folder) as descriptor:
        os.fsync(descriptor)


def sync_file_system(folder: Path) -> None:
    """Write all of the file system of ``folder`` back to its disk, where the platform has syncfs. Raises OSError."""
    if not HAS_SYNCFS:
        return
    with opened(folder) as descriptor:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of ``folder``, which can be synced but not read. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def restore_to(place: Path, kept: Path) -> None:
    """Link or copy the file at ``kept`` to ``place``, where it appears whole and nothing may exist. Raises OSError.

    A file that has other names is copied, so that writing to it at ``place`` does not change those.
    """
    try:
        if kept.stat().st_nlink > 1:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        os.link(kept, place)
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise
        copy_to(place, kept)


def move_to(kept: Path, place: Path) -> None:
    """Move the file at ``kept`` to ``place``: it appears whole, and is always at one of both.

    Raises OSError: FileExistsError where there is another file at ``place``. The file is then still at ``kept``.
    """
    restore_to(place, kept)
    kept.unlink()


def copy_to(place: Path, kept: Path) -> None:
    """Copy a file, its mode and its times to ``place``, where it appears whole and durable and nothing may exist."""
    found = kept.stat()
    with durable_write(place, mode=stat.S_IMODE(found.st_mode)) as file, kept.open("rb") as stored:
        shutil.copyfileobj(stored, file, 1 << 20)
        file.flush()
        os.utime(file.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))


@contextmanager
def new_at(target: Path) -> Iterator[Path]:
    """A path beside ``target`` for a file or folder that is renamed to ``target`` later; leftovers are removed.

    Raises SourceError where ``target`` already exists or cannot be written.
    """
    aside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "it already exists")
        yield aside
        with opened(target.absolute().parent) as folder:
            os.fsync(folder)
    except OSError as error:
        raise SourceError(f"cannot write {target}: {error.strerror}") from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


@contextmanager
def durable_write(target: Path, *, mode: int = 0o600, replace: bool = False) -> Iterator[BinaryIO]:
    """Write a new file that appears at ``target`` at the end of the block, whole and durable, or not at all.

    It replaces another file only with ``replace``. Raises OSError: FileExistsError where there is another file.
    """
    folder = target.absolute().parent
    # Without a name, which is Linux's and not every file system's, a kill leaves nothing either.
    descriptor, aside = None if replace else _nameless(folder), None
    if descriptor is None:
        descriptor, aside = tempfile.mkstemp(prefix=".ingest-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file, opened(folder) as place:
            yield file
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            if aside is None:
                # With a descriptor Python calls linkat, which follows the link in /proc as link does not.
                os.link(f"/proc/self/fd/{descriptor}", target, src_dir_fd=place)
            elif replace:
                os.rename(aside, target)
            else:
                _name(Path(aside), target)
            os.fsync(place)
    finally:
        if aside is not None:
            Path(aside).unlink(missing_ok=True)


def _name(aside: Path, target: Path) -> None:
    """Have the file at ``aside`` stand at ``target``, where nothing stands."""
    try:
        os.link(aside, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise
        # Renaming would take the place of any file: of one that is made here, the name is ours.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        os.rename(aside, target)


def _nameless(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except (AttributeError, OSError):
        return None

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
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import IngestError, ResourceUnavailable, SourceError

# Another file system, one without hard links, a file of someone else's, or one of too many names.
CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
# What passes: no room, no locks or descriptors or memory, or a share whose server is away.
PASSING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
}
HAS_SYNCFS = sys.platform.startswith("linux")
# Left free on a disk for everyone else, databases above all, when much is written to it.
RESERVE_BYTES = 16 << 20


def explained(error: OSError, message: str, otherwise: type[IngestError]) -> IngestError:
    """The error to raise for one of the system: ResourceUnavailable where it passes, else an ``otherwise``.

    ``message`` says what cannot be done; the system's own words follow it.
    """
    kind = ResourceUnavailable if error.errno in PASSING else otherwise
    return kind(f"{message}: {error.strerror or error}")


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


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError, at once where it is a FIFO, a device, a socket or a folder."""
    # Twice: to open a device may do something, and by then it may be another file, whose opening must not wait.
    _require_regular(path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor))
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


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

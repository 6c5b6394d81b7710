"""Files and folders of this machine's disks: written so that they appear whole, and synced."""

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import SourceError


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of ``folder``, which can be synced but not read. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def restore_to(place: Path, kept: Path) -> None:
    """Have the file at ``kept`` stand at ``place`` too, where it appears whole and nothing stands. Raises OSError."""
    try:
        os.link(kept, place)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        _copy_to(place, kept)


def rename_or_copy(kept: Path, place: Path) -> None:
    """Have the file at ``kept`` stand at ``place`` instead: it never stands half, and one of both stands always.

    Raises OSError; the file is then still at ``kept``.
    """
    try:
        os.rename(kept, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_to(place, kept)
        kept.unlink()


def _copy_to(place: Path, kept: Path) -> None:
    with _aside(place) as file, kept.open("rb") as stored:
        shutil.copyfileobj(stored, file, 1 << 20)
        file.flush()
        found = os.fstat(stored.fileno())
        os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))
        os.utime(file.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fsync(file.fileno())
    with opened(place.parent) as folder:
        os.fsync(folder)


@contextmanager
def new_at(target: Path) -> Iterator[Path]:
    """A path beside ``target``, for a file or folder to be made there and put at ``target``; what stays there goes.

    Raises SourceError where ``target`` is there already or cannot be written.
    """
    aside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "it is there already")
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
def _aside(path: Path) -> Iterator[BinaryIO]:
    """A new file that becomes ``path`` at the end of the block, and leaves nothing where that is not reached."""
    try:
        # Without a name, which is Linux's and not every file system's, a kill leaves nothing either.
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except (AttributeError, OSError):
        with replacing(path) as file:
            yield file
        return
    with os.fdopen(descriptor, "wb") as file, opened(path.parent) as folder:
        yield file
        # With the folder's descriptor Python calls linkat, which follows the link in /proc as link does not.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=folder)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new private file that takes the place of ``path`` at the end of the block, or is gone. Raises OSError."""
    descriptor, aside = tempfile.mkstemp(prefix=".ingest-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.rename(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise

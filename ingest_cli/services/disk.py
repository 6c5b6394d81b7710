"""What archives do with folders and files of this machine's disks."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of ``folder``, which can be synced but not read. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def rename_or_copy(target: Path, source: Path) -> None:
    """Make the archive's file ``target`` the file ``source`` again: both never stand half, and one stands always.

    Raises OSError; the file is then still at ``target``.
    """
    try:
        os.rename(target, source)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    # `source` appears whole: where it stands, the archive's copy is taken for superfluous.
    with _aside(source) as file, target.open("rb") as stored:
        shutil.copyfileobj(stored, file, 1 << 20)
        file.flush()
        found = os.fstat(stored.fileno())
        os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))
        os.utime(file.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fsync(file.fileno())
    with opened(source.parent) as folder:
        os.fsync(folder)
    target.unlink()


@contextmanager
def _aside(path: Path) -> Iterator[BinaryIO]:
    """A new file that becomes ``path`` at the end of the block, and leaves nothing where that is not reached."""
    try:
        # Without a name, which is Linux's and not every file system's, a kill leaves nothing either.
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except (AttributeError, OSError):
        yield from _aside_by_name(path)
        return
    with os.fdopen(descriptor, "wb") as file, opened(path.parent) as folder:
        yield file
        # With the folder's descriptor Python calls linkat, which follows the link in /proc as link does not.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=folder)


def _aside_by_name(path: Path) -> Iterator[BinaryIO]:
    descriptor, aside = tempfile.mkstemp(prefix=".ingest-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.rename(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise

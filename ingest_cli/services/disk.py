"""What archives do with folders and files of this machine's disks."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    descriptor, aside = tempfile.mkstemp(prefix=".ingest-", dir=source.parent)
    try:
        with os.fdopen(descriptor, "wb") as file, target.open("rb") as stored:
            shutil.copyfileobj(stored, file, 1 << 20)
            file.flush()
            shutil.copystat(target, aside)
            os.fsync(file.fileno())
        os.rename(aside, source)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    with opened(source.parent) as folder:
        os.fsync(folder)
    target.unlink()

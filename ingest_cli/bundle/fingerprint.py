"""Fingerprints of files: whether a file is another one, or was changed, as the kernel says, without reading it."""

import errno
import os
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Self

from ..disk import explained
from ..errors import SourceError


class Found(NamedTuple):
    """What of `os.stat` is looked at of a file that was found in a folder, by the same names: it takes less room."""

    st_dev: int
    st_ino: int
    st_mode: int
    st_uid: int
    st_gid: int
    st_size: int
    st_mtime_ns: int
    st_ctime: float

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """What of a result of `os.stat` is looked at."""
        return cls(*_looked_at(found))


_looked_at = attrgetter(*Found._fields)


def fingerprint_of(found: os.stat_result | Found) -> str:
    """What of `os.stat` makes a file's fingerprint: not the device's number, which a reboot may change."""
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def identity_of(found: os.stat_result) -> tuple[int, ...]:
    """What stays of a file that is linked or renamed while the system runs, and changes when it is written to."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def fingerprint(path: Path) -> str:
    """The fingerprint of the readable file at ``path``. Raises SourceError, ResourceUnavailable where it may pass."""
    try:
        found = path.stat()
        is_file = path.is_file()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise explained(error, f"cannot read {path}", SourceError, path) from error
    if not is_file:
        raise SourceError(f"{path} is not a regular file")
    return fingerprint_of(found)


def is_text(path: Path) -> bool:
    """Whether the path is UTF-8, which the job store keeps."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True

"""A file that is read as it was found, or not at all."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Self

from ..disk import explained
from ..errors import FilesChanged, PackError
from .fingerprint import Found
from .tree import Entry

REPLACED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class UnchangedFile:
    """The file that was found as ``entry``, open for a tar to read it, and hashed meanwhile. ``follow`` follows links.

    Messages say what is ``done`` with it, and ``observe`` is told the length of what is read. Raises FilesChanged where
    it is not that file any more, else PackError or ResourceUnavailable.
    """

    def __init__(
        self,
        entry: Entry,
        hashtype: str,
        *,
        follow: bool,
        done: str = "packed",
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._entry, self._done, self._observe = entry, done, observe
        self._digest = hashlib.new(hashtype, usedforsecurity=False)
        # What has taken its place may be a FIFO or a device, whose opening would wait, or do something.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        with self._explained():
            self._file = os.fdopen(os.open(entry.location, flags), "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def hashsum(self) -> str:
        """The hash of what was read."""
        return self._digest.hexdigest()

    @property
    def descriptor(self) -> int:
        """Its file descriptor."""
        return self._file.fileno()

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        with self._explained():
            data = self._file.read(size)
        if len(data) < size:
            self.require_unchanged()
            raise self._is_odd("less")
        self._digest.update(data)
        self._observe(len(data))
        return data

    def require_unchanged(self) -> None:
        """Raise FilesChanged where it has been written to, or is another file."""
        with self._explained():
            found = os.fstat(self._file.fileno())
        _require_same(found, self._entry, self._done)

    def require_end(self) -> None:
        """Raise PackError where there is more to read, as in a file of /proc, whose size is 0."""
        with self._explained():
            is_longer = bool(self._file.read(1))
        self.require_unchanged()
        if is_longer:
            raise self._is_odd("more")

    def _is_odd(self, amount: str) -> PackError:
        return PackError(f"{self._entry.location} holds {amount} than its size says: it is not a file on a disk")

    def _explained(self) -> AbstractContextManager[None]:
        return _explained(self._entry, self._done)


def require_unchanged(entry: Entry, *, follow: bool, done: str = "packed") -> None:
    """Raise as `UnchangedFile` does where what is at the entry's place now is another file, or was written to."""
    with _explained(entry, done):
        found = os.stat(entry.location, follow_symlinks=follow)
    _require_same(found, entry, done)


@contextmanager
def _explained(entry: Entry, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in REPLACED:
            raise FilesChanged(f"{entry.location} was removed before it was {done}") from error
        raise explained(error, entry.location, PackError) from error


def _require_same(found: os.stat_result, entry: Entry, done: str) -> None:
    if _identity(found) != _identity(entry.found):
        raise FilesChanged(f"{entry.location} was modified while it was {done}")


def _identity(found: os.stat_result | Found) -> tuple[Any, ...]:
    # Not the inode, of which a file on FUSE may have several in its time. That whoever put the file there has it
    # replaced by someone else's does not go unnoticed: no one can give theirs that owner.
    return found.st_dev, found.st_uid, found.st_gid, found.st_mode, found.st_size, found.st_mtime_ns

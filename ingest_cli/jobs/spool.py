"""Files on their way in: written while they come, checked, made durable, and each owned by someone.

A file belongs to the upload that writes it, which holds a lock on it that dies with its process; then to a job.
What neither of them owns is left over from a process that was killed, and is one of the `leftovers`.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..disk import opened
from ..errors import IngestError, SourceError
from .store import JobStore

PREFIX = "received-"


class NoRoom(IngestError):
    """What comes would leave less than the reserve free on the spool's disk."""


class Taken(IngestError):
    """Another upload writes the file."""

    transient = True


class SpoolFile:
    """The file at ``path``, ``new`` or to be appended to, and locked for as long as a ``with`` block lasts.

    Unless `keep` was called, a new one is gone then. Raises SourceError where the folder cannot be written, NoRoom
    where less than ``reserve`` bytes would be left on its disk, Taken where another upload has the lock.
    """

    def __init__(self, path: Path, reserve: int, *, new: bool) -> None:
        self.path, self._reserve, self._kept = path, reserve, not new
        self._spool = path.parent
        with _explained(self._spool):
            self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_CREAT | os.O_EXCL if new else os.O_APPEND
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._descriptor).st_nlink == 0:
                raise FileNotFoundError(path)
        except OSError as error:
            os.close(self._descriptor)
            raise Taken(f"another upload writes {path.name}, or has removed it") from error

    @classmethod
    def fresh(cls, spool: Path, suffix: str, reserve: int) -> "SpoolFile":
        """A new one under a name of its own in the folder ``spool``."""
        return cls(spool / f"{PREFIX}{secrets.token_hex(16)}{suffix}", reserve, new=True)

    def __enter__(self) -> "SpoolFile":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            with suppress(FileNotFoundError):
                self.path.unlink()
        os.close(self._descriptor)

    @property
    def length(self) -> int:
        """How many bytes it holds."""
        return os.fstat(self._descriptor).st_size

    def require_room(self, length: int) -> None:
        """Raise NoRoom where ``length`` more bytes are too many."""
        with _explained(self._spool):
            free = shutil.disk_usage(self._spool).free
        if free - length < self._reserve:
            raise NoRoom(f"{length} bytes more would leave less than {self._reserve} free in {self._spool}")

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self.require_room(len(data))
        with _explained(self._spool):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Return when what was written would survive a loss of power."""
        with _explained(self._spool):
            os.fsync(self._descriptor)
            with opened(self._spool) as folder:
                os.fsync(folder)

    def keep(self) -> None:
        """A job owns the file from now on."""
        self._kept = True


def leftovers(spool: Path, store: JobStore) -> list[Path]:
    """The received files that no upload writes and no unfinished job needs."""
    return [path for path in sorted(spool.glob(f"{PREFIX}*")) if is_abandoned(path) and is_done(store, path)]


def is_done(store: JobStore, path: Path) -> bool:
    """Whether no job needs the file at ``path``."""
    job = store.of_source(path)
    return job is None or job.is_done


def is_abandoned(path: Path) -> bool:
    """Whether no process has the file in use."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _explained(spool: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"cannot write into {spool}: {error.strerror}") from error

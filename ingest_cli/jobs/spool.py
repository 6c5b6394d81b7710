"""The spool folder: bundles and documents that arrived as a stream or were packed here.

This is where its files get their names, and are locked while they are written. A file belongs to the process that has
it locked, then to a job. One that belongs to neither, and was not written to for as long as its `SpoolKind` says, was
left by a process that was killed: `orphans` finds it.

Three things lie in the folder that are not swept: files without a name, which the kernel removes with their process;
the locks of watched folders that cannot be written (`watch.lock`), since a lock must not vanish under its holder; and
what was said of watched folders (`watch.said`).
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Self

from rich.filesize import decimal

from ..disk import RESERVE_BYTES, begin_writeback, explained, free_bytes, sync_folder
from ..errors import IngestError, ResourceUnavailable, SourceError


class SpoolKind(Enum):
    """What lies in the spool: how the names of a kind begin, and for how long an orphan was not written to.

    What comes as a stream is locked while it is written. The time is for what a lock cannot tell: a resumable upload
    may be without a writer for days, and a packed folder appears whole, under no lock, before its job is entered.
    """

    STANDARD_INPUT = "upload-", timedelta(days=1)
    RECEIVED = "received-", timedelta()  # an upload in one request
    RESUMABLE = "resumable-", timedelta(days=7)  # an upload in many requests, with a record beside it
    PACKED = "packed-", timedelta(days=1)  # a sub-folder of a drop folder, made a bundle
    UNFINISHED = ".ingest-", timedelta(days=1)  # one that is being made, where a file cannot be without a name

    def __init__(self, prefix: str, untouched: timedelta) -> None:
        self.prefix, self.untouched = prefix, untouched

    def path(self, spool: Path, name: str) -> Path:
        """Where the file of this name lies in the folder ``spool``."""
        return spool / f"{self.prefix}{name}"


# What is on its way to the disk while more comes: all at once, at the end, would take long.
WRITEBACK_BYTES = 8 << 20
# A resumable upload of which nothing has come at all has nothing to lose.
EMPTY_UNTOUCHED = timedelta(hours=1)


class NoRoom(ResourceUnavailable):
    """The spool's disk would have less than its reserve free."""


class Locked(IngestError):
    """Another process writes the file."""

    transient = True


class SpoolFile:
    """The file at ``path``, ``new`` or to be appended to, and locked for as long as a ``with`` block lasts.

    Unless `keep` was called, a new one is gone then. Raises SourceError where the folder cannot be written, NoRoom
    where less than ``reserve`` bytes would be left on its disk, Locked where another process has the lock, and
    ResourceUnavailable for what else may pass. Those who write at the same time may share the ``sync`` of the folder.
    """

    def __init__(self, path: Path, reserve: int, *, new: bool, sync: Callable[[Path], None] = sync_folder) -> None:
        self.path, self._reserve, self._kept = path, reserve, not new
        self._spool, self._sync_folder = path.parent, sync
        with _translate_os_errors(self._spool):
            self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = _created(path) if new else _opened(path)
            self._written = self._written_back = self.length

    @classmethod
    def fresh(
        cls, kind: SpoolKind, spool: Path, suffix: str, reserve: int = 0, sync: Callable[[Path], None] = sync_folder
    ) -> Self:
        """A new one under a name of its own in the folder ``spool``."""
        return cls(kind.path(spool, f"{secrets.token_hex(16)}{suffix}"), reserve, new=True, sync=sync)

    def __enter__(self) -> Self:
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
        with _translate_os_errors(self._spool):
            free = free_bytes(self._spool)
        if free - length < self._reserve:
            reserved = f", of which {decimal(self._reserve)} must stay free" if self._reserve else ""
            raise NoRoom(f"no room for {decimal(length)} more: {self._spool} has {decimal(free)} free{reserved}")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``."""
        self.require_room(len(data))
        with _translate_os_errors(self._spool):
            unwritten = memoryview(data)
            while unwritten:
                unwritten = unwritten[os.write(self._descriptor, unwritten) :]
        self._written += len(data)
        if (length := self._written - self._written_back) >= WRITEBACK_BYTES:
            begin_writeback(self._descriptor, self._written_back, length)
            self._written_back = self._written

    def cut(self, length: int) -> None:
        """Forget, durably, what was written beyond its first ``length`` bytes."""
        with _translate_os_errors(self._spool):
            os.ftruncate(self._descriptor, length)
            self._written = self._written_back = length
            os.fsync(self._descriptor)

    def sync(self) -> None:
        """Return when what was written would survive a loss of power."""
        with _translate_os_errors(self._spool):
            os.fsync(self._descriptor)
            self._sync_folder(self._spool)

    @property
    def is_kept(self) -> bool:
        """Whether the file stays at the end of the block."""
        return self._kept

    def keep(self) -> None:
        """Leave the file at the end of the block: a job owns it, or is about to."""
        self._kept = True

    def drop(self) -> None:
        """Remove the file at the end of the block after all."""
        self._kept = False


@contextmanager
def spooled_input(stream: BinaryIO, spool: Path, observe: Callable[[int], None] = lambda _: None) -> Iterator[Path]:
    """What comes from ``stream`` as a file in ``spool``; removed at the end unless a later run can resume its job.

    It stays after an error that may pass and after an interruption, since a part of it may be stored by then.
    ``observe`` is told the length of each chunk, and may raise to stop.
    Raises SourceError where the stream cannot be read or the file not be written, NoRoom where the disk is too small.
    """
    with SpoolFile.fresh(SpoolKind.STANDARD_INPUT, spool, ".tar", RESERVE_BYTES) as file:
        while data := _read(stream):
            file.write(data)
            observe(len(data))
        file.sync()
        file.keep()
        try:
            yield file.path
        except IngestError as error:
            if not error.transient:
                file.drop()
            else:
                error.add_note(f"the bundle is kept in {file.path}")
            raise
        file.drop()


def is_received(path: Path) -> bool:
    """Whether a spooled file is one that the server received in one request."""
    return path.name.startswith(SpoolKind.RECEIVED.prefix)


def record_of(upload: Path) -> Path:
    """Where the record of a resumable upload lies, which says what is to come and from whom."""
    return upload.with_suffix(".json")


def _created(path: Path) -> int:
    """A descriptor of a new file, which is locked. Who looks for orphans may find it before that, and remove it."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink > 0:
                return descriptor
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)


def _opened(path: Path) -> int:
    """A descriptor of a file, which is locked. Raises Locked where another process has the lock."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink > 0:
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    raise Locked(f"another request is writing {path.name}, or has just removed it")


def _read(stream: BinaryIO) -> bytes:
    try:
        return stream.read(1 << 20)
    except OSError as error:
        raise SourceError(f"cannot read standard input: {error.strerror}") from error


@contextmanager
def _translate_os_errors(spool: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explained(error, f"cannot write into {spool}", SourceError, spool) from error

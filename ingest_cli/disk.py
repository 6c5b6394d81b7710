"""Files and folders on this machine's disks, written so that they appear whole and synced."""

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from .errors import IngestError, ResourceUnavailable, SourceError
from .mounts import on_network

if TYPE_CHECKING:
    import ctypes

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
MAX_NAME_BYTES = 255
# Left free on a disk when a job begins to fill it, for databases and everyone else.
RESERVE_BYTES = 16 << 20
AT_FDCWD, RENAME_NOREPLACE = -100, 1
SYNC_FILE_RANGE_WRITE = 2
# So much of a file is worth a request of its own to the disk, or less at its end; of small files the disk makes more
# when it gets them together.
WRITEBACK_BYTES, LEAST_WRITEBACK_BYTES = 16 << 20, 256 << 10
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


@contextmanager
def scratch(folder: Path, pieces: Iterable[bytes], otherwise: type[IngestError]) -> Iterator[IO[bytes]]:
    """An open file of these pieces on the disk of ``folder``, which is gone afterwards.

    Raises ResourceUnavailable where there is no room for it now, else an ``otherwise``.
    """
    import tempfile

    try:
        make_folder(folder)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed below
        try:
            for piece in pieces:
                file.write(piece)
            file.seek(0)
        except BaseException:
            close_in_vain(file)
            raise
    except OSError as error:
        raise explained(error, f"cannot write into {folder}", otherwise, folder) from error
    with file:
        yield file


def close_in_vain(file: IO[bytes]) -> None:
    """Close a file that could not be written: what is left of it is tried again, and fails again."""
    with suppress(OSError):
        file.close()


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a loss of power. Raises OSError."""
    with opened(folder) as descriptor:
        os.fsync(descriptor)


def sync_file_system(folder: Path) -> None:
    """Write all of the file system of ``folder`` back to its disk, where the platform has syncfs. Raises OSError."""
    if not HAS_SYNCFS:
        return
    import ctypes

    with opened(folder) as descriptor:
        if _library().syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


class Writeback:
    """Has a new file, open as ``descriptor``, be written to its disk as it comes: the disk is not to be idle until all
    is synced."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._written, self._begun = descriptor, 0, 0

    def wrote(self, length: int) -> None:
        """So many more bytes were written."""
        self._written += length
        if self._written - self._begun >= WRITEBACK_BYTES:
            self._begin()

    def end(self) -> None:
        """All was written."""
        if self._written - self._begun >= LEAST_WRITEBACK_BYTES:
            self._begin()

    def _begin(self) -> None:
        begin_writeback(self._descriptor, self._begun, self._written - self._begun)
        self._begun = self._written


@cache
def _library() -> "ctypes.CDLL":
    """The C library of this process, with what Python does not call of it."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def begin_writeback(descriptor: int, start: int, length: int) -> None:
    """Have the system begin to write this part of an open file to its disk, where it can, so that a sync is short.

    What goes wrong with it is for the sync to say.
    """
    import ctypes

    sync_file_range = getattr(_library(), "sync_file_range", None)
    if sync_file_range is not None:
        sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), SYNC_FILE_RANGE_WRITE)


@contextmanager
def opened(folder: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor of ``folder``, for what takes one: syncing it, naming what is in it. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
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


def rename_new(kept: str | Path, place: Path, folder: int | None = None) -> None:
    """Rename a file or folder to ``place``, where nothing may exist. Raises OSError: FileExistsError where it does.

    A relative ``kept`` is in the folder open as ``folder``.
    """
    if _rename_at_once(kept, place, folder):
        return
    # Renaming takes the place of any file and of an empty folder: of what is made here, the name is ours.
    if stat.S_ISDIR(os.stat(kept, dir_fd=folder, follow_symlinks=False).st_mode):
        place.mkdir()
        give_up = place.rmdir
    else:
        try:
            os.link(kept, place, src_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in CANNOT_LINK or error.errno == errno.EXDEV:
                raise
        else:
            os.unlink(kept, dir_fd=folder)
            return
        os.close(_new(place))
        give_up = place.unlink
    try:
        os.rename(kept, place, src_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            give_up()
        raise


def _rename_at_once(kept: str | Path, place: Path, folder: int | None) -> bool:
    """Rename as `rename_new` does, but in one step; False where system or file system cannot do that."""
    import ctypes

    rename = getattr(_library(), "renameat2", None)
    if rename is None:
        return False
    kept_in = AT_FDCWD if folder is None else folder
    if rename(kept_in, os.fsencode(kept), AT_FDCWD, os.fsencode(place), RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), str(place))


def fitting(name: str, suffix: str, folder: Path) -> str:
    """``name`` and ``suffix``; the name is cut where there could be no file of both together in ``folder``."""
    try:
        # Some file systems count in letters, and then say a number of bytes that no letters take.
        most = min(os.pathconf(folder, "PC_NAME_MAX"), MAX_NAME_BYTES)
    except OSError:
        most = MAX_NAME_BYTES
    room, raw = most - len(os.fsencode(suffix)), os.fsencode(name)
    if len(raw) <= room:
        return name + suffix
    # A letter of UTF-8 has up to four bytes, of which all but the first begin with the bits 10.
    ends = [end for end in range(room, room - 4, -1) if raw[end] & 0xC0 != 0x80]
    return os.fsdecode(raw[: ends[0] if ends else room]) + suffix


@contextmanager
def new_at(target: Path) -> Iterator[Path]:
    """A path beside ``target`` for a file or folder that is renamed to ``target`` later; leftovers are removed.

    Raises SourceError where ``target`` already exists or cannot be written, ResourceUnavailable where that may pass.
    """
    aside = target.with_name(f".ingest-{os.urandom(8).hex()}.part")
    try:
        require_free(target)
        yield aside
        with opened(target.absolute().parent) as folder:
            os.fsync(folder)
    except OSError as error:
        raise explained(error, f"cannot write {target}", SourceError) from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with suppress(OSError):
                aside.unlink()


def require_free(target: Path) -> None:
    """Raise OSError where something stands at ``target``, or where nothing could."""
    with suppress(FileNotFoundError):
        target.lstat()
        raise FileExistsError(errno.EEXIST, "it already exists")


@contextmanager
def durable_write(target: Path, *, mode: int = 0o600, replace: bool = False) -> Iterator[BinaryIO]:
    """Write a new file that appears at ``target`` at the end of the block, whole and durable, or not at all.

    It replaces another file only with ``replace``. Raises OSError: FileExistsError where there is another file.
    """
    folder = target.absolute().parent
    aside = folder / f".ingest-{os.urandom(8).hex()}"
    # Without a name, which is Linux's and not every file system's, a kill leaves nothing either.
    nameless = _nameless(folder)
    descriptor = _new(aside) if nameless is None else nameless
    try:
        with os.fdopen(descriptor, "wb") as file, opened(folder) as place:
            yield file
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            if nameless is not None:
                # With a descriptor Python calls linkat, which follows the link in /proc as link does not.
                os.link(f"/proc/self/fd/{descriptor}", aside if replace else target, src_dir_fd=place)
            if replace:
                os.rename(aside, target)
            elif nameless is None:
                rename_new(aside, target)
            os.fsync(place)
    finally:
        aside.unlink(missing_ok=True)


def _new(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)


def _nameless(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except (AttributeError, OSError):
        return None

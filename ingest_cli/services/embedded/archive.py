"""The archive as a folder, laid out as Pacifica's archive interface does with ids turned to names.

A file is written under a temporary name of its own, then renamed. Durability is paid for once a batch, not once a
file: `flush` asks the kernel to write the whole file system back (syncfs), which for 20,000 small files costs as
much as some hundred single fsyncs. Where the platform has no syncfs, every file is fsynced.
"""

import ctypes
import errno
import filecmp
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...content import CHUNK_BYTES, Content
from ...errors import ArchiveError, ArchiveKeeps
from ..disk import opened, rename_or_copy

READ_ONLY = 0o444
# Left free on the archive's disk when a job begins, for the catalogue and everyone else.
RESERVE_BYTES = 16 << 20


def id_to_path(file_id: int) -> str:
    """The place of a file below the archive's root: 12345 is 0x3039 and lies at ``39/3039``, 18 at ``file.12``."""
    digits = f"{file_id:x}"
    if len(digits) <= 2:
        return f"file.{digits}"
    folders = [digits[end - 2 : end] for end in range(len(digits), 2, -2)]
    return "/".join([*folders, digits])


class EmbeddedArchive:
    """Files under ``root``, read-only, each with the modification time it had in the bundle."""

    transfers = 1
    resent = 0

    def __init__(self, root: Path) -> None:
        self.root = root
        self._syncfs = _find_syncfs()
        self._to_remove: list[Path] = []

    def examine(self) -> str:
        """Say where the archive is and how much room it has."""
        from rich.filesize import decimal

        self.require_room(0)
        return f"{self.root}: {decimal(shutil.disk_usage(self.root).free)} free"

    def close(self) -> None:
        """There is nothing to let go of."""

    def require_room(self, total_bytes: int) -> None:
        """Raise ArchiveError where the folder cannot be written or its disk has no room."""
        with self._explained("prepare"):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            free = shutil.disk_usage(self.root).free
        if free < total_bytes + RESERVE_BYTES:
            raise ArchiveError(f"the archive {self.root} has {free} bytes free, but {total_bytes} are to be stored")

    def put(self, file_id: int, content: Content, *, replace: bool) -> None:
        """Write ``content`` aside, check it on the way, then rename it into place."""
        target = f"{self.root}/{id_to_path(file_id)}"
        temporary = f"{target}.part"
        with self._explained(f"store {content.name!r} in"):
            if not replace:
                _refuse_existing(target, file_id)
            try:
                descriptor = _create(temporary)
                try:
                    for chunk in content.chunks():
                        _write(descriptor, chunk)
                    os.utime(descriptor, (content.mtime, content.mtime))
                    if self._syncfs is None:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                os.rename(temporary, target)
            except BaseException as error:
                # An interruption may fall right behind the rename; a network file system may fail there.
                if _may_hold(temporary, target) and isinstance(error, OSError):
                    raise ArchiveKeeps(f"the archive may hold file {file_id}: {error.strerror}") from error
                raise

    def move(self, file_id: int, source: Path, size: int, content: Content | None, *, replace: bool) -> None:
        """Rename ``source`` into place where it lies on the same file system, else copy it and remove it at `flush`."""
        if content is None:
            raise ArchiveError(f"the archive {self.root} is on this machine, but {source} is not")
        target = self.root / id_to_path(file_id)
        if not replace:
            _refuse_existing(str(target), file_id)
        with self._explained(f"move {str(source)!r} into"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(source, target)
                target.chmod(READ_ONLY)
                return
            except OSError as error:
                if not os.path.lexists(source) and os.path.lexists(target):
                    trouble = f"cannot make the archive's file {file_id}, moved from {source}, read-only"
                    raise ArchiveKeeps(f"{trouble}: {error.strerror}") from error
                if error.errno != errno.EXDEV:
                    raise
        self.put(file_id, content, replace=True)
        self._to_remove.append(source)

    def give_back(self, file_id: int, source: Path) -> None:
        """Put a moved file back to ``source``; where the source still stands, only the archive's copy goes.

        Raises ArchiveKeeps where another file stands there by now, or where the moved one is not to be found.
        """
        target = self.root / id_to_path(file_id)
        if source in self._to_remove:
            self._to_remove.remove(source)
        with self._explained(f"give {str(source)!r} back from"):
            if not os.path.lexists(source):
                if not target.exists():
                    raise ArchiveKeeps(f"neither {source} nor {target} is there: is the archive's disk mounted?")
                target.chmod(0o644)
                rename_or_copy(target, source)
            elif target.exists():
                if not filecmp.cmp(source, target, shallow=False):
                    raise ArchiveKeeps(f"the archive keeps {target}: another file stands at {source} by now")
                target.unlink()

    def delete(self, file_id: int) -> None:
        """Remove the file and what an interrupted `put` may have left beside it."""
        target = self.root / id_to_path(file_id)
        with self._explained(f"delete file {file_id} from"):
            target.unlink(missing_ok=True)
            Path(f"{target}.part").unlink(missing_ok=True)

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes, or None."""
        with self._explained(f"look at file {file_id} in"):
            try:
                found = (self.root / id_to_path(file_id)).stat()
            except FileNotFoundError:
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, file_id: int) -> Iterator[bytes]:
        """The stored bytes."""
        with self._explained(f"read file {file_id} from"), (self.root / id_to_path(file_id)).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def found(self) -> Iterator[tuple[Path, int | None]]:
        """Every file under the root, with its id; None for what no file of the archive is called."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                digits = name.removeprefix("file.")
                file_id = int(digits, 16) if re.fullmatch("[0-9a-f]+", digits) else None
                is_in_place = file_id is not None and path == self.root / id_to_path(file_id)
                yield path, file_id if is_in_place else None

    def flush(self) -> None:
        """Write everything back to the disk; then remove the sources of files that were copied in."""
        with self._explained("write back"):
            if self._syncfs is not None:
                self._syncfs(self.root)
            while self._to_remove:
                self._to_remove.pop().unlink(missing_ok=True)

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveError(f"cannot {action} the archive {self.root}: {error.strerror}") from error


def _refuse_existing(target: str, file_id: int) -> None:
    if os.path.lexists(target):
        raise ArchiveError(
            f"the archive already holds a file {file_id} ({target}), which is not this job's;"
            " the ids are behind the archive: do they come from another id store?"
        )


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, READ_ONLY)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        os.unlink(path)
    return os.open(path, flags, READ_ONLY)


def _may_hold(temporary: str, target: str) -> bool:
    """Whether something is left of a file that could not be stored, of which ``temporary`` is removed if it can be."""
    try:
        os.unlink(temporary)
    except FileNotFoundError:
        return os.path.lexists(target)
    except OSError:
        return True
    return False


def _write(descriptor: int, chunk: bytes) -> None:
    written = os.write(descriptor, chunk)
    while written < len(chunk):
        written += os.write(descriptor, memoryview(chunk)[written:])


def _find_syncfs() -> Callable[[Path], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = ctypes.CDLL(None, use_errno=True).syncfs

    def syncfs(folder: Path) -> None:
        with opened(folder) as descriptor:
            if function(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

    return syncfs

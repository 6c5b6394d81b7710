"""The archive as a folder of this machine."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.filesize import decimal

from ...bundle.content import CHUNK_BYTES
from ...disk import RESERVE_BYTES
from ...errors import ArchiveError
from ..base import ArchivedFile
from .layout import RUNS_FOLDER, id_to_path, path_to_id, translate_os_errors
from .writer import EmbeddedWriter


class EmbeddedArchive:
    """Files under ``root``, read-only, each with the modification time it had in the bundle."""

    transfers = 1

    def __init__(self, root: Path) -> None:
        self._root = root

    def ping(self) -> str:
        """Say where the archive is, having seen that it can be written."""
        self.require_room(0)
        return str(self._root)

    def close(self) -> None:
        """Nothing is open."""

    def free_bytes(self) -> int:
        """The room on the disk, for an account like ours. Raises ArchiveError where the folder cannot be written."""
        with translate_os_errors(self._root, "prepare"):
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(self._root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return shutil.disk_usage(self._root).free

    def require_room(self, total_bytes: int) -> None:
        """Raise ArchiveError where the folder cannot be written or its disk has no room."""
        free = self.free_bytes()
        if free < total_bytes + RESERVE_BYTES:
            room = f"{decimal(free)} free, {decimal(total_bytes)} to store, {decimal(RESERVE_BYTES)} in reserve"
            raise ArchiveError(f"not enough space in the archive {self._root}: {room}")

    def require_free(self, ids: range) -> None:
        """Raise ArchiveError where a file is stored under one of ``ids``."""
        for file_id in ids:
            target = f"{self._root}/{id_to_path(file_id)}"
            if os.path.lexists(target):
                raise ArchiveError(
                    f"the archive already holds file {file_id} ({target}), which belongs to another job:"
                    " does the id store belong to this archive?"
                )

    def writer(
        self, ids: range, fence: int, *, resumed: bool, require: Callable[[], None] | None = None
    ) -> EmbeddedWriter:
        """The writer of this run; earlier runs change nothing from now on."""
        with translate_os_errors(self._root, "prepare"):
            return EmbeddedWriter(self._root, ids, fence)

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes; None where the archive holds no such file."""
        with translate_os_errors(self._root, f"check file {file_id} in"):
            try:
                found = self._path(file_id).lstat()
            except FileNotFoundError:
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, file_id: int) -> Iterator[bytes]:
        """The stored bytes, in pieces."""
        with translate_os_errors(self._root, f"read file {file_id} from"), self._path(file_id).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def list_files(self) -> Iterator[ArchivedFile]:
        """Every file under the root, those of runs in progress too."""
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                yield _archived_file(path, path.relative_to(self._root))

    def still_holds(self, file: ArchivedFile) -> bool:
        """Whether what was listed is there now."""
        return os.path.lexists(file.location)

    def _path(self, file_id: int) -> Path:
        return self._root / id_to_path(file_id)


def _archived_file(path: Path, below_root: Path) -> ArchivedFile:
    folders = below_root.parts[:-1]
    if not folders or folders[0] != RUNS_FOLDER:
        return ArchivedFile(location=str(path), file_id=path_to_id(below_root))
    first = below_root.parts[1].partition(".")[0]
    return ArchivedFile(location=str(path), run_of=int(first) if first.isdecimal() else None)

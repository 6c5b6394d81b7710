"""The archive as a folder, laid out as Pacifica's archive interface does with ids turned to names.

What stands under an id is changed only by renaming a file into or out of the folder of the run that does it, under
``.ingest``. A run that takes over renames the folders of earlier runs away: whatever those still try, when they wake
up, finds no folder, and changes nothing.

Durability is paid for once a batch, not once a file: `flush` asks the kernel to write the whole file system back
(syncfs), which for 20,000 small files costs as much as some hundred single fsyncs. Where the platform has no syncfs,
every file is fsynced.
"""

import errno
import filecmp
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ...bundle.content import CHUNK_BYTES, Content
from ...bundle.fingerprint import identity_of
from ...disk import CANNOT_LINK, HAS_SYNCFS, restore_to, sync_file_system
from ...errors import ArchiveError, RollbackFailed, ServiceUnavailable, SourceChanged, SourceMissing
from ..base import require_within

READ_ONLY = 0o444
# Left free on the archive's disk when a job begins, for the catalogue and everyone else.
RESERVE_BYTES = 16 << 20
RUNS_FOLDER = ".ingest"


def id_to_path(file_id: int) -> str:
    """The place of a file below the archive's root: 12345 is 0x3039 and lies at ``39/3039``, 18 at ``file.12``."""
    digits = f"{file_id:x}"
    if len(digits) <= 2:
        return f"file.{digits}"
    folders = [digits[end - 2 : end] for end in range(len(digits), 2, -2)]
    return "/".join([*folders, digits])


class Found(NamedTuple):
    """A file below the archive's root: of a ``file_id``, or of the run that has reserved ids from ``of_run`` on."""

    path: Path
    file_id: int | None
    of_run: int | None


class EmbeddedArchive:
    """Files under ``root``, read-only, each with the modification time it had in the bundle."""

    transfers = 1

    def __init__(self, root: Path) -> None:
        self.root = root

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

    def require_free(self, ids: range) -> None:
        """Raise ArchiveError where a file stands under one of ``ids``."""
        for file_id in ids:
            target = f"{self.root}/{id_to_path(file_id)}"
            if os.path.lexists(target):
                raise ArchiveError(
                    f"the archive already holds a file {file_id} ({target}), which is not this job's;"
                    " the ids are behind the archive: do they come from another id store?"
                )

    def writer(self, ids: range, fence: int, *, resumed: bool) -> "EmbeddedWriter":
        """The one through which this run changes the archive; earlier runs change nothing from now on."""
        with self._explained("prepare"):
            return EmbeddedWriter(self.root, ids, fence)

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes, or None."""
        with self._explained(f"look at file {file_id} in"):
            try:
                found = (self.root / id_to_path(file_id)).lstat()
            except FileNotFoundError:
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, file_id: int) -> Iterator[bytes]:
        """The stored bytes."""
        with self._explained(f"read file {file_id} from"), (self.root / id_to_path(file_id)).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def found(self) -> Iterator[Found]:
        """Every file under the root."""
        runs = self.root / RUNS_FOLDER
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                if path.is_relative_to(runs):
                    first = path.relative_to(runs).parts[0].partition(".")[0]
                    yield Found(path, None, int(first) if first.isdecimal() else None)
                    continue
                digits = name.removeprefix("file.")
                file_id = int(digits, 16) if re.fullmatch("[0-9a-f]+", digits) else None
                is_in_place = file_id is not None and path == self.root / id_to_path(file_id)
                yield Found(path, file_id if is_in_place else None, None)

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        with translated(self.root, action):
            yield


class EmbeddedWriter:
    """One run's way to change the archive at ``root``. Raises OSError where its folder cannot be made."""

    resent = 0

    def __init__(self, root: Path, ids: range, fence: int) -> None:
        self._root, self._ids, self._fence = root, ids, fence
        self._copied: dict[int, tuple[int, ...]] = {}
        self._made: set[str] = set()
        self._left: dict[int, Path] = {}
        runs = root / RUNS_FOLDER
        self._folder = runs / f"{ids.start}.{fence}"
        if not ids:
            return
        # A folder that a run of these ids left says that this is the disk that it was.
        self._is_known = self._folder.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        # One of this very fence is of a run whose claim was lost with the power.
        self._tidy(self._folder)
        for name in os.listdir(runs):
            first, _, number = name.partition(".")
            if first == str(ids.start) and number.isdecimal() and int(number) < fence:
                self._adopt(runs / name)

    def put(self, file_id: int, content: Content) -> None:
        """Write ``content`` aside, check it on the way, then rename it into place."""
        with self._changing(file_id, f"store {content.name!r} in"):
            aside = self._aside(file_id, "part")
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, READ_ONLY)
            try:
                for chunk in content.chunks():
                    _write(descriptor, chunk)
                os.utime(descriptor, (content.mtime, content.mtime))
                if not HAS_SYNCFS:
                    os.fsync(descriptor)
            except BaseException:
                with suppress(OSError):
                    os.unlink(aside)
                raise
            finally:
                os.close(descriptor)
            self._place(aside, file_id)

    def move(self, file_id: int, source: Path, size: int, content: Content | None) -> None:
        """Give the file a second name in the archive, where that can be done; else copy it."""
        if content is None:
            raise ArchiveError(f"the archive {self._root} is on this machine, but {source} is not")
        found = os.fstat(content.descriptor)
        before = identity_of(found)
        with self._changing(file_id, f"move {str(source)!r} into"):
            if self._is_linked(file_id, before):
                return
            aside = self._aside(file_id, "link")
            try:
                if found.st_nlink > 1:  # one of its other names may be anyone's, another job's too
                    raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
                os.link(source, aside, follow_symlinks=False)
            except OSError as error:
                if error.errno == errno.ENOENT and not os.path.lexists(source):
                    raise SourceMissing(f"the source {source} is gone") from error
                if error.errno not in CANNOT_LINK:
                    raise
                self.put(file_id, content)
                # Who may read it is remembered until it is let go of, for when it is moved back.
                os.chmod(self._target(file_id), stat.S_IMODE(found.st_mode) & READ_ONLY)
                self._copied[file_id] = before
                return
            if identity_of(os.lstat(aside)) != before:
                os.unlink(aside)
                raise SourceChanged(f"the source {source} was changed after it had been hashed")
            self._place(aside, file_id)

    def move_back(self, file_id: int, source: Path) -> None:
        """Take the archive's name from a file that still stands at ``source``; else put it there again.

        Raises RollbackFailed where another file stands there by now, or where the moved one is not to be found.
        """
        target = self._target(file_id)
        with self._changing(file_id, f"move {str(source)!r} back from"):
            if os.path.lexists(source):
                if os.path.lexists(target) and not self._is_superfluous(file_id, source):
                    raise RollbackFailed(f"the archive keeps {target}: another file stands at {source} by now")
                self.delete(file_id)
                return
            if not os.path.lexists(target):
                if self._is_known:
                    return  # it was removed by someone else, before it was moved
                raise RollbackFailed(f"neither {source} nor {target} is there: is the archive's disk mounted?")
            aside = self._aside(file_id, "back")
            os.rename(target, aside)
            try:
                restore_to(source, Path(aside))
                os.chmod(source, os.stat(aside).st_mode | stat.S_IWUSR)
            except BaseException:
                os.rename(aside, target)
                raise
            os.unlink(aside)

    def holds(self, file_id: int, hashed: os.stat_result) -> bool:
        """Whether the file is the very one that was hashed, and was not written to since."""
        return self._is_linked(file_id, identity_of(hashed))

    def was_changed(self, file_id: int, hashed: os.stat_result) -> bool:
        """Whether a linked file was written to, be it under a name that it has elsewhere by now."""
        with translated(self._root, f"look at file {file_id} in"):
            found = os.lstat(self._target(file_id))
        is_linked = (found.st_dev, found.st_ino) == (hashed.st_dev, hashed.st_ino)
        return is_linked and identity_of(found) != identity_of(hashed)

    def release(self, file_id: int, source: Path, hashed: os.stat_result | None) -> None:
        """Remove the source's own name, if it still is the file that was moved, and make the archive's read-only."""
        require_within(self._ids, file_id)
        try:
            # Gone where another run has taken over: then what stands at the source is no longer this one's affair.
            os.stat(self._folder)
            for fence in range(1, self._fence + 1):
                # Caught under a name of the run's own first: what is looked at is what is removed. One that was killed
                # then has left it there.
                caught = source.with_name(f".ingest-{self._ids.start}.{fence}-{file_id}")
                if fence == self._fence:
                    with suppress(FileNotFoundError):
                        os.rename(source, caught)
                if os.path.lexists(caught):
                    self._let_go(file_id, source, caught, hashed)
            os.chmod(self._target(file_id), READ_ONLY)
        except OSError as error:
            trouble = f"cannot remove {source}, which was moved into the archive {self._root}: {error.strerror}"
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                self._detach(file_id)
                raise ArchiveError(trouble) from error
            raise ServiceUnavailable(trouble) from error

    def delete(self, file_id: int) -> None:
        """Remove the file."""
        with self._changing(file_id, f"delete file {file_id} from"):
            aside = self._aside(file_id, "gone")
            try:
                os.rename(self._target(file_id), aside)
            except FileNotFoundError:
                if not self._folder.exists():
                    raise
                return
            os.unlink(aside)

    def flush(self) -> None:
        """Write everything back to the disk, and to those that sources were removed from."""
        with translated(self._root, "write back"):
            for folder in {os.stat(self._root).st_dev: self._root, **self._left}.values():
                sync_file_system(folder)
            self._left.clear()

    def close(self) -> None:
        """Remove the run's folder."""
        with suppress(OSError):
            self._tidy(self._folder)
            self._folder.rmdir()

    def _let_go(self, file_id: int, source: Path, caught: Path, hashed: os.stat_result | None) -> None:
        try:
            found = os.lstat(caught)
            if hashed is not None and found.st_ino == hashed.st_ino and identity_of(found) != identity_of(hashed):
                self._detach(file_id)
                raise ArchiveError(f"{source} was written to after it had been moved: it stays; see 'ingest verify'")
            if self._is_superfluous(file_id, caught):
                self._left[os.lstat(caught).st_dev] = source.parent
                os.unlink(caught)
        finally:
            if os.path.lexists(caught):
                _put_back(caught, source)

    def _detach(self, file_id: int) -> None:
        """Make a file that has another name elsewhere one of the archive's own."""
        target, aside = self._target(file_id), self._aside(file_id, "part")
        with suppress(OSError):
            if os.lstat(target).st_nlink > 1:
                shutil.copy2(target, aside)
                os.chmod(aside, READ_ONLY)
                os.rename(aside, target)

    def _target(self, file_id: int) -> str:
        return f"{self._root}/{id_to_path(file_id)}"

    def _aside(self, file_id: int, use: str) -> str:
        return f"{self._folder}/{file_id:x}.{use}"

    def _place(self, aside: str, file_id: int) -> None:
        target = self._target(file_id)
        parent = target.rpartition("/")[0]
        if parent not in self._made:
            os.makedirs(parent, exist_ok=True)
            self._made.add(parent)
        os.rename(aside, target)

    def _is_linked(self, file_id: int, identity: tuple[int, ...]) -> bool:
        with suppress(FileNotFoundError):
            return identity_of(os.lstat(self._target(file_id))) == identity
        return False

    def _is_superfluous(self, file_id: int, source: Path) -> bool:
        """Whether the file at ``source`` is the archive's own, the one that this run copied, or of the same bytes."""
        target, found = self._target(file_id), os.lstat(source)
        if not stat.S_ISREG(found.st_mode):
            return False
        if self._is_linked(file_id, identity_of(found)):
            return True
        if file_id in self._copied:
            return self._copied[file_id] == identity_of(found)
        return filecmp.cmp(source, target, shallow=False)

    def _adopt(self, earlier: Path) -> None:
        """Put an end to an earlier run: its folder is gone at once, what is in it afterwards."""
        adopted = self._folder / earlier.name
        with suppress(FileNotFoundError):
            os.rename(earlier, adopted)
            self._is_known = True
            self._tidy(adopted)
            adopted.rmdir()

    def _tidy(self, folder: Path) -> None:
        for name in os.listdir(folder):
            path = folder / name
            digits, _, use = name.partition(".")
            if path.is_dir():
                self._tidy(path)
                path.rmdir()
            elif use == "back" and not os.path.lexists(self._target(int(digits, 16))):
                self._place(str(path), int(digits, 16))  # killed before it stood at its source again
            else:
                path.unlink()

    @contextmanager
    def _changing(self, file_id: int, action: str) -> Iterator[None]:
        require_within(self._ids, file_id)
        with translated(self._root, action):
            yield


@contextmanager
def translated(root: Path, action: str) -> Iterator[None]:
    """An error of the system as one of the archive at ``root``."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"cannot {action} the archive {root}: {error.strerror}") from error


def _put_back(caught: Path, source: Path) -> None:
    """Give a file its name again, unless yet another stands there."""
    try:
        os.link(caught, source, follow_symlinks=False)
    except FileExistsError:
        return  # both are kept
    except OSError:
        if not os.path.lexists(source):
            os.rename(caught, source)
        return
    os.unlink(caught)


def _write(descriptor: int, chunk: bytes) -> None:
    written = os.write(descriptor, chunk)
    while written < len(chunk):
        written += os.write(descriptor, memoryview(chunk)[written:])

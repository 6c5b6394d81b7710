"""How one run of a job changes the archive's folder.

A file is stored or removed only by renaming it out of or into the folder of the run that does it; see `RunFolder`.

Durability is paid for once a batch, not once a file: `flush` asks the kernel to write the whole file system back
(syncfs), which for 20,000 small files costs as much as some hundred single fsyncs. Where the platform has no syncfs,
every file is fsynced.
"""

import errno
import filecmp
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ...bundle.content import Content
from ...bundle.fingerprint import identity_of
from ...copying import restore_to
from ...disk import CANNOT_LINK, HAS_SYNCFS, Writeback, sync_file_system
from ...errors import ArchiveError, RollbackFailed, SourceChanged, SourceMissing
from ..base import require_within
from ..sources import each_caught, is_same_file, not_removed, put_back
from .cloning import Cloner
from .layout import READ_ONLY
from .mark import Mark
from .noted import Noted, is_usable
from .run_folder import RunFolder

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class EmbeddedWriter:
    """One run's way to change the archive that has the ``mark``. Raises OSError where its folder cannot be made."""

    resent = 0

    def __init__(
        self,
        mark: Mark,
        ids: range,
        fence: int,
        sync: Callable[[Path], None] = sync_file_system,
        *,
        notes: bool = False,
    ) -> None:
        self._notes = notes and is_usable()
        self._root, self._mark, self._ids, self._fence, self._sync = mark.root, mark, ids, fence, sync
        self._run = RunFolder(mark.root, ids, fence)
        self._cloner = Cloner(mark.root)
        self._copied: dict[int, tuple[int, ...]] = {}
        self._released_in: dict[int, Path] = {}

    def put(self, file_id: int, content: Content) -> None:
        """Write ``content`` aside or clone it, check it on the way, then rename it into place."""
        require_within(self._ids, file_id)
        aside = self._run.aside(file_id, "part")
        try:
            _write_file(aside, content, self._cloner, notes=self._notes)
            self._run.place(aside, file_id)
        except OSError as error:
            # Not by a context, which for a small file costs as much as one of the system's calls.
            raise self._mark.explained(error, f"store {content.name!r} in") from error

    def stage(self, file_id: int, content: Content) -> None:
        """Write ``content`` aside or clone it, and check it on the way."""
        with self._changing(file_id, f"store {content.name!r} in"):
            _write_file(self._run.aside(file_id, "part"), content, self._cloner, notes=self._notes)

    def place(self, file_id: int) -> None:
        """Rename what was written aside into place."""
        with self._changing(file_id, f"store file {file_id} in"):
            self._run.place(self._run.aside(file_id, "part"), file_id)

    def move(self, file_id: int, source: Path, size: int, content: Content | None) -> None:
        """Give the file a second name in the archive, where that can be done; else copy it."""
        if content is None:
            raise ArchiveError(f"the archive {self._root} is on this machine, but {source} is not")
        found = os.fstat(content.descriptor)
        before = identity_of(found)
        with self._changing(file_id, f"move {str(source)!r} into"):
            if self._is_linked(file_id, before):
                return
            aside = self._run.aside(file_id, "link")
            if not _link(source, aside, found):
                self.put(file_id, content)
                # Who may read it is remembered until its source is removed, for when it is moved back.
                os.chmod(self._run.target(file_id), stat.S_IMODE(found.st_mode) & READ_ONLY)
                self._copied[file_id] = before
                return
            if identity_of(os.lstat(aside)) != before:
                os.unlink(aside)
                raise SourceChanged(f"the source {source} was changed after it was hashed")
            self._run.place(aside, file_id)

    def move_back(self, file_id: int, source: Path) -> None:
        """Remove the archive's name of a file that is still at ``source``; else bring it back there.

        Raises RollbackFailed where another file is there now, or where the moved one is missing.
        """
        target = self._run.target(file_id)
        with self._changing(file_id, f"move {str(source)!r} back from"):
            if os.path.lexists(source):
                if os.path.lexists(target) and not self._is_archived(file_id, source):
                    raise RollbackFailed(f"the archive still holds {target}: another file is at {source} now")
                self.delete(file_id)
                return
            if not os.path.lexists(target):
                if self._run.had_predecessor:
                    return  # someone else removed it before it was moved
                raise RollbackFailed(f"neither {source} nor {target} exists: is the archive's disk mounted?")
            aside = self._run.aside(file_id, "back")
            os.rename(target, aside)
            found = os.stat(aside)
            try:
                # Here, where nobody else can put another in its place.
                os.chmod(aside, found.st_mode | stat.S_IWUSR)
                restore_to(source, Path(aside))
            except BaseException:
                os.chmod(aside, found.st_mode)
                os.rename(aside, target)
                raise
            if found.st_nlink > 1:
                os.chmod(aside, found.st_mode)  # what is at the source is a copy
            os.unlink(aside)

    def holds(self, file_id: int, hashed: os.stat_result) -> bool:
        """Whether the file is the very one that was hashed, and was not written to since."""
        return self._is_linked(file_id, identity_of(hashed))

    def was_changed(self, file_id: int, hashed: os.stat_result) -> bool:
        """Whether a linked file was modified, under whatever name it has elsewhere."""
        with self._mark.guarding(f"check file {file_id} in"):
            found = os.lstat(self._run.target(file_id))
        is_linked = (found.st_dev, found.st_ino) == (hashed.st_dev, hashed.st_ino)
        return is_linked and identity_of(found) != identity_of(hashed)

    def release(self, file_id: int, source: Path, hashed: os.stat_result | None) -> None:
        """Remove the source's own name, if it still is the file that was moved, and make the archive's read-only."""
        require_within(self._ids, file_id)
        try:
            # Gone where another run has taken over: then what is at the source is no longer this one's concern.
            os.stat(self._run.path)
            for caught in each_caught(source, self._ids.start, self._fence, file_id, hashed):
                self._remove_caught(file_id, source, caught, hashed)
            # Whoever has renamed it meanwhile still has it.
            self._detach(file_id)
            os.chmod(self._run.target(file_id), READ_ONLY)
        except OSError as error:
            trouble = not_removed(error, source, str(self._root))
            if not trouble.transient:
                self._detach(file_id)
            raise trouble from error

    def delete(self, file_id: int) -> None:
        """Remove the file."""
        with self._changing(file_id, f"delete file {file_id} from"):
            aside = self._run.aside(file_id, "gone")
            try:
                os.rename(self._run.target(file_id), aside)
            except FileNotFoundError:
                if not self._run.path.exists():
                    raise
                return
            os.unlink(aside)

    def flush(self) -> None:
        """Sync the archive's file system, and those that sources were removed from."""
        with self._mark.guarding("sync"):
            for folder in {os.stat(self._root).st_dev: self._root, **self._released_in}.values():
                self._sync(folder)
            self._released_in.clear()

    def close(self) -> None:
        """Remove the run's folder."""
        self._run.close()

    def _remove_caught(self, file_id: int, source: Path, caught: Path, hashed: os.stat_result | None) -> None:
        try:
            found = os.lstat(caught)
            if stat.S_ISREG(found.st_mode) and not found.st_size and os.stat(self._run.target(file_id)).st_size:
                os.unlink(caught)  # of a run that was killed before it renamed the source to it
                return
            is_other = hashed is not None and not is_same_file(found, hashed)
            if hashed is not None and not is_other and identity_of(found) != identity_of(hashed):
                self._detach(file_id)
                raise ArchiveError(f"{source} was modified after it was moved, so it is kept; see 'ingest verify'")
            if not is_other and self._is_archived(file_id, caught):
                self._released_in[os.lstat(caught).st_dev] = source.parent
                os.unlink(caught)
        finally:
            if os.path.lexists(caught):
                put_back(caught, source)

    def _detach(self, file_id: int) -> None:
        """Make a file that has another name elsewhere one of the archive's own."""
        target, aside = self._run.target(file_id), self._run.aside(file_id, "part")
        with suppress(OSError):
            if os.lstat(target).st_nlink > 1:
                shutil.copy2(target, aside)
                os.chmod(aside, READ_ONLY)
                os.rename(aside, target)

    def _is_linked(self, file_id: int, identity: tuple[int, ...]) -> bool:
        with suppress(FileNotFoundError):
            return identity_of(os.lstat(self._run.target(file_id))) == identity
        return False

    def _is_archived(self, file_id: int, source: Path) -> bool:
        """Whether the file at ``source`` is the archive's own, the one that this run copied, or of the same bytes."""
        target, found = self._run.target(file_id), os.lstat(source)
        if not stat.S_ISREG(found.st_mode):
            return False
        if self._is_linked(file_id, identity_of(found)):
            return True
        if file_id in self._copied:
            return self._copied[file_id] == identity_of(found)
        return filecmp.cmp(source, target, shallow=False)

    @contextmanager
    def _changing(self, file_id: int, action: str) -> Iterator[None]:
        require_within(self._ids, file_id)
        with self._mark.guarding(action):
            yield


def _link(source: Path, aside: str, found: os.stat_result) -> bool:
    """Give the source a second name; whether that can be done. Raises SourceMissing and OSError."""
    if found.st_nlink > 1:  # one of its other names may be anyone's, another job's too
        return False
    try:
        os.link(source, aside, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOENT and not os.path.lexists(source):
            raise SourceMissing(f"the source {source} no longer exists") from error
        if error.errno not in CANNOT_LINK:
            raise
        return False
    return True


def _write_file(aside: str, content: Content, cloner: Cloner, *, notes: bool) -> None:
    """Write a new file, or none where not all of it can be written; ``notes`` has a second digest kept with it.

    This is the one place where bytes are stored.
    """
    # No attribute can be given to a file that its owner may not write to, though it is open.
    descriptor = os.open(aside, NEW_FILE, READ_ONLY | stat.S_IWUSR if notes else READ_ONLY)
    try:
        second = Noted() if notes else None
        if second is not None:
            content = replace(content, also=second.begin)
        if not cloner.clone(content, descriptor):
            _copy(content, descriptor)
        if second is not None:
            second.note(descriptor)
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & READ_ONLY)
        os.utime(descriptor, (content.mtime, content.mtime))
        if not HAS_SYNCFS:
            os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
    finally:
        os.close(descriptor)


def _copy(content: Content, descriptor: int) -> None:
    writeback = Writeback(descriptor)
    for chunk in content.chunks():
        _write(descriptor, chunk)
        writeback.wrote(len(chunk))
    writeback.end()


def _write(descriptor: int, chunk: bytes) -> None:
    written = os.write(descriptor, chunk)
    while written < len(chunk):
        written += os.write(descriptor, memoryview(chunk)[written:])

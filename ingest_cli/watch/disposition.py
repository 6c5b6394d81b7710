"""What becomes of a file in a drop folder once its job has ended, or once it is clear that it can have none."""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..disk import explained, sync_folder
from ..errors import ResourceUnavailable, SettingsError, SourceError
from ..jobs.job import Job
from .candidates import Candidate
from .explanation import (
    Story,
    explain,
    is_explained,
    is_kept,
    remove_explanation,
    story_of_failed,
    story_of_kept,
    story_of_refused,
)
from .set_aside import Replaced, SetAside, free_places, require_unchanged, set_aside
from .unarchived import unarchived

# Who runs the watcher may not write there: the log alone says why a file failed.
NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}


class Away(ResourceUnavailable):
    """The folder that files are moved to is not there now: a matter of all files, not of one."""


class Destination:
    """The folder that an ``option`` names, which files are moved to.

    It is not made, neither here nor later: where it is not there, its disk may not be. Raises SettingsError then.
    """

    def __init__(self, path: Path, option: str) -> None:
        self.path, self.option = path.absolute(), option
        if not self.path.is_dir():
            raise SettingsError(f"there is no folder {path} for {option}: make it, or mount its disk")
        self._found = self.path.stat()
        self._is_synced = True

    def __str__(self) -> str:
        return str(self.path)

    def require(self) -> None:
        """Raise Away where the folder is not there, or a mount point without its disk stands in its place."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise Away(f"the folder {self.path} of {self.option} is away: {error.strerror}") from error
        # A share may get another device's number when it is mounted anew; a folder that is made anew has its disk's.
        if found.st_dev != self._found.st_dev and found.st_ino != self._found.st_ino:
            raise Away(f"the folder {self.path} of {self.option} is on another disk than it was")

    def move(self, aside: SetAside, place: Path) -> None:
        """Move what is set aside to a ``place`` in the folder, for `sync` to make that durable. Raises OSError."""
        self._is_synced = False
        aside.move_to(place)

    def sync(self) -> None:
        """Have what was moved here survive a loss of power: all of it with one sync."""
        if self._is_synced:
            return
        try:
            sync_folder(self.path)
        except OSError as error:
            raise explained(error, f"cannot sync the folder {self.path} of {self.option}", SourceError) from error
        self._is_synced = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Disposition:
    """Ingested files go to the folder ``done``, failed ones to ``failed``; None leaves them where they are.

    ``delete`` deletes ingested files instead, if all that is in them is archived. Nothing is ever overwritten.
    """

    done: Destination | None = None
    failed: Destination | None = None
    delete: bool = False

    @property
    def outputs(self) -> dict[str, Path]:
        """The folders that files are moved to, by the options that name them."""
        return {to.option: to.path for to in self._destinations}

    def carry_out(self, candidate: Candidate, job: Job, spool: Path) -> bool:
        """Dispose of the file of an ended job; return whether it is still that file. `sync` makes that durable.

        A bundle is unpacked in ``spool`` where it must be looked into. Raises SourceError where it cannot be disposed
        of, and where it is ingested but may not be deleted; ResourceUnavailable where it may be done later, as Away is.
        """
        try:
            if job.is_done:
                self._complete(candidate, job, spool)
            else:
                _fail(candidate, story_of_failed(candidate.path, job), self.failed)
        except Replaced:
            return False  # the next look sees to that
        except OSError as error:
            message = f"cannot move or delete {candidate.path} after job {job.job_id}"
            raise explained(error, message, SourceError) from error
        return True

    def refuse(self, candidate: Candidate, reason: str) -> None:
        """Dispose of a file that cannot become a job as of one that failed. Raises as `carry_out` does."""
        # One that is made for files to come is not taken away from whoever copies them.
        failed = None if _is_bare(candidate.path) else self.failed
        try:
            _fail(candidate, story_of_refused(candidate.path, reason), failed)
        except Replaced:
            pass
        except OSError as trouble:
            raise explained(trouble, f"cannot move {candidate.path}", SourceError) from trouble

    def sync(self) -> None:
        """Have what was moved survive a loss of power. Raises SourceError and ResourceUnavailable."""
        for to in self._destinations:
            to.sync()

    @property
    def _destinations(self) -> list[Destination]:
        return [to for to in (self.done, self.failed) if to is not None]

    def _complete(self, candidate: Candidate, job: Job, spool: Path) -> None:
        if self.delete:
            if is_kept(candidate.path, job):
                return
            self._delete(candidate, job, spool)
        elif self.done is not None:
            self.done.require()
            with set_aside(candidate) as aside:
                _move(aside, self.done, candidate.path.name)
        with suppress(OSError):
            remove_explanation(candidate.path)

    def _delete(self, candidate: Candidate, job: Job, spool: Path) -> None:
        require_unchanged(candidate, candidate.path)
        missing = unarchived(candidate.path, job, spool)
        if not missing:
            with set_aside(candidate) as aside:
                aside.delete()
            return
        reason = f"it is ingested, but kept: {missing}"
        _fail(candidate, story_of_kept(candidate.path, job, reason), self.failed)
        raise SourceError(f"{candidate.path}: job {job.job_id}: {reason}")


def _fail(candidate: Candidate, story: Story, failed: Destination | None) -> None:
    """Move it to ``failed`` with its story, or write that beside it where there is no such folder."""
    path = candidate.path
    if failed is not None:
        failed.require()
        with set_aside(candidate) as aside:
            _move_explained(aside, failed, path.name, story)
        with suppress(OSError):
            remove_explanation(path)
    elif not is_explained(path, story):
        try:
            explain(path, story)
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise explained(error, f"cannot say beside {path} why it failed", SourceError) from error


def _move(aside: SetAside, to: Destination, name: str) -> None:
    for place in free_places(to.path, name):
        with suppress(FileExistsError):
            to.move(aside, place)
            return


def _move_explained(aside: SetAside, to: Destination, name: str, story: Story) -> None:
    """Move it with what explains it, which is there first: a failed file never lies there without a reason."""
    for place in free_places(to.path, name):
        if os.path.lexists(place):
            continue
        explanation = explain(place, story)
        try:
            to.move(aside, place)
        except FileExistsError:
            explanation.unlink(missing_ok=True)
        except BaseException:
            explanation.unlink(missing_ok=True)
            raise
        else:
            return


def _is_bare(path: Path) -> bool:
    """Whether it is a folder without any files, in whatever folders."""
    return path.is_dir() and not any(names for _, _, names in os.walk(path))

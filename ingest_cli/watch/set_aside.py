"""What is disposed of is set aside first: out of the reach of all who may write in the drop folder.

It keeps its name, in a hidden folder that only this program may write in. So what is looked at is what is moved or
deleted, whatever gets its old name meanwhile. What a watcher that was killed has left there, the next one puts back.
"""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..copying import copy_to, copy_tree
from ..disk import fitting, opened, rename_new
from ..errors import SourceError
from .candidates import Candidate, fingerprint_at

HIDDEN = re.compile(r"\.ingest-[0-9a-f]{16}\.aside")
# What a folder is called while it is deleted: no candidate's name begins with a dot.
DELETED = ".deleted"


class Replaced(SourceError):
    """The candidate is gone, or something else has its name by now."""


class SetAside:
    """A candidate that is at ``path`` for as long as it is set aside, in the folder open as ``folder``."""

    def __init__(self, candidate: Candidate, path: Path, folder: int) -> None:
        self.path = path
        self._candidate, self._folder = candidate, folder
        self._is_folder = stat.S_ISDIR(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode)

    def delete(self) -> None:
        """Delete it. Raises OSError."""
        if not self._is_folder:
            os.unlink(self.path.name, dir_fd=self._folder)
            return
        name = self.path.name
        if HIDDEN.fullmatch(self.path.parent.name):
            # A half of it is not to be put back, and to be taken for a new one.
            os.rename(name, DELETED, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            name = DELETED
        shutil.rmtree(name, dir_fd=self._folder)

    def move_to(self, place: Path) -> None:
        """Move it to ``place``, where it appears whole; a sync of that folder makes it durable. Raises OSError:
        FileExistsError where something is there."""
        try:
            rename_new(self.path.name, place, self._folder)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy_to(place)  # durably
            self.delete()

    def _copy_to(self, place: Path) -> None:
        copy, remove = (copy_tree, shutil.rmtree) if self._is_folder else (copy_to, os.unlink)
        copy(place, self.path.name, self._folder)
        try:
            require_unchanged(self._candidate, self.path)
        except BaseException:
            remove(place)
            raise


def require_unchanged(candidate: Candidate, path: Path) -> None:
    """Raise Replaced where what is at ``path`` is not what was seen in the drop folder any more."""
    try:
        found = fingerprint_at(path, candidate.path)
    except FileNotFoundError:
        found = ""
    if found != candidate.fingerprint:
        raise Replaced(f"{candidate.path} is gone, or was changed or replaced")


@contextmanager
def set_aside(candidate: Candidate) -> Iterator[SetAside]:
    """The candidate, set aside; at the end it is put back unless it was moved or deleted.

    Raises Replaced where it is not there any more, and OSError where it cannot be set aside: it is where it was then.
    """
    with _hiding_place(candidate.path) as (path, folder):
        try:
            os.rename(candidate.path, path.name, dst_dir_fd=folder)
        except FileNotFoundError as error:
            raise Replaced(f"{candidate.path} is gone") from error
        try:
            aside = SetAside(candidate, path, folder)
            require_unchanged(candidate, path)
            yield aside
        finally:
            _put_back(path.name, folder, candidate.path)


def put_back_all(folder: Path) -> Iterator[str]:
    """Put back whatever is set aside in a drop folder; say of what that cannot be done. Raises OSError.

    Only for who has the folder's lock: nobody else may be disposing of something there.
    """
    with os.scandir(folder) as entries:
        left = [
            Path(entry) for entry in entries if HIDDEN.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
    for hidden in left:
        try:
            with opened(hidden, os.O_NOFOLLOW) as descriptor:
                for name in os.listdir(descriptor):
                    if name == DELETED and _is_ours(os.fstat(descriptor)):
                        shutil.rmtree(name, dir_fd=descriptor)
                    else:
                        _put_back(name, descriptor, folder / name)
            hidden.rmdir()
        except OSError as error:
            yield f"cannot put back what is in {hidden}: {error.strerror}"


def free_places(folder: Path, name: str) -> Iterator[Path]:
    """Where something called ``name`` may be put: first under this name, then with a number at its end."""
    yield folder / fitting(name, "", folder)
    number = 0
    while True:
        number += 1
        yield folder / fitting(name, f".{number}", folder)


def _put_back(name: str, hidden: int, path: Path) -> None:
    for place in free_places(path.parent, path.name):
        try:
            rename_new(name, place, hidden)
            return
        except FileExistsError:
            continue
        except FileNotFoundError:
            return  # it was moved or deleted


@contextmanager
def _hiding_place(path: Path) -> Iterator[tuple[Path, int]]:
    """Where to set ``path`` aside, and the folder that it is in then, open."""
    hidden = path.with_name(f".ingest-{secrets.token_hex(8)}.aside")
    try:
        hidden.mkdir(mode=0o700)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # A full disk must not keep what fills it from being deleted.
        with opened(path.parent) as folder:
            yield hidden.with_suffix(""), folder
        return
    try:
        with opened(hidden, os.O_NOFOLLOW) as folder:
            yield hidden / path.name, folder
    finally:
        with suppress(OSError):  # where something could not be put back, which is tried again later
            hidden.rmdir()


def _is_ours(found: os.stat_result) -> bool:
    """Whether nobody else can have put anything into a folder."""
    return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077

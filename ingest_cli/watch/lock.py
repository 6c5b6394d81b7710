"""One watcher per folder: a lock that ends with its process."""

import errno
import fcntl
import hashlib
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from ..disk import explained
from ..errors import JobBusy, SourceError
from ..jobs.process import this_process

LOCK_NAME = ".ingest-watch.lock"
# The folder cannot be written, has no room, or someone has put a folder, a link or a socket in place of the lock.
NOT_IN_FOLDER = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.EISDIR, errno.ELOOP, errno.ENXIO),
}


class FolderLock:
    """Held from when it is made until `release`, or until the process ends.

    The lock is a file in the folder, so that watchers on other machines see it; in the ``spool`` where the folder
    cannot be written or has no room, or where something else has the lock's name. ``now`` is the time at which it was
    locked, by its file system's clock. Raises JobBusy where another watcher has the folder, SourceError where there is
    none, and ResourceUnavailable where it cannot be locked now, as where a file system gives no locks.
    """

    def __init__(self, folder: Path, spool: Path) -> None:
        self._descriptor = _open(folder, spool)
        self.now = time.time()
        found = os.fstat(self._descriptor)
        # What someone else has put there may be anyone's file under another name: it is locked, but not written to.
        is_ours = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace") if is_ours else ""
            os.close(self._descriptor)
            raise JobBusy(f"{folder} is already watched by {holder or 'another process'}") from error
        except OSError as error:
            os.close(self._descriptor)
            raise explained(error, f"cannot lock {folder}", SourceError) from error
        if is_ours:
            with suppress(OSError):  # such as on a full disk: only a message of another watcher is without its name
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, str(this_process()).encode(), 0)
                self.now = os.fstat(self._descriptor).st_mtime

    def release(self) -> None:
        """Let another watcher have the folder."""
        os.close(self._descriptor)


def in_spool(folder: Path, spool: Path, suffix: str) -> Path:
    """Where in the ``spool`` to keep what is of the drop folder."""
    return spool / f"watch-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()}.{suffix}"


def _open(folder: Path, spool: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(folder / LOCK_NAME, flags, 0o644)
    except OSError as error:
        if error.errno not in NOT_IN_FOLDER:
            raise explained(error, f"cannot watch {folder}", SourceError) from error
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(in_spool(folder, spool, "lock"), flags, 0o600)
    except OSError as error:
        raise explained(error, f"cannot lock {folder}", SourceError) from error

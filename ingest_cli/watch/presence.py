"""Which of the watched folders are there now."""

import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import JobBusy, SourceError
from ..pipeline.runner import Runner
from .events import Events
from .folder import DropFolder
from .lock import FolderLock


class Presence:
    """Which of the folders are there now, each locked, and what the kernel says of them.

    ``notify`` is told of folders that come and go. A ``with`` block raises JobBusy or SourceError where one of them
    cannot be locked at its beginning.
    """

    def __init__(self, folders: list[DropFolder], spool: Path, notify: Callable[[str], None], *, poll: bool) -> None:
        self._folders, self._spool, self._notify, self._poll = folders, spool, notify, poll
        self._wake = threading.Event()
        self._locks: dict[Path, tuple[FolderLock, int]] = {}
        self._events: Events | None = None

    def __enter__(self) -> "Presence":
        for folder in self._folders:
            self._lock(folder.path)
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_listening()
        for lock, _inode in self._locks.values():
            lock.release()

    def renamed(self) -> set[Path]:
        """The files that were renamed into place since the last call."""
        self._wake.clear()
        return self._events.renamed() if self._events is not None else set()

    def wait(self, runner: Runner, seconds: float) -> None:
        """Wait until the kernel says something, or ``seconds``; not beyond a signal."""
        remaining = seconds
        while remaining > 0 and not runner.interrupted and not self._wake.wait(min(remaining, 0.2)):
            remaining -= 0.2

    def folders(self) -> list[DropFolder]:
        """The folders that are there, having seen which came and went."""
        changed = False
        for folder in self._folders:
            inode = _inode(folder.path)
            held = self._locks.get(folder.path)
            if held is not None and held[1] != inode:
                held[0].release()
                del self._locks[folder.path]
                held, changed = None, True
                if inode is None:
                    self._notify(f"{folder.path} is gone: waiting until it is back")
            if held is None and inode is not None:
                try:
                    self._lock(folder.path)
                except (JobBusy, SourceError) as error:
                    self._notify(str(error))
                    continue
                self._notify(f"{folder.path} is back")
                changed = True
        if changed:
            self._listen()
        return [folder for folder in self._folders if folder.path in self._locks]

    def _lock(self, path: Path) -> None:
        lock = FolderLock(path, self._spool)
        self._locks[path] = (lock, _inode(path) or 0)

    def _listen(self) -> None:
        self._stop_listening()
        if not self._poll:
            try:
                self._events = Events(list(self._locks), self._wake)
            except OSError as error:
                self._poll = True
                self._notify(f"no file system events ({error.strerror}): polling the folders instead")

    def _stop_listening(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino if path.is_dir() else None
    except OSError:
        return None

"""Which of the watched folders are there now."""

import threading
import time
from pathlib import Path

from ..errors import IngestError, JobBusy, ResourceUnavailable, SourceError
from ..mounts import on_network
from ..pipeline.runner import Runner
from .events import Events, Told
from .folder import DropFolder
from .lock import FolderLock
from .own import Identity, identity
from .rounds import POLL_SECONDS, Rounds
from .said import Audience

# How long what the kernel tells is gathered before it is looked at.
GATHER_SECONDS = 0.1


class Presence:
    """Which of the folders are there now, each locked, and what there is to look at in them.

    Each is looked at every ``seconds``, and more often where the kernel tells of nothing, or is not to be asked
    (``poll``). The ``audience`` is told of folders that come and go. At its beginning, a ``with`` block raises why the
    first cannot be locked, where none can.
    """

    def __init__(
        self, folders: list[DropFolder], spool: Path, audience: Audience, *, seconds: float, poll: bool
    ) -> None:
        self._folders, self._spool, self._notify = folders, spool, audience.problem
        self._seconds, self._poll = seconds, poll
        self._wake = threading.Event()
        self._locks: dict[Path, tuple[FolderLock, Identity | None]] = {}
        self._troubles: dict[Path, str] = {}
        self._events: Events | None = None
        self._rounds: list[Rounds] = []

    def __enter__(self) -> "Presence":
        troubles = [self._lock(folder.path) for folder in self._folders]
        if not self._locks and troubles[0] is not None:
            raise troubles[0]
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_listening()
        for lock, _found in self._locks.values():
            lock.release()

    @property
    def paths(self) -> list[Path]:
        """The folders that are there."""
        return list(self._locks)

    @property
    def polls(self) -> bool:
        """Whether the folders are read over and over, since nobody tells of what is new in them."""
        return self._events is None

    def told(self) -> Told:
        """What the kernel has told since the last call."""
        self._wake.clear()
        return self._events.take() if self._events is not None else Told()

    def wait(self, runner: Runner) -> None:
        """Wait until there may be something to look at; not beyond a signal."""
        left = min([POLL_SECONDS, *(rounds.seconds_left for rounds in self._rounds)])
        until = time.monotonic() + left
        runner.wait(GATHER_SECONDS)
        while time.monotonic() < until and not runner.interrupted and not self._wake.is_set():
            self._wake.wait(min(until - time.monotonic(), 0.2))

    def rounds(self) -> list[Rounds]:
        """What to look at in the folders that are there, having seen which came and went."""
        if any([self._has_changed(folder.path) for folder in self._folders]):  # noqa: C419 - each is looked at
            self._listen()
        return self._rounds

    def _has_changed(self, path: Path) -> bool:
        found = _folder_at(path)
        held = self._locks.get(path)
        if held is not None and held[1] == found:
            return False
        if held is not None:
            held[0].release()
            del self._locks[path]
            if found is None:
                self._notify(f"{path} is gone: waiting until it is back")
        elif found is None:
            return False
        if found is not None and self._lock(path) is None:
            self._notify(f"{path} is back" if held is None else f"{path} was replaced, mounted or unmounted")
            return True
        return held is not None

    def _lock(self, path: Path) -> IngestError | None:
        """Lock the folder; return why that is not possible, which is said once."""
        try:
            lock = FolderLock(path, self._spool)
        except (JobBusy, SourceError, ResourceUnavailable) as error:
            if self._troubles.get(path) != str(error):
                self._notify(str(error))
            self._troubles[path] = str(error)
            return error
        self._locks[path] = (lock, _folder_at(path))
        self._troubles.pop(path, None)
        return None

    def _listen(self) -> None:
        self._stop_listening()
        if not self._poll and not any(on_network(path) for path in self._locks):
            try:
                self._events = Events(list(self._locks), self._wake)
            except OSError as error:
                self._notify(f"no file system events ({error.strerror}): reading the folders every {POLL_SECONDS:g} s")
        present = [folder for folder in self._folders if folder.path in self._locks]
        self._rounds = [Rounds(folder, self._seconds, polls=self.polls) for folder in present]

    def _stop_listening(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None


def _folder_at(path: Path) -> Identity | None:
    try:
        return identity(path.stat()) if path.is_dir() else None
    except OSError:
        return None

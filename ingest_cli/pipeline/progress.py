"""The progress of a run, reported to its observer and to the job's lease."""

import threading
import time
from collections.abc import Callable

from ..errors import Interrupted
from ..jobs.lease import Lease
from ..throttle import Throttle
from .observer import Observer


class Progress:
    """The progress of the run that has ``lease``. Any call raises LeaseLost or StopRequested where it is to stop.

    What is read is read no faster than the ``throttle`` allows, which may be that of several runs at once.
    """

    def __init__(self, lease: Lease, observer: Observer, throttle: Throttle) -> None:
        self._lease, self._observer, self._throttle = lease, observer, throttle
        self._lock = threading.Lock()
        self._begin(0)

    @property
    def piece(self) -> int:
        """How many bytes are best read at once."""
        return self._throttle.piece

    def stage(self, task: str) -> None:
        """The run enters a stage. Raises Interrupted too."""
        self._lease.enter(task)
        self._begin(0)
        self._observer.stage(task)

    def plan(self, files: int, total_bytes: int) -> None:
        """So much is to be checked, and then stored."""
        self._begin(total_bytes)
        self._observer.plan(files, total_bytes)

    def warn(self, message: str) -> None:
        """Something that does not stop the job, but that a person should see."""
        self._lease.tell(message)
        self._observer.warn(message)

    def note(self, message: str) -> None:
        """Something that a person may like to know."""
        self._lease.tell(message)
        self._observer.note(message)

    def unpacking(self, length: int) -> None:
        """So many more bytes were unpacked. Raises Interrupted too."""
        self._lease.require_uninterrupted()
        self._pace(length)

    def checking(self, length: int) -> None:
        """So many more bytes were read to check them. Raises Interrupted too: what was checked is not worth much."""
        if self._lease.interrupted:
            raise Interrupted
        self._pace(length)
        self._checked.read(length)

    def checked_to_end(self, length: int, size: int) -> None:
        """A file of this size was checked, for which its last bytes were just read. Raises Interrupted too."""
        if self._lease.interrupted:
            raise Interrupted
        self._pace(length)
        self._checked.finish(size)

    def checked(self, size: int) -> None:
        """A file of this size was checked, even where nothing of it was read."""
        self._checked.finish(size)

    def staging(self, length: int) -> None:
        """So many more bytes were read, and hashed and written at once. Raises Interrupted too: no other run goes on
        with them."""
        self.checking(length)
        self._stored.read(length)

    def storing(self, length: int) -> None:
        """So many more bytes were read to store them."""
        self._pace(length)
        self._stored.read(length)

    def stored(self, size: int) -> None:
        """A file of this size was stored, by this run or an earlier one."""
        self._stored.finish(size)

    def _pace(self, length: int) -> None:
        if self._lease.abandoned:
            raise Interrupted
        if self._throttle.is_off:
            return
        if seconds := self._throttle.pause(length, time.monotonic()):
            # What is interrupted is to end soon.
            self._lease.wait(seconds)

    def _begin(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._checked = _Phase(self, self._observer.checked)
        self._stored = _Phase(self, self._observer.stored)

    def _note(self) -> None:
        self._lease.require()
        if self._total_bytes:
            done = self._checked.bytes + self._stored.bytes
            self._lease.progress(100 * done / (2 * self._total_bytes))


class _Phase:
    """One of the two things that are done with every byte, whether it is read for each of them or once."""

    def __init__(self, progress: Progress, tell: Callable[[int, int], None]) -> None:
        self._progress, self._tell = progress, tell
        self.bytes = self._finished = 0

    def read(self, length: int) -> None:
        with self._progress._lock:
            self.bytes += length
        self._progress._note()
        self._tell(length, 0)

    def finish(self, size: int) -> None:
        with self._progress._lock:
            self._finished += size
            # It was read at once, moved, stored by an earlier run, or parts of others were sent twice.
            unread = max(0, self._finished - self.bytes)
            self.bytes += unread
        self._progress._note()
        self._tell(unread, 1)

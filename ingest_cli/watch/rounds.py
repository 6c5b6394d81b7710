"""When a drop folder is looked at, and which of its files: so that it costs little, however many files stay in it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..disk import opened
from ..jobs.store import JobStore
from .candidates import names_in
from .folder import DropFolder

POLL_SECONDS = 2.0
# After what is wrong with a folder, it is looked at again no sooner than this.
TROUBLE_SECONDS = 5.0
# What is done over and over rests for so many times as long as it took.
RESTS = 100
# It may have taken long for once: because there was much to move, or a disk was slow.
LONGEST_REST = 600.0


class Pace:
    """When something is due that is done every ``seconds``, and less often where it takes long."""

    def __init__(self, seconds: float, rests: float = RESTS) -> None:
        self._seconds, self._rests = seconds, rests
        self.due = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to do it."""
        return time.monotonic() >= self.due

    @property
    def seconds_left(self) -> float:
        """In how many seconds it is due."""
        return max(0.0, self.due - time.monotonic())

    @contextmanager
    def doing(self) -> Iterator[None]:
        """It is done in the block."""
        begun = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            self.due = now + max(self._seconds, min(LONGEST_REST, self._rests * (now - begun)))


class Rounds:
    """What of ``folder`` to look at next.

    All files are looked at every ``seconds``. In between the kernel tells which are new; where it does not, and
    ``polls`` is set, their names are read when the folder has changed, and now and then in any case: not every file
    system gives a folder a new time.
    """

    def __init__(self, folder: DropFolder, seconds: float, *, polls: bool) -> None:
        self.folder, self._polls = folder, polls
        self._whole = Pace(min(seconds, POLL_SECONDS) if polls else seconds)
        self._listing = Pace(POLL_SECONDS, 2 * RESTS)
        self._failures = Pace(POLL_SECONDS, 2 * RESTS)
        self._names: set[str] = set()
        self._modified, self._is_unsure = 0, True

    def see(self, store: JobStore, told: set[str], renamed: set[str]) -> None:
        """See what is new, as far as it is time for that; the kernel has ``told`` of these names.

        Raises SourceError where the folder cannot be read.
        """
        news = self._news() if self._polls else set()
        if self._whole.is_due:
            with self._whole.doing():
                self.folder.see(store, None, renamed)
        else:
            self.folder.see(store, told | news | self._corrected(), renamed)

    def start_over(self) -> None:
        """Look at all again soon: something went wrong, and what there is to do was not done."""
        self._whole.due = time.monotonic() + TROUBLE_SECONDS

    @property
    def seconds_left(self) -> float:
        """In how many seconds to look again, if the kernel tells of nothing."""
        mine = POLL_SECONDS / 2 if self._polls else self._whole.seconds_left
        left = self.folder.seconds_left
        return mine if left is None else min(mine, left)

    def _news(self) -> set[str]:
        """The names that have come or gone, as far as that is looked at now."""
        modified = self._when_modified()
        if modified == self._modified and not self._is_unsure and not self._listing.is_due:
            return set()
        # Clocks of file systems tick slowly: what came just after the names were read may not show in the time.
        self._modified, self._is_unsure = modified, modified != self._modified
        with self._listing.doing():
            names = names_in(self.folder.path)
            news, self._names = names ^ self._names, names
        return news

    def _corrected(self) -> set[str]:
        """The failed files that were changed since, as far as that is looked at now."""
        if not self._polls or not self._failures.is_due:
            return set()
        with self._failures.doing():
            return set(self.folder.changed_failures())

    def _when_modified(self) -> int:
        try:
            # Opening makes a network file system ask its server.
            with opened(self.folder.path) as folder:
                return os.fstat(folder).st_mtime_ns
        except OSError:
            return 0  # what it is unable to, reading the names says

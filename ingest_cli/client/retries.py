"""How often, and for how long, something that fails for now is tried again."""

import logging
import time

from ..errors import Unavailable
from ..text import duration
from .observer import UploadObserver

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0

log = logging.getLogger(__name__)


class Pauses:
    """The pauses after failures in a row: each twice as long as the one before, for ``patience`` seconds together."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        """It works again."""
        self._next, self._left = FIRST_SECONDS, self._patience

    def next(self, at_least: float = 0.0) -> float | None:
        """The next pause, no shorter than ``at_least`` seconds; None where patience has run out."""
        if self._left <= 0:
            return None
        seconds = max(min(self._next, self._left), at_least)
        self._next = min(LONGEST_SECONDS, 2 * self._next)
        self._left -= seconds
        return seconds


class Retries:
    """Waits after a failure, for as long as failures in a row may last, and tells ``observer``."""

    def __init__(self, patience: float, observer: UploadObserver) -> None:
        self._pauses, self._observer = Pauses(patience), observer

    def worked(self) -> None:
        """Something has worked: the next failure is the first of its row."""
        self._pauses.reset()

    def wait(self, error: Unavailable, at_least: float = 0.0) -> None:
        """Wait before the next try. Raises ``error`` where it has lasted for too long."""
        seconds = self._pauses.next(at_least)
        if seconds is None:
            raise error
        log.info("%s; trying again in %s", error, duration(seconds))
        self._observer.retrying(error, seconds)
        time.sleep(seconds)

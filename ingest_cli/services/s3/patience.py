"""How often what storage failed at is tried again, and when."""

import time

from ...errors import IngestError
from .faults import Refused

# It is tried again so often, and may take so long in all, as a multiple of the timeout.
RETRIES = 6
RETRYING_TIMEOUTS = 3
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 5.0


class Patience:
    """Waits before something is tried again that storage may take ``timeout`` seconds to answer: longer each time, but
    not for ever."""

    def __init__(self, timeout: float) -> None:
        self._end, self._attempt = time.monotonic() + timeout * RETRYING_TIMEOUTS, 0

    def wait(self, error: IngestError) -> None:
        """Wait; raise the error where it was waited for long enough, or where no waiting helps."""
        pause = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**self._attempt)
        helps = error.transient and not isinstance(error, Refused)
        if not helps or self._attempt == RETRIES or time.monotonic() + pause > self._end:
            raise error
        self._attempt += 1
        time.sleep(pause)

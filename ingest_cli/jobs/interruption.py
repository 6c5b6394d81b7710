"""The wish that a run end soon."""

from contextlib import suppress
from queue import Empty, SimpleQueue


class Interruption:
    """Set once, from any thread or signal handler, and never cleared.

    A `threading.Event` will not do: a handler that comes while its thread holds the event's lock would wait for ever.
    """

    def __init__(self) -> None:
        self._set = self._urgent = False
        self._wake: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Have runs end that look at it, and end every `wait`."""
        self._set = True
        self._wake.put(None)

    def set_urgent(self) -> None:
        """Have what runs in other threads not come to the end of its file either."""
        self._urgent = True
        self.set()

    def is_urgent(self) -> bool:
        """Whether nothing is to be waited for."""
        return self._urgent

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until it is set."""
        if not self._set:
            with suppress(Empty):
                self._wake.get(timeout=seconds)
                self._wake.put(None)  # for whoever else waits

"""How commands end on a signal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Interrupted


def end_on_sigterm() -> None:
    """Have SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGTERM end a command as Ctrl-C does: both raise Interrupted."""
    end_on_sigterm()
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None

"""How a process leaves when it is told to: after the file at hand, or at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .worker import Worker

# How long the file at hand may take after a first SIGINT or SIGTERM.
GRACE_SECONDS = 3.0


@contextmanager
def leaving_gently(worker: Worker) -> Iterator[None]:
    """A first SIGINT or SIGTERM interrupts the worker; a second one, or GRACE_SECONDS, raise KeyboardInterrupt."""

    def at_once(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def in_a_moment(number: int, frame: FrameType | None) -> None:
        worker.interrupt()
        for again in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(again, at_once)
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, in_a_moment)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)

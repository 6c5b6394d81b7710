"""How commands end on a signal."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import ExitCode, Interrupted

END_SECONDS = 3.0
# For a process to see that others have ended.
SPARE_SECONDS = 0.5
SHOW_CURSOR = b"\x1b[?25h"


class Deadline:
    """How many ``seconds`` after a signal the process ends, if it has not by then."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


@contextmanager
def interruptible(
    within: float = END_SECONDS, message: str | None = None, *, cleaning: float = 0.0
) -> Iterator[Deadline]:
    """Have SIGTERM end a command as Ctrl-C does: both raise Interrupted, with this ``message`` or its own.

    ``within`` so many seconds the process ends in any case, as every job and file outlives a kill: a library may not
    return to Python for much longer, as when it looks up a host or waits for a lock, and so may a thread. Once it has
    returned, ``cleaning`` up may take so many seconds more. A SIGINT that is ignored stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        deadline.seconds += cleaning
        signal.default_int_handler(number, frame)

    with _kept(Deadline(within)) as deadline:
        is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        ending = [signal.SIGTERM] if is_ignored else [signal.SIGTERM, signal.SIGINT]
        before = {number: signal.signal(number, interrupt) for number in ending}
        try:
            yield deadline
        except KeyboardInterrupt:
            raise (Interrupted() if message is None else Interrupted(message)) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Have Ctrl-C end nothing meanwhile: it is for another program in the foreground."""
    # A handler that does nothing is not inherited, other than SIG_IGN.
    handler, descriptor = signal.signal(signal.SIGINT, lambda *_: None), signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _kept(deadline: Deadline) -> Iterator[Deadline]:
    """Have the deadline kept after a signal that comes meanwhile."""
    # The kernel's signal writes to the pipe at once; handlers of Python wait for the main thread to come to them.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_signal, args=(reading, deadline), name="deadline", daemon=True).start()
    try:
        yield deadline
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _end_after_signal(reading: int, deadline: Deadline) -> None:
    with os.fdopen(reading, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                begun = time.monotonic()
                while (left := begun + deadline.seconds - time.monotonic()) > 0:
                    time.sleep(left)
                _end()


def _end() -> None:
    if "multiprocessing" in sys.modules:  # workers would outlive this process for as long as they wait, too
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    # A display may have hidden the cursor; a terminal that takes nothing now is not waited for.
    if os.isatty(2) and select.select([], [2], [], 0)[1]:
        os.write(2, SHOW_CURSOR)
    os._exit(ExitCode.INTERRUPTED)

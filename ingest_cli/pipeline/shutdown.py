"""How a process shuts down on a signal: after the current file, or at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .runner import Runner


@contextmanager
def graceful_shutdown(runner: Runner, grace: float) -> Iterator[None]:
    """A first SIGINT or SIGTERM interrupts the runner; a second one, or ``grace`` seconds, raise KeyboardInterrupt.

    A SIGINT that was ignored when the process began, as a shell's script has it for what it starts in the background,
    stays ignored: Ctrl-C is for processes in the foreground, and SIGTERM ends the others. In any thread but the main
    one nothing is changed: it gets no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]

    def at_once(_number: int, _frame: FrameType | None) -> None:
        runner.abandon()  # else the files that other threads write would be waited for
        raise KeyboardInterrupt

    def in_a_moment(_number: int, _frame: FrameType | None) -> None:
        for again in (*ending, signal.SIGALRM):
            signal.signal(again, at_once)
        signal.setitimer(signal.ITIMER_REAL, grace)
        runner.interrupt()

    for number in ending:
        signal.signal(number, in_a_moment)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in ending:
            signal.signal(number, signal.default_int_handler)

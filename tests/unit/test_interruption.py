"""A run can be interrupted from a signal handler, whatever its thread does at that moment."""

import signal
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from ingest_cli.jobs.interruption import Interruption

SIGNALS = 2000


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    """One that SIGALRM sets, again and again."""
    wish = Interruption()

    def handle(_number: int, _frame: FrameType | None) -> None:
        wish.set()

    before = signal.signal(signal.SIGALRM, handle)
    yield wish
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_ends_the_wait(interruption: Interruption) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    began = time.monotonic()
    while not interruption.is_set():
        interruption.wait(30)
    assert time.monotonic() - began < 25


def test_signals_within_a_call_are_no_deadlock(interruption: Interruption) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    for _ in range(SIGNALS):
        interruption.set()
        interruption.wait(0)
    assert interruption.is_set()


def test_a_wait_without_a_signal_ends_in_time() -> None:
    wish = Interruption()
    wish.wait(0.01)
    assert not wish.is_set()

"""Waiting for what comes by itself, as long as a slow machine may need."""

import time
from collections.abc import Callable

PATIENCE = 60.0


def until(true: Callable[[], object], *, every: float = 0.02) -> None:
    """Wait until ``true`` says so."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(every)

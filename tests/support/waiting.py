"""Waiting for what comes by itself, as long as a slow machine may need."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 60.0


def until(true: Callable[[], object], *, every: float = 0.02) -> None:
    """Wait until ``true`` says so.

    It looks at what others are at work in: a file that goes as it is looked at, or a table that is yet to come, is no
    answer.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, sqlite3.OperationalError):
            if true():
                return
        time.sleep(every)
    assert true()

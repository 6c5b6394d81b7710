"""Changes that others undo, who made theirs at the same time: they are made again at once, a few times."""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from ..errors import Contended

TRIES, LONGEST_PAUSE_SECONDS = 5, 0.05

P = ParamSpec("P")
T = TypeVar("T")


def again(change: Callable[P, T]) -> Callable[P, T]:
    """The change, made again where the database has undone it. It is one transaction, or the whole of one ends it."""

    @wraps(change)
    def repeated(*given: P.args, **named: P.kwargs) -> T:
        for _ in range(TRIES - 1):
            try:
                return change(*given, **named)
            except Contended:
                # Not as long as the other: they would meet again.
                time.sleep(LONGEST_PAUSE_SECONDS * random.random())
        return change(*given, **named)

    return repeated

"""How many jobs came and went over a time, in steps of the same length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """In one step so many jobs ``came``, and so many ``went``: they came to an end, of which ``complete`` ones stored
    so many ``bytes``, or ``failed``."""

    came: int = 0
    went: int = 0
    complete: int = 0
    failed: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """The steps from ``since`` on, each as long as ``step``, the last of which goes on; ``waiting`` jobs are left."""

    since: datetime
    step: timedelta
    steps: Sequence[Step]
    waiting: int

    @property
    def queue(self) -> list[int]:
        """How many jobs were unfinished at the end of each step: those that are, without those that came since, and
        with those that went."""
        left, found = self.waiting, []
        for step in reversed(self.steps):
            found.append(max(0, left))
            left += step.went - step.came
        return found[::-1]


def steps_of(count: int, came: Mapping[int, int], went: Mapping[int, Sequence[int]]) -> list[Step]:
    """The steps, of the numbers of those in which something happened."""
    steps = []
    for number in range(count):
        ended, complete, failed, size = went.get(number, (0, 0, 0, 0))
        steps.append(Step(came=came.get(number, 0), went=ended, complete=complete, failed=failed, bytes=size))
    return steps

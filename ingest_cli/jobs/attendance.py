"""Where the processes of an installation of several hosts say that they are there.

A process counts a heartbeat up; it is there as long as that is seen to change, on the viewer's own monotonic clock.
What clocks of other machines say is told to people, and decides nothing.
"""

from dataclasses import dataclass
from typing import Protocol

from ..settings import Timings
from .process import Process

# The role of a process that runs jobs of queues.
WORKER = "worker"
# So many signs of life may be missed.
MISSED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """What a process has said of itself: the ``host`` that it is on, what it does, the ``version`` of the program, and
    since when, in UTC by the clock of its host. ``told`` is how many seconds ago it said so last, and ``ahead`` by how
    many its clock was ahead then, both by the clock of the database."""

    process: Process
    host: str
    role: str
    version: str
    since: str
    heartbeat: int
    told: float
    ahead: float

    @property
    def is_worker(self) -> bool:
        """Whether it runs jobs of queues."""
        return self.role == WORKER


class Attendance(Protocol):
    """Where the processes of several hosts say that they are there."""

    def enter(self, process: Process, host: str, role: str) -> None:
        """Say that the process is there from now on. Forget those of this host that are gone."""

    def beat(self, process: Process) -> bool:
        """Say that it is there still; whether it is known yet."""

    def leave(self, process: Process) -> None:
        """It is there no more."""

    def present(self) -> list[Presence]:
        """Those who have entered and not left, by host; they may be dead."""


def patience_of(timings: Timings) -> float:
    """How long a process may be silent that says that it is there."""
    return MISSED * timings.presence

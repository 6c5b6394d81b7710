"""A comparison: what the program takes for something, beside what others take for the same, turn about in one run."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Measured:
    """What one turn took: ``seconds`` by the clock, and the peak memory in KiB where it was looked at."""

    seconds: float
    peak: int | None = None


# A turn has a folder of its own, new and empty, that stays until the end: ext4 avoids the inodes of files just deleted,
# which would make whoever comes next look slow.
Turn = Callable[[Path], Measured]


@dataclass(frozen=True)
class Case:
    """``own`` beside its ``yardsticks``, by their names. The ``aim`` is the most that the ratio of the medians of own
    and of the first yardstick may be; ``per`` is how many items a turn goes through, where a rate says more."""

    title: str
    own: Turn
    yardsticks: dict[str, Turn]
    aim: float | None = None
    rounds: int = 5
    per: int | None = None


@dataclass
class Outcome:
    """What was measured of a case, by the name of who had the turn; the first is our own."""

    case: Case
    turns: dict[str, list[Measured]] = field(default_factory=dict)

    def seconds(self, name: str) -> list[float]:
        """Those of all turns of one."""
        return [turn.seconds for turn in self.turns[name]]

    def peak(self) -> int | None:
        """The most memory that a turn of our own took, in KiB."""
        return max((turn.peak for turn in self.turns["ingest"] if turn.peak is not None), default=None)

    def ratios(self) -> dict[str, float]:
        """Our own median in those of the others."""
        own = statistics.median(self.seconds("ingest"))
        return {name: own / statistics.median(self.seconds(name)) for name in self.case.yardsticks}


def compared(case: Case, folder: Path, rounds: int | None = None) -> Outcome:
    """Have all take turns, in ``folder``, and the first of a round be another each time."""
    contenders = {"ingest": case.own, **case.yardsticks}
    outcome = Outcome(case, {name: [] for name in contenders})
    names = list(contenders)
    for number in range(rounds or case.rounds):
        first = number % len(names)
        for at, name in enumerate(names[first:] + names[:first]):
            place = folder / f"turn{number}-{at}"
            place.mkdir()
            os.sync()
            outcome.turns[name].append(contenders[name](place))
    return outcome


def ran(commands: Sequence[Sequence[str | Path]], **environment: str | Path) -> Measured:
    """Run the commands one after the other, as a shell would. The peak is that of the last one.

    A small process starts them, since a child's peak memory counts from its parent's. What they print is not shown.
    """
    lines = [[str(word) for word in command] for command in commands]
    values = os.environ | {name: str(value) for name, value in environment.items()}
    # A program that was used before has its modules compiled.
    values.pop("PYTHONDONTWRITEBYTECODE", None)
    starter = [sys.executable, "-S", "-E", "-c", STARTER]
    answer = subprocess.run(starter, input=json.dumps(lines), env=values, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"{lines} failed:\n{answer.stderr}")
    seconds, peak = answer.stdout.split()
    return Measured(float(seconds), int(peak))


STARTER = """
import json, os, sys, time
lines = json.load(sys.stdin)
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
begun = time.perf_counter()
for line in lines:
    _, status, usage = os.wait4(os.posix_spawnp(line[0], line, os.environ), 0)
    if status:
        sys.exit(os.waitstatus_to_exitcode(status) or 1)
os.write(out, f"{time.perf_counter() - begun} {usage.ru_maxrss}".encode())
"""


def ingest(*words: str | Path) -> list[str | Path]:
    """The command line of this program."""
    return [sys.executable, "-m", "ingest_cli", *words]


def own(*words: str | Path) -> Turn:
    """A turn of this program at a site of its own, which is new."""
    return lambda place: ran([ingest(*words)], XDG_DATA_HOME=place, HOME=place)


def elapsed(work: Callable[[], object]) -> Measured:
    """What work in this process takes."""
    begun = time.perf_counter()
    work()
    return Measured(time.perf_counter() - begun)

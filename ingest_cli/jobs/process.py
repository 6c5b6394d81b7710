"""Which process holds a job, and whether it is alive: as the kernel says, never by a clock or a name.

A process is known by its id and the moment it began, within one boot and one namespace of process ids. Elsewhere it
cannot be seen: there its heartbeat tells (see `liveness`).
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path

from ..text import printable


class Life(Enum):
    """Whether a process is alive, as far as can be seen from here."""

    RUNNING = "running"
    STOPPED = "stopped"  # by SIGSTOP, Ctrl-Z, a debugger or a paused container: it may be continued at any time
    GONE = "gone"
    OUT_OF_SIGHT = "out of sight"


@dataclass(frozen=True, slots=True)
class Process:
    """A process. ``started`` counts the kernel's ticks since the ``boot``; ``namespace`` is that of process ids.

    The three are empty where the system does not tell; ``host`` is for people.
    """

    host: str
    pid: int
    started: str
    boot: str
    namespace: str

    def __str__(self) -> str:
        """As ``host:pid``."""
        return f"{self.host}:{self.pid}"

    def to_text(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    @lru_cache
    def from_text(cls, text: str) -> "Process":
        """What `to_text` wrote."""
        return cls(**json.loads(text))

    @property
    def is_of_this_boot(self) -> bool:
        """Whether it runs, or ran, under the kernel that runs now."""
        return self.boot == _boot()

    def life(self) -> Life:
        """Whether it lives, as far as can be seen from here."""
        if not self.is_of_this_boot or self.namespace != _namespace():
            return Life.OUT_OF_SIGHT
        if not self.boot and self.host != host_name():
            return Life.OUT_OF_SIGHT
        status = _status(self.pid)
        if status is None:
            if not _exists(self.pid):
                return Life.GONE
            # Others' processes may be hidden in /proc.
            return Life.OUT_OF_SIGHT if self.started else Life.RUNNING
        letter, started = status
        if started != self.started or letter in "ZXx":
            return Life.GONE
        return Life.STOPPED if letter in "Tt" else Life.RUNNING


def this_process() -> Process:
    """The current process."""
    pid = os.getpid()
    status = _status(pid)
    return Process(host_name(), pid, status[1] if status is not None else "", _boot(), _namespace())


def users_of(path: Path) -> list[str]:
    """The other processes that have the file open, as far as they can be seen: each by its name and its id."""
    try:
        wanted = path.stat()
        others = [process for process in Path("/proc").glob("[0-9]*") if process.name != str(os.getpid())]
        return [_named(process) for process in others if _has_open(process, wanted)]
    except OSError:  # one has just ended, or this system tells nothing of processes
        return []


def _named(process: Path) -> str:
    return f"{printable((process / 'comm').read_text().strip())} {process.name}"


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    with suppress(OSError):  # it is another user's, or has ended
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(descriptor.stat(), wanted):
                    return True
    return False


def host_name() -> str:
    """The name of this machine, as people see it."""
    # The kernel takes any bytes for a name.
    return printable(os.uname().nodename)


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


@cache
def _namespace() -> str:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _status(pid: int) -> tuple[str, str] | None:
    """The letter of the process's state and when it began (proc_pid_stat(5), fields 3 and 22); None where unknown."""
    try:
        # The name, which may hold anything, is in parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), fields[19].decode()
    except (OSError, IndexError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

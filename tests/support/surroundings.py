"""Surroundings in which a program may be started: its streams, its home, its folder, its locale, its limits."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .command import Command

SECONDS = 60.0
# In some of them a program finds its modules by this alone.
BARE = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended, and what it wrote."""

    status: int
    out: bytes
    err: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """``environment`` are all the variables that there are; the standard streams of ``closed`` are not there.

    The program is started in ``folder``, or in one that is ``gone`` by then. Where there are no ``users``, the system
    knows no name and no home of whoever runs it.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    closed: frozenset[int] = frozenset()
    gone: bool = False
    umask: int = 0o022
    users: bool = True

    def run(self, *words: object, stdin: bytes = b"") -> Said:
        """Run ``ingest``."""
        line = Command.line(*words)
        done = subprocess.run(
            line if self.users else [*without_users(), *line],
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            env={**BARE, **self.environment},
            preexec_fn=self._enter,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def _enter(self) -> None:
        os.umask(self.umask)
        if self.gone:
            place = self.folder / "gone"
            place.mkdir(exist_ok=True)
            os.chdir(place)
            place.rmdir()
        else:
            os.chdir(self.folder)
        for number in self.closed:
            os.close(number)


@cache
def can_be_without_users() -> bool:
    """Whether a program can be started where the system knows no user."""
    if shutil.which("unshare") is None:
        return False
    program = "import os, pwd; pwd.getpwuid(os.getuid())"
    done = subprocess.run([*without_users(), sys.executable, "-c", program], capture_output=True, text=True)
    return "uid not found" in done.stderr


def without_users() -> Sequence[str]:
    """What stands before a command line to start it so."""
    unshare, mount = shutil.which("unshare") or "", shutil.which("mount") or ""
    hiding = [f"{mount} --bind /dev/null {path}" for path in ("/etc/passwd", "/etc/nsswitch.conf")]
    return [unshare, "-m" if os.getuid() == 0 else "-rm", "/bin/sh", "-c", " && ".join([*hiding, 'exec "$@"']), "sh"]

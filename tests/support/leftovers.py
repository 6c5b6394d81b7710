"""What a session of tests leaves behind: processes, mounts and temporary files."""

import os
import time
from pathlib import Path

PATIENCE = 10.0
MARK = "PYTEST_INGEST_SESSION"
PROC = Path("/proc")


def can_look() -> bool:
    """Whether this system shows its processes and mounts."""
    return (PROC / "self" / "environ").exists() and (PROC / "self" / "mountinfo").exists()


class Leftovers:
    """Knows what is of this session: by a variable that processes inherit, and by folders that are its own."""

    def __init__(self, own: Path, temporary: Path) -> None:
        self._own, self._temporary = own, temporary

    def found(self) -> list[str]:
        """What is there by now, after a moment in which it may end by itself."""
        deadline = time.monotonic() + PATIENCE
        while (left := self._look()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _look(self) -> list[str]:
        files = [f"file {path}" for path in sorted(self._temporary.iterdir())]
        return [*self._processes(), *self._mounts(), *files] if can_look() else files

    def _processes(self) -> list[str]:
        mark = f"{MARK}={os.environ[MARK]}".encode()
        found = []
        for folder in PROC.iterdir():
            if not folder.name.isdecimal() or int(folder.name) == os.getpid():
                continue
            try:
                of_us = mark in (folder / "environ").read_bytes().split(b"\0")
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended, or is another user's
            # Python's own ends with this process.
            if of_us and line and "multiprocessing.resource_tracker" not in line:
                found.append(f"process {folder.name}: {line}")
        return found

    def _mounts(self) -> list[str]:
        points = [
            line.split()[4] for line in (PROC / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines()
        ]
        return [f"mount {point}" for point in points if Path(point).is_relative_to(self._own)]

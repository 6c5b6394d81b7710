"""A clock that is stepped for real: what a program preloads, or Debian's libfaketime, tells it another time of day."""

import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")
FAKETIME = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


class Clock:
    """The time of day of every program that runs under `environment`. `step` changes it while they run."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock step"
        self.by = timedelta()
        library = _compiled(folder)
        if library is not None:
            self.environment = {"LD_PRELOAD": str(library), "CLOCK_STEP_FILE": str(self._file)}
        else:
            found = [path for pattern in FAKETIME for path in Path("/").glob(pattern[1:])]
            if not found:
                pytest.skip("there is neither gcc nor libfaketime, which step a clock")
            self.environment = {
                "LD_PRELOAD": str(found[0]),
                "FAKETIME_TIMESTAMP_FILE": str(self._file),
                "FAKETIME_NO_CACHE": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
        self._is_ours = library is not None
        self.step(timedelta())
        self._skip_unless_it_works()

    def step(self, by: timedelta) -> None:
        """From now on the clock is this much ahead of the machine's, or behind it."""
        self.by = by
        seconds = int(by.total_seconds())
        # In its place: programs have the file mapped.
        if self._is_ours:
            with self._file.open("r+b" if self._file.exists() else "wb") as file:
                file.write(seconds.to_bytes(8, sys.byteorder, signed=True))
        else:
            self._file.write_text(f"{seconds:+d}s\n")

    def now(self) -> float:
        """What it shows, in seconds since 1970."""
        return time.time() + self.by.total_seconds()

    def _skip_unless_it_works(self) -> None:
        self.step(timedelta(days=1))
        line = [sys.executable, "-c", "import time; print(time.time())"]
        shown = subprocess.run(line, capture_output=True, text=True, env=self.environment)
        if shown.returncode != 0 or abs(float(shown.stdout) - self.now()) > 60:
            pytest.skip(f"the clock cannot be stepped here: {shown.stderr.strip() or shown.stdout.strip()}")
        self.step(timedelta())


def _compiled(folder: Path) -> Path | None:
    if shutil.which("gcc") is None:
        return None
    library = folder / "clock.so"
    line = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library

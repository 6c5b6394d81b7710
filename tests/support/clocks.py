"""A clock that is stepped for real: what every program preloads tells it another time of day."""

import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """The time of day of every program that is started with `environment`. `step` changes it while they run.

    libfaketime would do the same but for forks whose environment is not their parent's, as the stepper's are.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("gcc") is None:
            pytest.skip("there is no gcc, which makes the clock that can be stepped")
        library, self._file = folder / "clock.so", folder / "clock step"
        line = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
        made = subprocess.run(line, capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"the clock that can be stepped cannot be made: {made.stderr.strip()}")
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_STEP_FILE": str(self._file)}
        self._file.write_bytes(bytes(8))
        self._skip_unless_it_works()

    def step(self, by: timedelta) -> None:
        """From now on the clock is this much ahead of the machine's, or behind it."""
        # In its place, since programs have the file mapped.
        with self._file.open("r+b") as file:
            file.write(int(by.total_seconds()).to_bytes(8, sys.byteorder, signed=True))

    def _skip_unless_it_works(self) -> None:
        self.step(timedelta(days=1))
        line = [sys.executable, "-c", "import time; print(time.time())"]
        shown = subprocess.run(line, capture_output=True, text=True, env=self.environment)
        if shown.returncode != 0 or float(shown.stdout) - time.time() < 80_000:
            pytest.skip(f"no clock can be preloaded here: {shown.stderr.strip()}")
        self.step(timedelta())

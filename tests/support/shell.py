"""A shell whose user has ``ingest`` in the path."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Shell:
    """Runs lines in ``folder``."""

    def __init__(self, folder: Path) -> None:
        programs = folder / "bin"
        programs.mkdir()
        program = programs / "ingest"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ingest_cli "$@"\n')
        program.chmod(0o755)
        self._folder = folder
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}

    def __call__(self, line: str) -> str:
        """What the line writes to standard output; it must succeed."""
        done = subprocess.run(
            ["sh", "-c", line], cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

"""The programs by their old names, in processes of their own."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .waiting import PATIENCE, until


def line(program: str, *words: object) -> list[str]:
    """What starts a program of the package by its name."""
    run = f"from ingest_cli.__main__ import {program.replace('-', '_')} as run; run()"
    return [sys.executable, "-c", run, *map(str, words)]


@contextmanager
def serving(folder: Path, *words: object) -> Iterator[tuple[str, Path]]:
    """``pacifica-ingest`` with these words: its URL, and its log."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(line("pacifica-ingest", *words), stdout=output, stderr=output, cwd=folder)
    try:
        until(lambda: "listening at" in log.read_text() or process.poll() is not None)
        found = re.search(r"listening at (\S+)", log.read_text())
        assert found is not None, log.read_text()
        yield found[1], log
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()

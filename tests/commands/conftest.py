"""What tests of commands stand on."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode

from ..support.bundles import transaction
from ..support.command import Command
from ..support.forks import Running
from ..support.waiting import PATIENCE, until
from ..support.watching import SETTLE, looks_on


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


@pytest.fixture
def watching(command: Command, drop: Path, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a watcher, whose words go to ``log`` and who looks on; it is told to leave at the end of the test."""
    started: list[Running] = []

    def start(*words: object) -> Running:
        line = ("watch", drop, "--settle", SETTLE, "--patience", PATIENCE, *words)
        with (tmp_path / "log").open("ab") as log:
            started.append(command.start(*line, output=log))
        until(lambda: (drop / ".ingest-watch.lock").exists())
        if "--poll" not in words:
            until(lambda: looks_on(started[-1].pid))
        return started[-1]

    yield start
    try:
        for process in started:
            process.terminate()
        for process in started:
            assert process.wait(PATIENCE) in (0, -signal.SIGKILL, ExitCode.INTERRUPTED), (tmp_path / "log").read_text()
    finally:
        for process in started:
            process.kill()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.json"
    path.write_text(json.dumps(transaction()))
    return path

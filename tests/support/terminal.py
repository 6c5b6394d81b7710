"""A pseudo-terminal with a program in it, and its screen as a terminal would draw it."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

pexpect = pytest.importorskip("pexpect", reason="pexpect is not installed")
pyte = pytest.importorskip("pyte", reason="pyte is not installed")

PATIENCE = 30.0


class Terminal:
    """A terminal in which ``line`` runs; ``raw`` is all that came, ``lines`` what can be seen."""

    def __init__(
        self, folder: Path, line: list[str], *, columns: int = 80, environment: dict[str, str] | None = None
    ) -> None:
        self.raw = ""
        self._screen = pyte.Screen(columns, 24)
        self._stream = pyte.Stream(self._screen)
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self._process = pexpect.spawn(
            line[0],
            line[1:],
            cwd=str(folder),
            dimensions=(24, columns),
            env={**kept, "TERM": "xterm-256color", **(environment or {})},
            encoding="utf-8",
            # Though the tests may run in the background, where the shell has it ignored.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close(force=True)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display if line.strip()]

    @property
    def cursor_is_shown(self) -> bool:
        return not self._screen.cursor.hidden

    @property
    def column(self) -> int:
        return int(self._screen.cursor.x)

    def until(self, seen: Callable[[list[str]], Any]) -> list[str]:
        """Wait until the screen is as it should be, and return its lines."""
        deadline = time.monotonic() + PATIENCE
        while not seen(self.lines):
            assert time.monotonic() < deadline, self.lines
            self._read()
        return self.lines

    def type(self, text: str) -> None:
        self._process.send(text)

    def press(self, key: str) -> None:
        self._process.sendcontrol(key)

    def end(self) -> int:
        """Wait for the program's end; its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < deadline, self.lines
        self._process.close()
        assert self._process.signalstatus is None, self._process.signalstatus
        return int(self._process.exitstatus)

    def _read(self) -> bool:
        try:
            piece = self._process.read_nonblocking(65536, timeout=0.1)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += piece
        self._stream.feed(piece)
        return True

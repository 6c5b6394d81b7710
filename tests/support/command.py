"""The command line, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from .forks import FORKS, Running

# What a process that runs for long writes before each line.
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "
WITH_TIMINGS = """
import json, sys
from ingest_cli.settings.timings import Timings
Timings.__init__.__kwdefaults__.update(json.loads(sys.argv.pop(1)))
from ingest_cli.__main__ import main
main()
"""


class Command:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self, *words: object, stdin: bytes = b"", file_limit: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. ``file_limit``: no file of it can grow beyond so many bytes."""
        if file_limit is None and not FORKS.can_have(os.environ):
            done = subprocess.run(self.line(*words), cwd=self._folder, input=stdin, capture_output=True)
            return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
            given, giving = _pipe(stack)
            saying_out, out = _pipe(stack)[::-1]
            saying_err, err = _pipe(stack)[::-1]
            streams = (given.fileno(), saying_out.fileno(), saying_err.fileno())
            running = FORKS.start(list(map(str, words)), self._folder, streams, file_limit=file_limit)
            for ours in (given, saying_out, saying_err):
                ours.close()
            try:
                pool.submit(_give, giving, stdin)
                said = [future.result().decode() for future in [pool.submit(out.read), pool.submit(err.read)]]
                status = running.wait()
            finally:
                running.kill()
        return subprocess.CompletedProcess(running.args, status, *said)

    def start(
        self,
        *words: object,
        stdin: IO[bytes] | None = None,
        output: IO[bytes] | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> Running:
        """Start it; what it says goes to ``output``. ``timings`` take the place of the program's own."""
        with Path(os.devnull).open("r+b") as nothing:
            given, said = stdin or nothing, output or nothing
            if not FORKS.can_have(os.environ):
                line = self.line(*words, timings=timings)
                return subprocess.Popen(line, cwd=self._folder, stdin=given, stdout=said, stderr=said)
            streams = (given.fileno(), said.fileno(), said.fileno())
            return FORKS.start(list(map(str, words)), self._folder, streams, timings=timings)

    @staticmethod
    def line(*words: object, timings: Mapping[str, float] | None = None) -> list[str]:
        """What starts it in a process of its own."""
        run = ["-c", WITH_TIMINGS, json.dumps(timings)] if timings else ["-m", "ingest_cli"]
        return [sys.executable, *run, *map(str, words)]


def untimed(text: str) -> list[str]:
    """The lines of a process that runs for long, each of which has its time, without it."""
    lines = text.splitlines()
    assert all(re.match(TIME, line) for line in lines), text
    return [re.sub(TIME, "", line, count=1) for line in lines]


def _pipe(stack: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return stack.enter_context(os.fdopen(reading, "rb")), stack.enter_context(os.fdopen(writing, "wb", buffering=0))


def _give(stream: IO[bytes], content: bytes) -> None:
    with suppress(BrokenPipeError), stream:  # it may end before it has read all
        while content:
            content = content[stream.write(content) :]

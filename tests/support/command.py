"""The command line, in a process of its own."""

import subprocess
import sys
from pathlib import Path


class Command:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.line(*words), cwd=self._folder, input=stdin, capture_output=True)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.line(*words), cwd=self._folder, stderr=subprocess.DEVNULL)

    @staticmethod
    def line(*words: object) -> list[str]:
        return [sys.executable, "-m", "ingest_cli", *map(str, words)]

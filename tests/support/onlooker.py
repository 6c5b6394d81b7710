"""A client that means well, and looks whether a server is well while others mean it ill."""

import re
import threading
import time
from collections import Counter
from pathlib import Path

import requests

from .serving import PATIENCE, Server

# What no honest request takes, on a machine with other things to do. What this is about took 19 seconds and more.
SOON_SECONDS = 5.0


class Onlooker:
    """Asks a server all the time whether it is well, and remembers how long the longest answer took."""

    def __init__(self, server: Server) -> None:
        self._server, self._ended = server, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.longest, self.answers = 0.0, Counter[object]()

    def _ask(self) -> None:
        while not self._ended.is_set():
            begun = time.monotonic()
            try:
                answer: object = requests.get(f"{self._server.url}/healthz", timeout=PATIENCE).status_code
            except requests.RequestException as error:
                answer = type(error).__name__
            self.longest = max(self.longest, time.monotonic() - begun)
            self.answers[answer] += 1
            self._ended.wait(0.02)

    def __enter__(self) -> "Onlooker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def assert_it_was_well(self) -> None:
        assert set(self.answers) == {200}, self.answers
        assert self.longest < SOON_SECONDS


def most_bytes(server: Server) -> int:
    """How much memory the server had at most, so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024

"""A server in a process of its own, and a way to speak to it byte by byte."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import pytest
import requests

from .command import Command
from .environment import scrub
from .forks import FORKS, Running

PATIENCE = 60.0
T = TypeVar("T")


class Server:
    """``ingest serve`` with ``words``, for as long as a ``with`` block lasts. Its log is in ``log``.

    It has ``given`` as its standard input.
    """

    def __init__(
        self, folder: Path, *words: object, port: int = 0, given: socket.socket | IO[bytes] | None = None
    ) -> None:
        self._words, self._port, self._given = words, port, given
        self.log = folder / "server.log"
        self.url = ""

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            words = ["serve", "--port", self._port, "--reserve", 0, "--workers", 1, *self._words]
            begun = self.log.stat().st_size
            self.process = _start(words, log, self._given)
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(r"listening at (\S+)", self.log.read_text()[begun:])) is None:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.url = found[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def upload(self, bundle: Path, **headers: str) -> dict[str, Any]:
        with bundle.open("rb") as body:
            answer = requests.post(f"{self.url}/upload", data=body, headers={**OCTETS, **headers}, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        state: dict[str, Any] = answer.json()
        return state

    def state(self, job_id: int) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/get_state", params={"job_id": job_id}, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        state: dict[str, Any] = answer.json()
        return state

    def settled(self, job_id: int) -> dict[str, Any]:
        """The job's state when it has come to its end, as Pacifica's clients wait for it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            state = self.state(job_id)
            done = state["task"] == "ingest metadata" and int(float(state["task_percent"])) == 100
            if state["state"] != "OK" or done:
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.02)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            yield connection

    def exchange(self, request: bytes) -> tuple[int, dict[str, Any]]:
        """The status and the object that the server answers to these bytes."""
        with self.connected() as connection:
            connection.sendall(request)
            return read_answer(connection)


@contextmanager
def serving_apart(folder: Path, *words: object, made: Callable[[], T], **variables: str) -> Iterator[tuple[Server, T]]:
    """A server of a site of its own below ``folder``, and what was ``made`` before, in the environment that it begins
    in, with these variables: for several tests, none of which has that environment."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        scrub(patch, folder)
        for name, value in variables.items():
            patch.setenv(name, value)
        found = made()
        server = stack.enter_context(Server(folder, *words))
        patch.undo()
        yield server, found


def _start(words: list[object], log: IO[bytes], given: socket.socket | IO[bytes] | None) -> Running:
    with Path(os.devnull).open("rb") as nothing:
        standard_input = (given or nothing).fileno()
        if not FORKS.can_have(os.environ):
            return subprocess.Popen(Command.line(*words), stdin=standard_input, stdout=log, stderr=log)
        return FORKS.start(list(map(str, words)), Path.cwd(), (standard_input, log.fileno(), log.fileno()))


OCTETS = {"Content-Type": "application/octet-stream"}


def read_answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None, head
    while len(body) < int(length[1]):
        piece = connection.recv(65536)
        assert piece, received
        body += piece
    return int(head.split()[1]), json.loads(body or b"{}")

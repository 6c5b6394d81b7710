"""A unit test speaks to nobody and starts nothing."""

import os
import socket
import subprocess
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets and processes are for the other tiers."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("a unit test uses no socket and starts no process")

    for name in ("bind", "connect", "connect_ex", "sendto", "sendmsg"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(BaseProcess, "start", refuse)

"""Run command lines of ``ingest`` in forks of one process that has imported it all: each starts in a tenth of the time.

As a program, it forks for each request on its standard input a child that ends as ``python -m ingest_cli`` does, with
the arguments, folder, environment and standard streams of the request. `Forks` is the other side. In these processes a
service that is down is tried again after milliseconds, an upload that another request has is waited for less long, and
expired ones are looked for more often.
"""

import io
import json
import os
import pkgutil
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

# What is read of the environment for services over HTTP, in small letters and in capitals.
OF_HTTP = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "netrc", "requests_ca_bundle", "curl_ca_bundle")
# What the program reads while it runs. A fork cannot have another value of what an interpreter or a library read when
# it began, such as PYTHONUTF8.
OUR_OWN = ("INGEST_", "VOLUME_PATH", "UNIQUEID_", "POLICY_", "ARCHIVEINTERFACE_", "METADATA_", "NOTIFICATIONS_", "AWS_")
MAY_DIFFER = (
    *OUR_OWN,
    "XDG_",
    "HOME",
    "PATH",
    "NO_COLOR",
    "PYTEST_",
    "NOTIFY_SOCKET",
    *OF_HTTP,
    *map(str.upper, OF_HTTP),
)
LONGEST_REQUEST = 1 << 20


class Forked:
    """A command at work, as `subprocess.Popen` has it. Nobody but its parent, which outlives it, waits for its id."""

    def __init__(self, args: Sequence[str], answers: socket.socket) -> None:
        self.args = list(args)
        self.returncode: int | None = None
        self._answers = answers
        self.pid = int(self._answer())

    def _answer(self) -> str:
        answer = self._answers.recv(64).decode()
        if not answer:
            raise RuntimeError(f"the parent of {self.args} has ended")
        return answer

    def poll(self) -> int | None:
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answer())
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._answers.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended meanwhile, as its parent is about to tell
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# A command at work, in a fork or not.
Running = Forked | subprocess.Popen[bytes]


class Forks:
    """The program, which starts when it is first needed."""

    def __init__(self) -> None:
        self._environment, self._place = dict(os.environ), _mounts()
        self._requests: socket.socket | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, environment: Mapping[str, str]) -> None:
        """The program is to start with these variables."""
        self._environment = dict(environment)

    def close(self) -> None:
        if self._requests is not None and self._process is not None:
            self._requests.close()
            self._process.wait()

    def can_have(self, environment: Mapping[str, str]) -> bool:
        """Whether a fork is no other than a process of its own with these variables would be, here."""
        if _mounts() != self._place:
            return False
        differing = {name for name, _ in self._environment.items() ^ environment.items()}
        return all(name.startswith(MAY_DIFFER) for name in differing)

    def start(
        self,
        words: Sequence[str],
        folder: Path,
        streams: tuple[int, int, int],
        *,
        file_limit: int | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> Forked:
        """Run ``ingest`` with ``words`` and this process's environment.

        ``file_limit``: no file grows beyond so many bytes. ``timings`` take the place of the program's own.
        """
        with self._lock:
            if self._requests is None:
                self._requests = self._start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            request = {"words": words, "folder": str(folder), "environment": dict(os.environ)}
            line = json.dumps({**request, "limit": file_limit, "timings": dict(timings or {})}).encode()
            assert len(line) < LONGEST_REQUEST
            socket.send_fds(self._requests, [line], [*streams, theirs.fileno()])
        return Forked(["ingest", *words], ours)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=self._environment
            )
        return ours


def _mounts() -> str:
    """Which of the system's mounts a process sees."""
    place = Path("/proc/self/ns/mnt")
    return str(place.readlink()) if place.is_symlink() else ""


# Of this process, whose first variables those of the tests that follow are not.
FORKS = Forks()


def _import_everything() -> None:
    import ingest_cli
    from ingest_cli.errors import SettingsError

    # Nothing of many hosts, where what they need is not installed.
    for module in pkgutil.walk_packages(ingest_cli.__path__, "ingest_cli.", onerror=lambda _: None):
        if module.name != "ingest_cli.__main__":
            with suppress(SettingsError, ImportError):
                import_module(module.name)
    from ingest_cli.cli import app
    from ingest_cli.server import app as server
    from ingest_cli.server import upload_jobs
    from ingest_cli.services.pacifica import http

    http.FIRST_PAUSE_SECONDS, upload_jobs.LOCKED_SECONDS, server.SWEEP_SECONDS = 0.001, 3.0, 0.5
    with redirect_stdout(io.StringIO()):
        app(["config"], standalone_mode=False)  # typer imports what it needs when it runs


def _serve(requests: socket.socket) -> dict[str, Any]:
    """Answer requests until there are no more; in a child, return what it is to run."""
    while True:
        line, descriptors, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 4)
        if not line:
            os._exit(0)
        if os.fork() == 0:
            request: dict[str, Any] = json.loads(line)
            *streams, answers = descriptors
            requests.close()
            _beget(socket.socket(fileno=answers))
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return request
        for descriptor in descriptors:
            os.close(descriptor)


def _beget(answers: socket.socket) -> None:
    """Return in a child, whose parent tells its id and its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        answers.close()
        return
    answers.send(str(child).encode())
    os.closerange(0, 3)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        answers.send(str(status).encode())
    finally:
        os._exit(0)


def _run(request: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if request["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    if request["timings"]:  # which a command with workers of its own could not hand on to them
        settings = vars(import_module("ingest_cli.settings.timings"))
        settings["Timings"] = partial(settings["Timings"], **request["timings"])
    sys.argv = ["ingest", *request["words"]]
    runpy.run_module("ingest_cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # As a terminal has it, though the tests may run in the background of a shell.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.path[0] = str(Path.cwd())
    _import_everything()
    requested = _serve(socket.socket(fileno=os.dup(0)))
    _run(requested)

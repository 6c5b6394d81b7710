"""Run command lines of ``ingest`` and let each end, or fail, at a chosen step: every step can be visited in turn.

As a program: it imports the whole command line once, then forks for each JSON line of standard input a child that runs
one `Order`, and answers with a line, an `Outcome`. `Stepper` is the other side. A step is a call from Python into C
that the system sees: one of SQLite, of the disk or of a socket. Each thread's steps are counted apart, so that the
same number is the same step in each run.
"""

import errno
import io
import json
import mmap
import os
import pkgutil
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn, Self

CHANGES: dict[object, str] = {
    os: "open write rename replace unlink rmdir mkdir utime fsync fchmod chmod truncate ftruncate link close",
    io: "open",
    io.BufferedWriter: "write flush close",
    io.BufferedRandom: "write flush close",
    io.FileIO: "write close",
    sqlite3: "connect",
    sqlite3.Connection: "execute executemany commit rollback close",
    socket.socket: "connect send sendall",
}
READS: dict[object, str] = {
    os: "read pread stat lstat fstat statvfs scandir listdir",
    io.BufferedReader: "read readinto",
    io.BufferedRandom: "read readinto",
    sqlite3.Cursor: "fetchone fetchall",
    socket.socket: "recv recv_into",
}
DATABASE = {sqlite3, sqlite3.Connection, sqlite3.Cursor}
# Nothing here takes a second; what hangs is aborted.
HANGS_AFTER_SECONDS = 20.0
MAIN, OTHERS = "main", "others"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command line and where it ends. ``fault`` at the step ``step`` of ``thread``; none at step 0.

    ``kill``: killed with -9. ``full`` and ``broken``: the step fails as on a full disk, or on a broken one or a lost
    connection; ``lasting`` says that all later ones do so too. ``done`` says that the step does its work all the same.
    ``limit`` is how long any file may become, in bytes.
    """

    words: list[str]
    folder: str
    environment: dict[str, str]
    fault: str = "kill"
    step: int = 0
    thread: str = MAIN
    done: bool = False
    lasting: bool = False
    limit: int | None = None
    stdin: str = os.devnull
    stdout: str | None = None
    stderr: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it ended: ``status`` as of `subprocess`, ``steps`` counted in each thread, and the step that was hit."""

    status: int
    stdout: str
    stderr: str
    steps: dict[str, int] = field(default_factory=dict)
    hit: str = ""


class Stepper:
    """The program at work, for as long as a ``with`` block lasts."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-B", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, order: Order) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


class _Steps:
    """A profiler (`sys.setprofile`) that counts steps, and makes one of them the last or the one that fails."""

    def __init__(self, order: Order) -> None:
        self._order = order
        watched = [CHANGES, READS] if order.fault == "broken" else [CHANGES]
        self._names = {(owner, name) for table in watched for owner, names in table.items() for name in names.split()}
        self._plain = {name for _, name in self._names}
        self._count, self._hit = {MAIN: 0, OTHERS: 0}, ""
        self._shared = mmap.mmap(-1, 4096)

    def install(self) -> None:
        threading.setprofile(self._profile)
        if self._order.lasting:
            threading.settrace(self._trace)
            sys.settrace(self._trace)
        sys.setprofile(self._profile)

    def remove(self) -> None:
        sys.setprofile(None)
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        # An error that leaves a profiler takes the profiler away: a lasting fault puts it back.
        frame.f_trace_lines = False
        if event == "exception" and sys.getprofile() is None:
            sys.setprofile(self._profile)
        return self._trace

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("c_call", "c_return", "c_exception") or argument.__name__ not in self._plain:
            return
        owner = self._owner(argument)
        if owner is None or frame.f_code.co_filename.startswith("<frozen importlib"):
            return
        thread = MAIN if threading.current_thread() is threading.main_thread() else OTHERS
        if event == "c_call":
            self._count[thread] += 1
            self._note()
        order, number = self._order, self._count[thread]
        if thread != order.thread or not order.step or (event == "c_call") == order.done:
            return
        if number == order.step or (order.lasting and number > order.step):
            self._strike(owner, argument.__name__, event, frame)

    def _strike(self, owner: object, name: str, event: str, frame: FrameType) -> None:
        fault = self._order.fault
        # SQLite's close does not fail; a full disk lets go. What failed by itself has not done its work.
        lets_go = owner in DATABASE or fault == "full"
        spared = (lets_go and name in ("close", "unlink", "rmdir")) or event == "c_exception"
        if spared and fault != "kill":
            return
        self._hit = self._hit or f"{getattr(owner, '__name__', owner)}.{name} in {_place(frame)}"
        self._note()
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise _error(owner, fault)

    def _owner(self, function: Any) -> object | None:
        holder = function.__self__
        if isinstance(holder, ModuleType):
            module = {"posix": os, "_io": io, "_sqlite3": sqlite3}.get(holder.__name__)
            return module if (module, function.__name__) in self._names else None
        if isinstance(holder, io.FileIO) and not holder.closed and holder.fileno() <= 2:
            return None  # what is said is no step: the disk that fails is another
        return next((kind for kind in type(holder).__mro__ if (kind, function.__name__) in self._names), None)

    def _note(self) -> None:
        line = json.dumps({"steps": self._count, "hit": self._hit}).encode()
        self._shared[: len(line) + 1] = line + b"\0"

    @property
    def noted(self) -> dict[str, Any]:
        """The steps and the hit, as the parent can still see them after a kill."""
        line = self._shared[:].partition(b"\0")[0]
        return dict(json.loads(line)) if line else {}


def _error(owner: object, fault: str) -> Exception:
    if owner in DATABASE:
        full = fault == "full"
        error = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = (13, "SQLITE_FULL") if full else (10, "SQLITE_IOERR")
        return error
    number = errno.ECONNRESET if owner is socket.socket else errno.ENOSPC if fault == "full" else errno.EIO
    return OSError(number, os.strerror(number))


def _place(frame: FrameType | None) -> str:
    """Where in the package the step is."""
    while frame is not None:
        _, package, inner = frame.f_code.co_filename.rpartition("/ingest_cli/")
        if package:
            return f"{inner}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "?"


def _child(order: Order, steps: _Steps, stdout: int, stderr: int) -> NoReturn:
    from ingest_cli import settings
    from ingest_cli.__main__ import main

    if order.thread == OTHERS:
        # A job here is shorter than the second that a heartbeat waits for elsewhere.
        settings.Timings = partial(settings.Timings, heartbeat=0.002)  # type: ignore[assignment,misc]
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.folder)
    os.dup2(os.open(order.stdin, os.O_RDONLY), 0)
    os.dup2(os.open(order.stdout, os.O_WRONLY) if order.stdout else stdout, 1)
    os.dup2(os.open(order.stderr, os.O_WRONLY) if order.stderr else stderr, 2)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["ingest", *order.words]
    if order.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.limit, order.limit))
    status = 0
    steps.install()
    try:
        main()
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        steps.remove()
        sys.excepthook(*sys.exc_info())
        status = 1
    steps.remove()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = 120  # as the interpreter ends
    os._exit(status)


def _run(order: Order) -> Outcome:
    steps = _Steps(order)
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            _child(order, steps, stdout.fileno(), stderr.fileno())
        status = _await(child)
        stdout.seek(0)
        stderr.seek(0)
        said = stdout.read().decode(), stderr.read().decode()
    return Outcome(status=status, stdout=said[0], stderr=said[1], **steps.noted)


def _await(child: int) -> int:
    deadline = time.monotonic() + HANGS_AFTER_SECONDS
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGABRT)
        time.sleep(0.001)


def _import_everything() -> None:
    import ingest_cli

    for module in pkgutil.walk_packages(ingest_cli.__path__, "ingest_cli."):
        import_module(module.name)
    from ingest_cli.cli import app
    from ingest_cli.services import http

    with redirect_stdout(io.StringIO()):
        app(["config"], standalone_mode=False)  # typer imports what it needs when it runs
    http.FIRST_PAUSE_SECONDS, http.READ_SECONDS = 0.001, 3.0


def _serve() -> None:
    _import_everything()
    for line in sys.stdin:
        print(json.dumps(asdict(_run(Order(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    _serve()

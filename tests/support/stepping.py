"""Run command lines of ``ingest`` and let each end, or fail, at a chosen step: every step can be visited in turn.

As a program: it imports the whole command line once, then forks for each JSON line of standard input a child that runs
one `Order`, and answers with a line, an `Outcome`. `Stepper` is the other side. A step is a call from Python into C
that others see: one of SQLite, of the disk, of a socket or of obstore, or that by which psycopg waits for an answer.
Each thread's steps are counted apart, so that the same number is the same step in each run. A run can also be frozen at
a step, and thawed when others have done what they would: meanwhile the same program, or another one elsewhere, runs
what else is ordered.
"""

import errno
import io
import json
import mmap
import os
import pkgutil
import resource
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn, Self

# That of psycopg alone.
POLL = type(select.poll())
CHANGES: dict[object, str] = {
    os: "open write rename replace unlink rmdir mkdir utime fsync fchmod chmod truncate ftruncate link close",
    io: "open",
    io.BufferedWriter: "write flush close",
    io.BufferedRandom: "write flush close",
    io.FileIO: "write close",
    sqlite3: "connect",
    sqlite3.Connection: "execute executemany commit rollback close",
    socket.socket: "connect send sendall",
    POLL: "poll",
    "obstore": "put copy delete",
}
READS: dict[object, str] = {
    os: "read pread stat lstat fstat statvfs scandir listdir",
    io.BufferedReader: "read readinto",
    io.BufferedRandom: "read readinto",
    sqlite3.Cursor: "fetchone fetchall",
    socket.socket: "recv recv_into",
    "obstore": "get list",
}
DATABASE = {sqlite3, sqlite3.Connection, sqlite3.Cursor}
# Nothing here takes a second; what hangs is aborted.
HANGS_AFTER_SECONDS = 20.0
MAIN, OTHERS = "main", "others"
# A job here is shorter than the second that a heartbeat waits for elsewhere.
QUICK_HEARTBEAT = 0.002
# What lasts is not waited out.
QUICK = {"away": 0.05, "pause": 0.02}


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command line and where it ends. ``fault`` at the step ``step`` of ``thread``; none at step 0.

    ``kill``: killed with -9. ``freeze``: stopped with all its threads, until it is thawed. ``full`` and ``broken``: the
    step fails as on a full disk, or on a broken one or a lost connection; ``lasting`` says that all later ones do so
    too. ``done`` says that the step does its work all the same. ``limit`` is how long any file may become, in bytes;
    ``timings`` are seconds that take the place of the program's own, ``kept`` how many bytes of a bundle are kept in
    memory; ``patience`` is when it counts as hanging.
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
    timings: dict[str, float] = field(default_factory=dict)
    kept: int | None = None
    patience: float = HANGS_AFTER_SECONDS
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
    """The program at work, for as long as a ``with`` block lasts.

    ``place`` is a command line that runs the one behind it somewhere else, as on another host; ``environment`` is what
    the program has besides this process's own variables, which is not what an order has.
    """

    def __init__(self, place: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._line = [*place, sys.executable, "-B", __file__]
        # What waits in C cannot be seen.
        self._environment = {**os.environ, "PSYCOPG_IMPL": "python", **(environment or {})}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, order: Order) -> Outcome:
        return Outcome(**self.ask(asdict(order)))

    @contextmanager
    def frozen(self, order: Order) -> "Iterator[Frozen]":
        """Run ``order``, whose fault is ``freeze``, until it stands still; it is thawed at the end of the block."""
        frozen = Frozen(self, self.ask(asdict(order)))
        try:
            yield frozen
        finally:
            frozen.thaw()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{self._line} ended"
        return dict(json.loads(answer))


class Frozen:
    """A run that stands still at the step ``hit``; empty where it came to its end before."""

    def __init__(self, stepper: Stepper, answer: dict[str, Any]) -> None:
        self._stepper, self._answer = stepper, answer
        self.hit = str(answer["hit"])

    @property
    def stands_still(self) -> bool:
        return "frozen" in self._answer

    def thaw(self) -> Outcome:
        """Let it go on, if it does not yet, and wait for its end."""
        if self.stands_still:
            self._answer = self._stepper.ask({"thaw": self._answer["frozen"]})
        return Outcome(**self._answer)


class _Steps:
    """A profiler (`sys.setprofile`) that counts steps, and makes one of them the last or the one that fails."""

    def __init__(self, order: Order) -> None:
        self._order = order
        watched = [CHANGES, READS] if order.fault == "broken" else [CHANGES]
        self._names = {(owner, name) for table in watched for owner, names in table.items() for name in names.split()}
        self._plain = {name for _, name in self._names}
        self._of_obstore = _functions_of_obstore({name for owner, name in self._names if owner == "obstore"})
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
        if owner is POLL and "psycopg" not in frame.f_code.co_filename:
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
        if fault == "freeze":
            self._hit = _described(owner, name, frame)
            self._note()
            # To the thread, not to the process: else another one may stop first, and this one still take its step.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            return
        # SQLite's close does not fail; a full disk lets go. What failed by itself has not done its work.
        lets_go = owner in DATABASE or fault == "full"
        spared = (lets_go and name in ("close", "unlink", "rmdir")) or event == "c_exception"
        if spared and fault != "kill":
            return
        self._hit = self._hit or _described(owner, name, frame)
        self._note()
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise _error(owner, fault)

    def _owner(self, function: Any) -> object | None:
        holder = function.__self__
        if holder is None:  # as of a library that is written in Rust
            return "obstore" if function in self._of_obstore else None
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
    if owner is POLL:
        gone: Exception = import_module("psycopg").OperationalError("the server closed the connection")
        return gone
    if owner == "obstore":
        lost: Exception = import_module("obstore.exceptions").GenericError("HTTP error: error sending request")
        return lost
    number = errno.ECONNRESET if owner is socket.socket else errno.ENOSPC if fault == "full" else errno.EIO
    return OSError(number, os.strerror(number))


def _functions_of_obstore(names: set[str]) -> set[object]:
    try:
        return {getattr(import_module("obstore"), name) for name in names}
    except ImportError:
        return set()


def _described(owner: object, name: str, frame: FrameType) -> str:
    return f"{getattr(owner, '__name__', owner)}.{name} in {_place(frame)}"


def _place(frame: FrameType | None) -> str:
    """Where in the package the step is."""
    while frame is not None:
        _, package, inner = frame.f_code.co_filename.rpartition("/ingest_cli/")
        if package:
            return f"{inner}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "?"


def _child(order: Order, steps: _Steps, stdout: int, stderr: int) -> NoReturn:
    from ingest_cli.__main__ import main

    _set_timings(QUICK | (order.timings or ({"heartbeat": QUICK_HEARTBEAT} if order.thread == OTHERS else {})))
    if order.kept is not None:
        vars(import_module("ingest_cli.pipeline.bundle_files"))["KEPT_BYTES"] = order.kept
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
    except BaseException:  # noqa: BLE001, it is shown
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


def _set_timings(timings: dict[str, float]) -> None:
    settings = vars(import_module("ingest_cli.settings.timings"))
    settings["Timings"] = partial(settings["Timings"], **timings)


class _Run:
    """An order at work in a child."""

    def __init__(self, order: Order) -> None:
        self._patience, self._steps = order.patience, _Steps(order)
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.child = os.fork()
        if self.child == 0:
            _child(order, self._steps, self._stdout.fileno(), self._stderr.fileno())

    def answer(self) -> dict[str, Any]:
        """Wait until it stands still, or has ended; an `Outcome` then."""
        status = _await(self.child, self._patience)
        if status is None:
            return {"frozen": self.child, "hit": self._steps.noted["hit"]}
        said = []
        for stream in (self._stdout, self._stderr):
            with stream:
                stream.seek(0)
                said.append(stream.read().decode())
        return asdict(Outcome(status=status, stdout=said[0], stderr=said[1], **self._steps.noted))


def _await(child: int, patience: float) -> int | None:
    """The status that the child ends with; None when it is stopped."""
    deadline = time.monotonic() + patience
    while True:
        changed, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
        if changed:
            return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGABRT)
        time.sleep(0.001)


def _import_everything() -> None:
    import ingest_cli
    from ingest_cli.errors import SettingsError

    for module in pkgutil.walk_packages(ingest_cli.__path__, "ingest_cli."):
        with suppress(ImportError, SettingsError):  # of what is not installed
            import_module(module.name)
    from ingest_cli.cli import app
    from ingest_cli.services.pacifica import http

    with redirect_stdout(io.StringIO()):
        app(["config"], standalone_mode=False)  # typer imports what it needs when it runs
    http.FIRST_PAUSE_SECONDS = 0.001


def _serve() -> None:
    _import_everything()
    frozen: dict[int, _Run] = {}
    try:
        for line in sys.stdin:
            question = json.loads(line)
            if "thaw" in question:
                run = frozen.pop(question["thaw"])
                os.kill(run.child, signal.SIGCONT)
            else:
                run = _Run(Order(**question))
            answer = run.answer()
            if "frozen" in answer:
                frozen[run.child] = run
            print(json.dumps(answer), flush=True)
    finally:
        for child in frozen:
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    _serve()

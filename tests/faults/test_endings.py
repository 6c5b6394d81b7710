"""SIGTERM ends every command within three seconds, whatever it waits for, and leaves nothing half.

Each time all commands are started at once, each on a site of its own, and told to end in the middle of their work.
"""

import json
import os
import re
import shutil
import socket
import sqlite3
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import ExitCode

from ..support.bundles import file_record, transaction, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.pacifica_double import Handler, PacificaSite
from ..support.site import Site
from ..support.waiting import PATIENCE, until

# What hangs is waited for, up to three seconds each time.
pytestmark = pytest.mark.sweep

SECONDS = 3.0
# For a machine that has much else to do.
SLACK = 3.0
LARGE = 6 << 30
TRANSACTION = ["--submitter", 1, "--project", "p", "--instrument", 1]
FAIL = ["job", "--job-id", 3, "--state", "FAILED", "--task", "ingest files", "--task-percent", 0]
COMMANDS: list[list[object]] = [
    ["new.tar"],
    ["-"],
    ["--queue", "new.tar"],
    ["move", "move.json"],
    ["retry", "--failed"],
    ["retry", 2],
    ["discard", 3],
    ["cancel", 3],
    FAIL,
    ["worker"],
    ["worker", "--until-empty", "-n", 2],
    ["watch", "--once", "--settle", 0, "drop"],
    ["watch", "--settle", 0, "drop"],
    ["serve", "--port", 0],
    ["state"],
    ["state", 1],
    ["stats"],
    ["events"],
    ["verify", "--all"],
    ["verify", 1],
    ["restore", 1, "-o", "restored.tar"],
    ["restore", 1, "--to", "restored"],
    ["backup", "copies"],
    ["prune", "--yes"],
    ["doctor"],
    ["doctor", "--probe"],
]
SERVICES = ("UNIQUEID_URL", "POLICY_INGEST_URL", "ARCHIVEINTERFACE_URL", "METADATA_INGEST_URL")


class Stage:
    """A site with a complete, a failed and a queued job, of which each command gets a copy."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._first = folder, folder / "first"
        self._first.mkdir()
        for name in ("drop", "source"):
            (self._first / name).mkdir()
        write_bundle(self._first / "done.tar")
        write_bundle(self._first / "failed.tar", metadata=b"{}")
        for name in ("queued.tar", "new.tar", "drop/other.tar"):
            write_bundle(self._first / name, {"data/name": name.encode()})
        self._first.joinpath("moved").write_bytes(b"a")
        record = file_record("data/a", b"a", source=str(self._first / "moved"))
        self._first.joinpath("move.json").write_text(json.dumps([*transaction(), record]))
        with self.at(self._first):
            run = Command(self._first)
            first = (["done.tar"], ["failed.tar"], ["--queue", "queued.tar"])
            assert [run(*words).returncode for words in first] == [0, 1, 0]

    @contextmanager
    def at(self, place: Path, **environment: str) -> Iterator[Site]:
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in {"XDG_DATA_HOME": str(place / "data"), **environment}.items():
                patch.setenv(variable, value)
            yield Site(place / "data" / "pacifica-ingest-cli")

    def copy(self, number: int) -> Path:
        place = self._folder / str(number)
        shutil.copytree(self._first, place)
        return place


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def end(started: dict[str, Running]) -> dict[str, int]:
    """Tell all to end; their exit statuses. What has not ended in time is killed, and an error."""
    for process in started.values():
        process.terminate()
    deadline = time.monotonic() + SECONDS + SLACK
    statuses, late = {}, []
    for words, process in started.items():
        try:
            statuses[words] = process.wait(max(0.01, deadline - time.monotonic()))
        except Exception:  # noqa: BLE001 - of two kinds, as of two kinds of processes
            late.append(words)
            process.kill()
            process.wait()
    assert not late
    return statuses


def has_open(pid: int, wanted: str) -> bool:
    """Whether a process, or one of its children, has such a file or a socket open."""
    processes = [str(pid)]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            processes += path.read_text().split()
    return any(re.search(wanted, link) for process in processes for link in links_of(process))


def links_of(process: str) -> Iterator[str]:
    for link in Path(f"/proc/{process}/fd").glob("*"):
        with suppress(OSError):
            yield str(link.readlink())


def await_work(started: dict[str, Running], wanted: str) -> None:
    """Wait until each is at it, or has ended by itself."""
    for process in started.values():
        while process.poll() is None and not has_open(process.pid, wanted):
            time.sleep(0.02)


@contextmanager
def running(place: Path, words: list[object], **how: Any) -> Iterator[Running]:
    process = Command(place).start(*words, **how)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def assert_tidy(place: Path) -> None:
    """Nothing stands under a temporary name, and nothing that was to appear whole."""
    assert not [path for path in place.rglob("*") if path.suffix == ".part" or re.match(r"\.ingest-.{8}$", path.name)]
    assert not [name for name in ("restored.tar", "restored", "packed.tar", "copies") if (place / name).exists()]


def test_while_the_job_store_is_locked(stage: Stage) -> None:
    """SQLite does not come back to Python before it has the lock, or a minute is over."""
    with ExitStack() as stack:
        started = {}
        for number, words in enumerate(COMMANDS):
            place = stage.copy(number)
            with stage.at(place) as site:
                lock = stack.enter_context(closing(sqlite3.connect(site.database, isolation_level=None)))
                lock.execute("PRAGMA locking_mode=EXCLUSIVE")
                lock.execute("BEGIN EXCLUSIVE")
                lock.execute("CREATE TABLE another (one)")
                started[str(words)] = stack.enter_context(running(place, words))
        await_work(started, r"jobs\.sqlite3")
        statuses = end(started)
    pools = [str(words) for words in COMMANDS if "-n" in words or words[0] in ("watch", "serve")]
    assert {words for words, status in statuses.items() if status != ExitCode.INTERRUPTED} <= {*pools}


@pytest.mark.parametrize(
    "service", [SERVICES[2], *(pytest.param(name, marks=pytest.mark.sweep) for name in SERVICES if name != SERVICES[2])]
)
def test_while_a_service_does_not_answer(stage: Stage, service: str) -> None:
    """The archive has several requests at once, each waited for by a thread of its own."""
    with ExitStack() as stack:
        # The kernel makes the connections; nobody takes them.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=200))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started, places = {}, {}
        for number, words in enumerate(COMMANDS):
            place = places[str(words)] = stage.copy(number)
            with stage.at(place, **{service: url, "ARCHIVEINTERFACE_TRANSFERS": "4"}):
                started[str(words)] = stack.enter_context(running(place, words))
        await_work(started, r"sqlite3|socket:")
        statuses = end(started)
    for name, status in statuses.items():
        if status == ExitCode.INTERRUPTED:
            assert_tidy(places[name])


def test_while_threads_wait_for_the_archive(stage: Stage) -> None:
    """Python waits for its threads, and these for an answer."""
    place, release = stage.copy(0), threading.Event()

    def hold(handler: Handler) -> bool:
        if handler.command == "PUT":
            release.wait(PATIENCE)
        return False

    with ExitStack() as stack:
        server = stack.enter_context(PacificaSite())
        stack.callback(release.set)
        server.guard = hold
        stack.enter_context(stage.at(place, ARCHIVEINTERFACE_URL=server.url, ARCHIVEINTERFACE_TRANSFERS="4"))
        bundle = write_bundle(place / "many.tar", {f"data/{number}": b"x" for number in range(9)})
        process = stack.enter_context(running(place, [bundle]))
        until(lambda: [method for method, _ in server.requests].count("PUT") == 4)
        assert end({"": process}) == {"": ExitCode.INTERRUPTED}


def test_while_nothing_comes(stage: Stage) -> None:
    place = stage.copy(0)
    reading, writing = os.pipe()
    with ExitStack() as stack:
        stdin = stack.enter_context(os.fdopen(reading, "rb"))
        stack.callback(os.close, writing)
        stack.enter_context(stage.at(place))
        started = {
            "-": stack.enter_context(running(place, ["-"], stdin=stdin)),
            "watch": stack.enter_context(running(place, ["watch", "--once", "--settle", 3600, "drop"])),
        }
        await_work(started, r"upload-|watch\.lock")
        assert set(end(started).values()) == {ExitCode.INTERRUPTED}
        assert_tidy(place)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["check", "big.tar"], r"big\.tar"),
        (["big.tar"], r"big\.tar"),
        (["--again", "--json", "big.tar"], r"big\.tar"),
        (["worker"], r"big\.tar"),
        (["worker", "-n", 2], r"big\.tar"),
        (["verify", "--all"], r"file\.1$"),
        (["verify", "1"], r"file\.1$"),
        (["restore", 1, "-o", "restored.tar"], r"file\.1$"),
        (["restore", 1, "--to", "restored"], r"file\.1$"),
        (["restore", 1, "-o", "-"], r"file\.1$"),
        (["pack", "source", *TRANSACTION, "-o", "packed.tar"], "source/big"),
        (["watch", "--once", "--settle", 0, "--patience", 0, "--pack", "template.json", "drop"], "drop/run/big"),
    ],
    ids=lambda given: " ".join(map(str, given)) if isinstance(given, list) else "",
)
def test_in_the_middle_of_a_large_file(stage: Stage, words: list[object], wanted: str) -> None:
    place = stage.copy(0)
    with stage.at(place) as site, ExitStack() as stack:
        fill_with_large_files(place, site)
        if words[0] == "worker":
            assert Command(place)("--queue", "big.tar").returncode == 0
        process = stack.enter_context(running(place, words))
        await_work({"": process}, wanted)
        assert process.poll() is None
        end({"": process})
        assert_tidy(place)


def fill_with_large_files(place: Path, site: Site) -> None:
    """Files of zeros without room on the disk: in a bundle, in folders to be packed, and in the archive."""
    record = file_record("data/big", b"", size=LARGE)
    document = json.dumps([*transaction(), record]).encode()
    with (place / "big.tar").open("wb") as tar:
        for name, size, content in (("metadata.txt", len(document), document), ("data/big", LARGE, b"")):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.write(info.tobuf() + content + bytes(-len(content) % 512))
        tar.truncate(tar.tell() + LARGE + 1024)
    (place / "drop" / "run").mkdir()
    for path in (place / "source" / "big", place / "drop" / "run" / "big"):
        path.touch()
        os.truncate(path, LARGE)
    (place / "template.json").write_text(json.dumps(transaction()))
    site.file(1).chmod(0o600)
    os.truncate(site.file(1), LARGE)
    with closing(sqlite3.connect(site.catalog)) as catalog, catalog:
        catalog.execute("UPDATE Files SET size = ? WHERE id = 1", [LARGE])

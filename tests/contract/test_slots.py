"""Slots: as many requests at once as there are, of all threads and processes, and none waits while one is free."""

import fcntl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ingest_cli.errors import StoreError
from ingest_cli.services.slots import Slots

SECONDS = 10.0
Wait = Callable[[int], "Future[None]"]
HOLD = """
import sys
from pathlib import Path
from ingest_cli.services.slots import Slots
with Slots(Path(sys.argv[1]), int(sys.argv[2])).acquire():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(path: Path, count: int) -> Iterator["subprocess.Popen[str]"]:
    """Another process has a slot."""
    line = [sys.executable, "-c", HOLD, str(path), str(count)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def lock(path: Path, number: int) -> Iterator[None]:
    with path.with_name(f"{path.name}-{number}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def wait(path: Path) -> Iterator[Wait]:
    """Have a thread wait for one of so many slots."""

    def acquire(count: int) -> None:
        with Slots(path, count).acquire():
            pass

    def wait(count: int) -> "Future[None]":
        waiter = pool.submit(acquire, count)
        with pytest.raises(TimeoutError):
            waiter.result(0.1)
        return waiter

    with ThreadPoolExecutor(1) as pool:
        yield wait


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


@pytest.mark.parametrize("freed", range(3))
def test_whichever_slot_is_freed_first_is_taken(path: Path, wait: Wait, freed: int) -> None:
    """The others may be those of a process that is frozen."""
    with ExitStack() as kept, ExitStack() as first:
        for number in range(3):
            (first if number == freed else kept).enter_context(lock(path, number))
        waiter = wait(3)
        first.close()
        waiter.result(SECONDS)


@pytest.mark.parametrize("count", [1, 2])
def test_the_slot_of_a_process_that_was_killed_is_free(path: Path, wait: Wait, count: int) -> None:
    with ExitStack() as stack:
        holders = [stack.enter_context(held_by_another(path, count)) for _ in range(count)]
        waiter = wait(count)
        holders[0].kill()
        waiter.result(SECONDS)


@pytest.mark.parametrize("count", [1, 3])
def test_so_many_at_once_and_no_more(path: Path, count: int) -> None:
    at_work, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(count)

    def work() -> None:
        nonlocal at_work, most
        with Slots(path, count).acquire():
            with lock:
                at_work += 1
                most = max(most, at_work)
            together.wait(SECONDS)
            with lock:
                at_work -= 1

    with ThreadPoolExecutor(4 * count) as pool:
        for done in [pool.submit(work) for _ in range(4 * count)]:
            done.result(2 * SECONDS)
    assert most == count


def test_a_thread_that_has_a_slot_needs_no_other(path: Path) -> None:
    slots = Slots(path, 1)
    with slots.acquire(), slots.acquire():
        pass


def test_a_place_that_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot lock"), Slots(tmp_path / "none" / "transfer", 2).acquire():
        pass

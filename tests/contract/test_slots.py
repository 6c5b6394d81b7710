"""Slots: as many requests at once as there are, of all threads and processes, and none waits while one is free."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from ingest_cli.errors import ResourceUnavailable, StoreError
from ingest_cli.services.slots import FileSlots, Slots
from ingest_cli.settings import PostgresUrl, Timings

from ..support.postgres import PostgresServer

SECONDS, STALE_SECONDS = 10.0, 4.0
HOLD = """
import sys
from tests.contract import test_slots
with getattr(test_slots, sys.argv[1])().acquired(sys.argv[2], int(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.read()
"""


class SlotsContract:
    """What slots promise, wherever they are kept; a class of it says how they are made at a ``place``."""

    @staticmethod
    def slots(place: str, count: int) -> Slots:
        raise NotImplementedError

    @contextmanager
    def acquired(self, place: str, count: int) -> Iterator[None]:
        with closing(self.slots(place, count)) as slots, slots.acquire():
            yield

    @pytest.mark.parametrize("freed", range(3))
    def test_whichever_slot_is_freed_first_is_taken(self, place: str, freed: int) -> None:
        """The others may be those of a process that is frozen."""
        with ExitStack() as kept, ExitStack() as first:
            holders = [kept.enter_context(self.held_in_thread(place, 3)) for _ in range(3)]
            waiter = kept.enter_context(self.waiting(place, 3))
            first.callback(holders[freed].set)
            first.close()
            waiter.result(SECONDS)

    @pytest.mark.parametrize("count", [1, 2])
    def test_the_slot_of_a_process_that_was_killed_is_free(self, place: str, count: int) -> None:
        with ExitStack() as stack:
            holders = [stack.enter_context(self.held_by_another(place, count)) for _ in range(count)]
            waiter = stack.enter_context(self.waiting(place, count))
            holders[0].kill()
            waiter.result(SECONDS)

    @pytest.mark.parametrize("count", [1, 3])
    def test_so_many_at_once_and_no_more(self, place: str, count: int) -> None:
        at_work, most, lock = 0, 0, threading.Lock()
        together = threading.Barrier(count)

        def work() -> None:
            nonlocal at_work, most
            with self.acquired(place, count):
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

    def test_a_thread_that_has_a_slot_needs_no_other(self, place: str) -> None:
        with closing(self.slots(place, 1)) as slots:
            with slots.acquire(), slots.acquire():
                pass
            with slots.acquire():
                pass

    @contextmanager
    def held_in_thread(self, place: str, count: int) -> Iterator[threading.Event]:
        """A thread has a slot until the event is set."""
        taken, release = threading.Event(), threading.Event()

        def hold() -> None:
            with self.acquired(place, count):
                taken.set()
                release.wait(SECONDS)

        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(hold)
            assert taken.wait(SECONDS)
            try:
                yield release
            finally:
                release.set()
                held.result(SECONDS)

    @contextmanager
    def held_by_another(self, place: str, count: int) -> Iterator["subprocess.Popen[str]"]:
        """Another process has a slot."""
        line = [sys.executable, "-c", HOLD, type(self).__name__, place, str(count)]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def waiting(self, place: str, count: int) -> Iterator["Future[None]"]:
        """A thread waits for one of so many slots, none of which is free."""

        def acquire() -> None:
            with self.acquired(place, count):
                pass

        with ThreadPoolExecutor(1) as pool:
            waiter = pool.submit(acquire)
            with pytest.raises(TimeoutError):
                waiter.result(0.1)
            yield waiter


class TestFileSlots(SlotsContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return str(tmp_path / "transfer")

    @staticmethod
    def slots(place: str, count: int) -> Slots:
        return FileSlots(Path(place), count)

    @pytest.mark.parametrize("locked", range(3))
    def test_each_is_a_lock_of_the_kernel(self, place: str, locked: int) -> None:
        with Path(f"{place}-{locked}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self.held_in_thread(place, 3), self.held_in_thread(place, 3), self.waiting(place, 3) as waiter:
                fcntl.flock(file, fcntl.LOCK_UN)
                waiter.result(SECONDS)

    def test_a_place_that_cannot_be_locked(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="cannot lock"), self.slots(str(tmp_path / "none" / "x"), 2).acquire():
            pass


@pytest.mark.cluster
class TestPostgresSlots(SlotsContract):
    @pytest.fixture
    def place(self, postgres: PostgresUrl) -> str:
        from ingest_cli.jobs.postgres import PostgresJobStore
        from ingest_cli.jobs.postgres_connections import PostgresConnections

        with PostgresJobStore(PostgresConnections(postgres), Timings()):
            return postgres.text

    @staticmethod
    def slots(place: str, count: int) -> Slots:
        from ingest_cli.services.postgres_slots import PostgresSlots

        return PostgresSlots(PostgresUrl(place, place), "archive", count, Timings(heartbeat=0.05, stale=STALE_SECONDS))

    def test_the_slot_of_a_process_that_is_frozen_is_free_after_a_while(self, place: str) -> None:
        with self.held_by_another(place, 1) as holder, self.waiting(place, 1) as waiter:
            with pytest.raises(TimeoutError):
                waiter.result(1.5 * STALE_SECONDS)  # it lives
            os.kill(holder.pid, signal.SIGSTOP)
            waiter.result(SECONDS + STALE_SECONDS)

    def test_a_server_that_was_restarted_is_asked_again(self, place: str, postgres_server: PostgresServer) -> None:
        with closing(self.slots(place, 1)) as slots:
            for _ in range(2):
                with slots.acquire():
                    pass
                postgres_server.restart()
        with self.held_in_thread(place, 1):
            pass

    def test_slots_of_another_name_are_others(self, place: str) -> None:
        from ingest_cli.services.postgres_slots import PostgresSlots

        others = PostgresSlots(PostgresUrl(place, place), "other", 1, Timings())
        with self.held_in_thread(place, 1), closing(others) as slots, slots.acquire():
            pass

    def test_none_can_be_had_while_the_database_can_only_be_read(
        self, place: str, postgres_server: PostgresServer
    ) -> None:
        """As while another server takes over."""
        name = place.rpartition("/")[2]
        postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on", name)
        with pytest.raises(ResourceUnavailable, match="read-only"), self.acquired(place, 1):
            pass

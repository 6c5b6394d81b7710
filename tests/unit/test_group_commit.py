"""Threads write to a database together: each as if alone, with a commit for all that stood in line."""

import errno
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import FrameType

import pytest

from ingest_cli.errors import ResourceUnavailable
from ingest_cli.jobs.database import Refused, reading, writing
from ingest_cli.jobs.group_commit import GroupCommit, Shared
from ingest_cli.jobs.sqlite_database import SqliteDatabase as Database
from ingest_cli.jobs.sqlite_database import open_database
from ingest_cli.shared_sync import SharedSync

from ..support.waiting import until

# What is wrong with a debt is found by the commit.
MIGRATIONS = [
    "CREATE TABLE numbers (number INTEGER PRIMARY KEY);"
    "CREATE TABLE debts (number INTEGER REFERENCES numbers(number) DEFERRABLE INITIALLY DEFERRED)"
]
THREADS = 8
FULL = 2  # of what PRAGMA synchronous may be


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "numbers.sqlite3"


@pytest.fixture
def shared() -> Iterator[Shared]:
    with Shared() as shared:
        yield shared


def numbers(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT number FROM numbers")}


def opened(path: Path, shared: Shared) -> Database:
    return open_database(path, MIGRATIONS, "numbers", shared=shared)


def insert(database: Database, number: int) -> None:
    with writing(database) as connection:
        connection.execute("INSERT INTO numbers VALUES (?)", [number])


def held_up(path: Path, shared: Shared, *works: Callable[[Database], None]) -> list[BaseException | None]:
    """The errors of what is written by a thread each, all of which stand in line before the first has its turn."""
    databases = [opened(path, shared) for _ in works]
    group = databases[0].group
    assert group is not None
    with ThreadPoolExecutor(len(works)) as threads:
        with group._turn:
            written = [threads.submit(work, database) for work, database in zip(works, databases, strict=True)]
            until(lambda: len(group._line) == len(works))
        errors = [one.exception() for one in written]
    for database in databases:
        database.close()
    return errors


def test_those_in_line_are_committed_together(path: Path, shared: Shared) -> None:
    commits: list[str] = []
    with closing(opened(path, shared)) as database:
        assert database.group is not None
        database.group.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        assert held_up(path, shared, *(lambda database, n=n: insert(database, n) for n in range(THREADS))) == (
            [None] * THREADS
        )
    assert commits == ["COMMIT"]
    assert numbers(path) == set(range(THREADS))


def test_what_need_not_be_durable_is_synced_only_with_what_must_be(path: Path, shared: Shared) -> None:
    found: list[tuple[bool, bool]] = []

    def write(*, durable: bool) -> Callable[[Database], None]:
        def work(database: Database) -> None:
            with writing(database, durable=durable) as connection:
                found.append((durable, connection.execute("PRAGMA synchronous").fetchone()[0] == FULL))

        return work

    for durable in (False, True, False):
        assert held_up(path, shared, write(durable=durable)) == [None]
    assert found == [(False, False), (True, True), (False, False)]
    found.clear()
    assert held_up(path, shared, *(write(durable=number % 2 > 0) for number in range(THREADS))) == [None] * THREADS
    assert all(is_synced for durable, is_synced in found if durable)
    first = [durable for durable, _ in found].index(True)
    assert [is_synced for _, is_synced in found] == [False] * first + [True] * (THREADS - first)


def test_a_database_without_a_wal_is_synced_with_every_commit(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=truncate")
        with GroupCommit(connection).writing(durable=False):
            assert connection.execute("PRAGMA synchronous").fetchone() == (FULL,)


def test_an_error_undoes_what_its_own_thread_wrote_and_nothing_else(path: Path, shared: Shared) -> None:
    def fail(database: Database) -> None:
        with writing(database) as connection:
            connection.execute("INSERT INTO numbers VALUES (100)")
            raise RuntimeError("this one")

    works = [lambda database, n=n: insert(database, n) for n in range(4)]
    errors = held_up(path, shared, works[0], fail, works[1], lambda database: insert(database, 0), *works[2:])
    assert [type(error) for error in errors if error is not None].count(RuntimeError) == 1
    # Whichever of both came first has the number.
    assert [type(error) for error in errors if error is not None].count(Refused) == 1
    assert numbers(path) == {0, 1, 2, 3}


def test_where_the_commit_fails_all_are_told(path: Path, shared: Shared) -> None:
    def owe(database: Database) -> None:
        with writing(database) as connection:
            connection.execute("INSERT INTO debts VALUES (77)")

    errors = held_up(path, shared, *(lambda database, n=n: insert(database, n) for n in range(3)), owe)
    assert [type(error) for error in errors] == [Refused] * 4
    assert numbers(path) == set()
    assert held_up(path, shared, lambda database: insert(database, 5)) == [None]
    assert numbers(path) == {5}


def test_a_database_that_another_process_writes_to_is_waited_for_by_each(path: Path, shared: Shared) -> None:
    with closing(open_database(path, MIGRATIONS, "numbers", 0.05, shared=shared)) as database:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(ResourceUnavailable, match="locked"):
                insert(database, 1)
        insert(database, 2)
    assert numbers(path) == {2}


def test_a_thread_reads_what_it_writes_and_nobody_else_does_before_it_is_committed(path: Path, shared: Shared) -> None:
    with closing(opened(path, shared)) as database, closing(opened(path, shared)) as other:
        with writing(database) as connection:
            connection.execute("INSERT INTO numbers VALUES (1)")
            with writing(database) as nested, reading(database) as seen:
                assert nested is seen is connection
                assert tuple(seen.execute("SELECT count(*) FROM numbers").fetchone()) == (1,)
            with reading(other) as seen:
                assert tuple(seen.execute("SELECT count(*) FROM numbers").fetchone()) == (0,)
        with reading(other) as seen:
            assert tuple(seen.execute("SELECT count(*) FROM numbers").fetchone()) == (1,)


def test_whatever_threads_do_at_once_what_returned_is_there_and_what_failed_is_not(path: Path, shared: Shared) -> None:
    def work(thread: int) -> tuple[set[int], set[int]]:
        chance, kept, failed = random.Random(thread), set(), set()
        with closing(opened(path, shared)) as database:
            for number in range(thread * 1000, thread * 1000 + 30):
                try:
                    with writing(database, durable=chance.random() < 0.5) as connection:
                        connection.execute("INSERT INTO numbers VALUES (?)", [number])
                        if chance.random() < 0.3:
                            connection.execute("INSERT INTO numbers VALUES (?)", [number])
                except Refused:
                    failed.add(number)
                else:
                    kept.add(number)
                    assert number in numbers(path)
        return kept, failed

    with ThreadPoolExecutor(THREADS) as threads:
        done = list(threads.map(work, range(THREADS)))
    assert numbers(path) == set().union(*(kept for kept, _ in done))
    assert all(failed for _, failed in done)


@contextmanager
def interrupting() -> Iterator[Callable[[float], None]]:
    """What has a signal raise KeyboardInterrupt in the main thread, as Ctrl-C does, after so many seconds."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if is_wanted:
            raise KeyboardInterrupt

    def after(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    is_wanted = True
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield after
    finally:
        is_wanted = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # one that is on its way, too
        signal.signal(signal.SIGALRM, before)


def test_nobody_waits_for_a_thread_that_was_interrupted_in_line(path: Path, shared: Shared) -> None:
    in_turn, may_go_on = threading.Event(), threading.Event()

    def write() -> None:
        with closing(opened(path, shared)) as database, writing(database) as connection:
            connection.execute("INSERT INTO numbers VALUES (1)")
            in_turn.set()
            may_go_on.wait()

    with closing(opened(path, shared)) as database:
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        in_turn.wait()
        with interrupting() as after:
            after(0.05)
            with pytest.raises(KeyboardInterrupt):
                insert(database, 2)
        may_go_on.set()
        writer.join(10)
        assert not writer.is_alive()
    assert numbers(path) == {1}


def test_wherever_a_thread_is_interrupted_what_others_write_is_there_or_they_are_told(
    path: Path, shared: Shared
) -> None:
    """Those who are told may try again, and find out: nobody waits for ever, and nothing else fails."""
    chance, ended = random.Random(1), threading.Event()
    kept, told, wrong = set[int](), set[int](), list[Exception]()

    def write(thread: int) -> None:
        with closing(opened(path, shared)) as database:
            number = thread * 1_000_000
            while not ended.is_set():
                number += 1
                try:
                    insert(database, number)
                except ResourceUnavailable:
                    told.add(number)
                except Exception as error:
                    wrong.append(error)
                    raise
                else:
                    kept.add(number)

    threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(1, 4)]
    with closing(opened(path, shared)) as database:
        for thread in threads:
            thread.start()
        until_then, own, interruptions = time.monotonic() + 0.7, count(), 0
        while time.monotonic() < until_then:
            try:
                with interrupting() as after, suppress(ResourceUnavailable):
                    after(chance.uniform(1e-5, 4e-3))
                    while True:
                        insert(database, next(own))
            except KeyboardInterrupt:
                interruptions += 1
        ended.set()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert interruptions > 10
    assert not wrong
    assert kept <= {number for number in numbers(path) if number >= 1_000_000} <= kept | told


class Disk:
    """A disk whose syncs end when they are told to; those that are numbered in ``broken`` fail."""

    def __init__(self, *broken: int) -> None:
        self.begun, self.may_end = threading.Semaphore(0), threading.Semaphore(0)
        self.syncs, self._broken = 0, broken

    def sync(self, _folder: Path) -> None:
        self.syncs += 1
        number = self.syncs
        self.begun.release()
        self.may_end.acquire()
        if number in self._broken:
            raise OSError(errno.EIO, "the disk is broken")


def synced(disk: Disk, folder: Path) -> tuple[BaseException | None, list[BaseException | None]]:
    """What comes of a sync, and of those that are asked for while it goes on."""
    sync = SharedSync(disk.sync)
    with ThreadPoolExecutor(THREADS) as threads:
        first = threads.submit(sync, folder)
        disk.begun.acquire()
        others = [threads.submit(sync, folder) for _ in range(THREADS - 1)]
        (queue,) = sync._queues.values()
        until(lambda: queue.asked == THREADS)
        disk.may_end.release()
        disk.begun.acquire()
        found = first.exception()
        assert not any(other.done() for other in others), "what they wrote may have come after the first had begun"
        disk.may_end.release()
        return found, [other.exception() for other in others]


def test_a_sync_is_for_all_who_asked_before_it_began(tmp_path: Path) -> None:
    disk = Disk()
    assert synced(disk, tmp_path) == (None, [None] * (THREADS - 1))
    assert disk.syncs == 2


def test_where_a_sync_fails_all_hear_of_it_that_it_was_for(tmp_path: Path) -> None:
    disk = Disk(2)
    first, others = synced(disk, tmp_path)
    assert first is None
    assert [type(error) for error in others] == [OSError] * (THREADS - 1)
    assert disk.syncs == 2


def test_who_asks_while_a_sync_fails_hears_of_it_too(tmp_path: Path) -> None:
    """What could not be written may be theirs, and the system says so but once."""
    disk = Disk(1)
    sync = SharedSync(disk.sync)
    with ThreadPoolExecutor(THREADS) as threads:
        first = threads.submit(sync, tmp_path)
        disk.begun.acquire()
        others = [threads.submit(sync, tmp_path) for _ in range(THREADS - 1)]
        (queue,) = sync._queues.values()
        until(lambda: queue.asked == THREADS)
        for _ in range(2):
            disk.may_end.release()
        assert {type(one.exception()) for one in (first, *others)} == {OSError}
        disk.may_end.release()
        sync(tmp_path)

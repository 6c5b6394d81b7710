"""Group commit: what several threads write to a database at the same time is committed, and synced, together.

SQLite has one writer at a time. Threads with a connection each wait for one another by polling, and each pays for a
sync of its own. Here they have one connection to write by: each has its turn in one transaction, behind a savepoint,
and waits until the last of those that stood in line has committed it for all. What need not be durable is not synced,
unless it is committed with what must be.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, cast

from ..shared_sync import SharedSync
from .database import Delays

# How long a batch is waited for before those who wait look whether it was left alone.
LEFT_SECONDS = 0.1


class _Batch:
    """What is committed together, and synced where it ``is_durable``. ``error`` says why it was not.

    Not with an Event: who is interrupted while setting one, or waiting, may leave it locked for good.
    """

    def __init__(self, *, is_durable: bool) -> None:
        self.is_durable = is_durable
        self.error: sqlite3.Error | None = None
        self._has_ended, self._gate = False, threading.Lock()
        self._gate.acquire()

    def end(self) -> None:
        """Let those go on who wait."""
        self._has_ended = True
        self._open()

    def wait(self, seconds: float) -> bool:
        """Wait for its end, but no longer; whether it has come."""
        if self._gate.acquire(timeout=seconds):
            self._open()  # for the next one
        return self._has_ended

    def _open(self) -> None:
        with suppress(RuntimeError):  # it is open
            self._gate.release()


class GroupCommit:
    """Transactions of several threads by one ``connection``, which nothing else uses.

    A signal may raise an exception in the main thread anywhere: others that write do not wait for it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection, self.delays = connection, Delays()
        self._turn = threading.Lock()
        self._line: set[object] = set()
        self._batch: _Batch | None = None
        # Whether commits are synced; None where that is not known.
        self._are_synced: bool | None = None

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Have a turn. What is written is committed at the end of the block, and what is to be ``durable`` synced; an
        exception undoes it, and nothing else.

        Raises the error of the commit, which those have in common who wrote together.
        """
        with self._next_turn():
            try:
                batch = self._begun(durable=durable)
                self.connection.execute("SAVEPOINT turn")
                yield self.connection
                self.connection.execute("RELEASE turn")
            except BaseException as error:
                self._undo(error)
                raise
            finally:
                if self._batch is not None and not self._line:
                    self._commit()
        while not batch.wait(LEFT_SECONDS):
            self._end_if_left(batch)
        if batch.error is not None:
            raise batch.error

    @contextmanager
    def _next_turn(self) -> Iterator[None]:
        place = object()
        try:
            self._line.add(place)
            with self._turn:
                self._line.discard(place)
                yield
        finally:
            self._line.discard(place)

    def _begun(self, *, durable: bool) -> _Batch:
        if self._batch is not None and not self.connection.in_transaction:
            self._end(_interrupted())
        if self._batch is not None and durable and not self._batch.is_durable:
            self._commit()  # SQLite cannot make it durable any more
        if self._batch is None:
            if self.connection.in_transaction:  # it could not be undone, or who began it was interrupted
                self.connection.execute("ROLLBACK")
            is_synced = durable or not self._has_wal
            self._have_commits_synced(wanted=is_synced)
            self.connection.execute("BEGIN IMMEDIATE")
            self._batch = _Batch(is_durable=is_synced)
        return self._batch

    @cached_property
    def _has_wal(self) -> bool:
        """Without a WAL, a database that is not synced may be damaged by a loss of power."""
        return bool(self.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")

    def _have_commits_synced(self, *, wanted: bool) -> None:
        if self._are_synced is not wanted:
            self._are_synced = None
            self.connection.execute(f"PRAGMA synchronous={'FULL' if wanted else 'NORMAL'}")
            self._are_synced = wanted

    def _undo(self, error: BaseException) -> None:
        """Undo what was written in this turn; where SQLite has undone the others' turns too, they are told."""
        try:
            if self._batch is not None and self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO turn")
                self.connection.execute("RELEASE turn")
                return
        except sqlite3.Error as trouble:
            error = sqlite3.OperationalError(str(trouble))  # for the others it is none of theirs: it may pass
        self._end(error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError(str(error)))

    def _commit(self) -> None:
        error: sqlite3.Error | None = None
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as refused:
            error = refused
        finally:  # a signal is heard once SQLite has done it
            self._end(error)

    def _end(self, error: sqlite3.Error | None) -> None:
        if self.connection.in_transaction:
            error = error or _interrupted()
            # What cannot be undone now is undone before anyone writes again, or when the database is opened next.
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
        batch = self._batch
        if batch is not None:
            batch.error = error
            self._batch = None
            batch.end()

    def _end_if_left(self, batch: _Batch) -> None:
        """End a batch whose last turn was that of a thread which was interrupted before it could."""
        if not self._turn.acquire(blocking=False):
            return  # who has a turn ends it
        try:
            if self._batch is not batch:
                batch.end()
            elif self.connection.in_transaction:
                self._commit()
            else:
                self._end(_interrupted())
        finally:
            self._turn.release()


def _interrupted() -> sqlite3.Error:
    """What those are told of whose commit nobody knows the end of. It may pass: whoever tries again finds out."""
    return sqlite3.OperationalError("it was interrupted")


class Pool(Protocol):
    """Connections that are closed by the last of those who have them open."""

    def open(self) -> None:
        """Have them for one more user."""

    def close(self) -> None:
        """Have them for one less."""


U = TypeVar("U")
P = TypeVar("P", bound=Pool)


class Shared:
    """What threads of this process share, for as long as a ``with`` block lasts: the connections by which they write,
    one to each database, and the ``sync`` of file systems. The site's other databases know those that are
    ``introduced``."""

    def __init__(self) -> None:
        self.sync, self.introduced = SharedSync(), set[Path]()
        self._groups: dict[Path, GroupCommit] = {}
        self._pools: dict[object, Pool] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Shared":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections; but where this process is to end at once, threads may be using them."""
        if kind is None or issubclass(kind, Exception):
            self.close()

    def close(self) -> None:
        """Close the connections, which no thread uses any more."""
        for group in self._groups.values():
            group.connection.close()
        for pool in self._pools.values():
            pool.close()

    def pool(self, url: U, make: Callable[[U], P]) -> P:
        """The connections to the database at ``url`` on a server; the first who asks has them made."""
        with self._lock:
            if url not in self._pools:
                self._pools[url] = made = make(url)
                made.open()
            return cast(P, self._pools[url])

    def group(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> GroupCommit:
        """Those who write to the database at ``path``; the first of them has it ``connect``."""
        with self._lock:
            if path not in self._groups:
                self._groups[path] = GroupCommit(connect())
            return self._groups[path]

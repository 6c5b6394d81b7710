"""Group commit: what several threads write to a database at the same time is committed, and synced, together.

SQLite has one writer at a time. Threads with a connection each wait for one another by polling, and each pays for a
sync of its own. Here they have one connection to write by: each has its turn in one transaction, behind a savepoint,
and waits until the last of those that stood in line has committed it for all.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ..disk import SharedSync


class _Batch:
    """What is committed together. ``error`` says why it was not."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.error: sqlite3.Error | None = None


class GroupCommit:
    """Transactions of several threads by one ``connection``, which nothing else uses."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._turn, self._counting = threading.Lock(), threading.Lock()
        self._in_line = 0
        self._batch: _Batch | None = None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Have a turn. What is written is durable at the end of the block; an exception undoes it, and nothing else.

        Raises the error of the commit, which those have in common who wrote together.
        """
        with self._next_turn():
            batch = self._begun()
            try:
                self.connection.execute("SAVEPOINT turn")
                yield self.connection
                self.connection.execute("RELEASE turn")
            except BaseException as error:
                self._undo(batch, error)
                raise
            finally:
                if self._batch is not None and not self._in_line:
                    self._commit(batch)
        batch.ended.wait()
        if batch.error is not None:
            raise batch.error

    @contextmanager
    def _next_turn(self) -> Iterator[None]:
        with self._counting:
            self._in_line += 1
        with self._turn:
            with self._counting:
                self._in_line -= 1
            yield

    def _begun(self) -> _Batch:
        if self._batch is None:
            self.connection.execute("BEGIN IMMEDIATE")
            self._batch = _Batch()
        return self._batch

    def _undo(self, batch: _Batch, error: BaseException) -> None:
        """Undo what was written in this turn; where SQLite has undone the others' turns too, they are told."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO turn")
                self.connection.execute("RELEASE turn")
                return
        except sqlite3.Error as trouble:
            error = trouble
        self._end(batch, error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError(str(error)))

    def _commit(self, batch: _Batch) -> None:
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._end(batch, error)
        else:
            self._end(batch, None)

    def _end(self, batch: _Batch, error: sqlite3.Error | None) -> None:
        # What cannot be undone now SQLite undoes when the database is opened next.
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        self._batch, batch.error = None, error
        batch.ended.set()


class Shared:
    """What threads of this process share, for as long as a ``with`` block lasts: the connections by which they write,
    one to each database, and the ``sync`` of file systems."""

    def __init__(self) -> None:
        self.sync = SharedSync()
        self._groups: dict[Path, GroupCommit] = {}
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

    def group(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> GroupCommit:
        """Those who write to the database at ``path``; the first of them has it ``connect``."""
        with self._lock:
            if path not in self._groups:
                self._groups[path] = GroupCommit(connect())
            return self._groups[path]

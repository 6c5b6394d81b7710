"""Connections to PostgreSQL: how they are made, kept for the next who needs one, and given up."""

import os
import threading
import time
from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any

from ..errors import SettingsError
from ..settings import PostgresUrl
from .database import Delays
from .group_commit import Shared

try:
    import psycopg
    from psycopg import conninfo
    from psycopg.pq import TransactionStatus
    from psycopg.rows import RowMaker
    from psycopg.types.numeric import IntLoader
except ImportError as missing:
    raise SettingsError("PostgreSQL needs: pip install 'pacifica-ingest-cli[cluster]'") from missing

# A server, or what stands before it, that is frozen closes no connection: it is given up that answers nothing for so
# long. No statement takes as long.
UNANSWERED_SECONDS = 300.0
# What libpq is told unless the URL says otherwise: whoever does not answer is found out.
USUAL = {
    "connect_timeout": "10",
    "tcp_user_timeout": "20000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": "ingest",
    "client_encoding": "UTF8",
}
# Threads share so many connections, since a server has few, and each is used for milliseconds. Who has waited so long
# for one gets one more: those who have them may be waiting for it to get on.
MOST, PATIENCE_SECONDS = 4, 1.0
# For so long one is kept that nobody uses now.
IDLE_SECONDS = 60.0


class Row(tuple[Any, ...]):
    """A row, whose columns are got by their names too."""

    __slots__ = ()
    places: dict[str, int] = {}  # noqa: RUF012

    def __getitem__(self, column: Any) -> Any:
        return tuple.__getitem__(self, self.places[column] if isinstance(column, str) else column)

    def keys(self) -> Sequence[str]:
        """The names of the columns."""
        return list(self.places)


@lru_cache
def _row_type(names: tuple[str, ...]) -> type[Row]:
    places = {name: place for place, name in enumerate(names)}
    return type("Row", (Row,), {"__slots__": (), "places": places})


def _rows(cursor: "psycopg.Cursor[Any]") -> RowMaker[Any]:
    described = cursor.description
    return _row_type(tuple(column.name for column in described)) if described is not None else tuple


class _Impatient(psycopg.Connection[Any]):
    """A connection on which no answer is waited for in vain; one that comes late is noted among the ``delays``."""

    delays: Delays | None = None

    def wait(self, gen: Generator[Any, Any, Any], *more: Any, **given: Any) -> Any:
        """Wait for an answer, but not for ever."""
        return super().wait(self._bounded(gen), *more, **given)

    def _bounded(self, answer: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        # Whoever waits looks again every tenth of a second, whether anything has come or not.
        begun = time.monotonic()
        try:
            wanted = next(answer)
            while True:
                come = yield wanted
                if time.monotonic() - begun > UNANSWERED_SECONDS:
                    self.close()
                    raise psycopg.OperationalError(f"no answer within {UNANSWERED_SECONDS:g} s")
                wanted = answer.send(come)
        except StopIteration as end:
            if self.delays is not None:
                self.delays.note_late(begun)
            return end.value


# Since when nobody uses a connection.
_Idle = tuple[float, "psycopg.Connection[Any]"]


class PostgresConnections:
    """Connections to one database, for all threads of this process: each is one's at a time.

    It is closed by the last of those who have it ``open``. The tables of the applications that are ``current`` were
    found to be those of this version. The ``delays`` are those of the server, to any thread.
    """

    def __init__(self, url: PostgresUrl) -> None:
        self.url, self._users, self._taken = url, 0, 0
        self._pid, self._changed = os.getpid(), threading.Condition()
        # Those of who is urgent are apart: else they would be had by those who wait, and more be made at each time.
        self._idle, self._idle_urgent = list[_Idle](), list[_Idle]()
        self.current, self.delays = set[str](), Delays()

    def open(self) -> None:
        """Have it for one more user."""
        with self._changed:
            self._users += 1

    def close(self) -> None:
        """Have it for one less."""
        with self._changed:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self._close_idle()

    def take(self, *, urgent: bool = False) -> "tuple[psycopg.Connection[Any], bool]":
        """A connection, and whether it has been used before, so that it may be broken by now. One that is ``urgent``
        is not waited for."""
        if self._pid != os.getpid():
            # Those that were open as the process was begotten are the other's.
            self._inherited = [*self._idle, *self._idle_urgent]
            self._idle, self._idle_urgent, self._taken = [], [], 0
            self._pid, self._changed = os.getpid(), threading.Condition()
        with self._changed:
            if not urgent:
                self._changed.wait_for(lambda: self._idle or self._taken < MOST, PATIENCE_SECONDS)
                self._taken += 1
            idle = self._idle_urgent if urgent else self._idle
            if idle:
                return idle.pop()[1], True
        try:
            return self._connected(), False
        except BaseException:
            if not urgent:
                self._have_back()
            raise

    def give_back(self, connection: "psycopg.Connection[Any]", *, urgent: bool = False) -> None:
        """Have somebody else use it, if it can be used, who is ``urgent`` as the one before was."""
        now = time.monotonic()
        with self._changed:
            idle, most = (self._idle_urgent, 1) if urgent else (self._idle, MOST)
            old = [each for since, each in idle if now - since > IDLE_SECONDS]
            idle[:] = [(since, each) for since, each in idle if now - since <= IDLE_SECONDS]
            is_usable = not connection.closed and connection.info.transaction_status is TransactionStatus.IDLE
            if is_usable and len(idle) < most and self._users:
                idle.append((now, connection))
            else:
                old.append(connection)
        if not urgent:
            self._have_back()
        for each in old:
            each.close()

    def renew(self, broken: "psycopg.Connection[Any]") -> "psycopg.Connection[Any]":
        """A new connection in place of one that was broken while nobody used it, as the others will be."""
        broken.close()
        self._close_idle()
        return self._connected()

    def _have_back(self) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()

    def _close_idle(self) -> None:
        with self._changed:
            idle = [*self._idle, *self._idle_urgent]
            self._idle, self._idle_urgent = [], []
        for _, connection in idle:
            connection.close()

    def _connected(self) -> "psycopg.Connection[Any]":
        connection = _Impatient.connect(
            self.url.text, autocommit=True, prepare_threshold=None, row_factory=_rows, **usual_for(self.url)
        )
        # Sums of whole numbers.
        connection.adapters.register_loader("numeric", IntLoader)
        connection.delays = self.delays
        return connection


def usual_for(url: PostgresUrl) -> dict[str, Any]:
    """What libpq is told besides the URL. Raises SettingsError."""
    try:
        given = conninfo.conninfo_to_dict(url.text)
    except psycopg.ProgrammingError:
        # Its text may quote the password.
        raise SettingsError(
            f"{url} is no URL that PostgreSQL takes: a blank in it, or in its password, is %20, and a % is %25"
        ) from None
    return {key: value for key, value in USUAL.items() if key not in given}


def pool_of(url: PostgresUrl, shared: Shared | None = None) -> PostgresConnections:
    """Connections to the database, which threads have in common where they are ``shared``."""
    return PostgresConnections(url) if shared is None else shared.pool(url, PostgresConnections)

"""Slots that the processes of several hosts share: rows of a table in PostgreSQL.

A lock of the session would be freed with its connection, but does not pass a pooler. A row says by whom it is held, and
its holder counts a heartbeat up in it: the slot of one who is dead is free.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import IngestError, ResourceUnavailable
from ..jobs.database import reading
from ..jobs.postgres_connections import PostgresConnections
from ..jobs.postgres_database import PostgresDatabase
from ..jobs.process import Life, Process, this_process
from ..settings import PostgresUrl, Timings

# Each look is a statement or two.
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.2

ADD = "INSERT INTO slots (name, number) SELECT ?, generate_series(0, ? - 1) ON CONFLICT DO NOTHING"
TAKE = """
    UPDATE slots SET holder = ?, fence = fence + 1, heartbeat = 0 WHERE (name, number) = (
        SELECT name, number FROM slots WHERE name = ? AND number < ? AND holder IS NULL
            ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING number, fence
"""
HELD = "SELECT number, fence, heartbeat, holder FROM slots WHERE name = ? AND number < ? AND holder IS NOT NULL"
BEAT = "UPDATE slots SET heartbeat = heartbeat + 1 WHERE name = ? AND number = ? AND fence = ?"
FREE = "UPDATE slots SET holder = NULL WHERE name = ? AND number = ? AND fence = ?"


@dataclass(frozen=True, slots=True)
class _Held:
    """A slot that somebody has, as it was seen."""

    number: int
    fence: int
    heartbeat: int
    holder: Process


class PostgresSlots:
    """``count`` slots of this ``name``. The ``timings`` say how often a holder says so, and when it counts as dead."""

    def __init__(self, url: PostgresUrl, name: str, count: int, timings: Timings) -> None:
        self._database = PostgresDatabase(PostgresConnections(url))
        self._name, self._count, self._timings = name, count, timings
        self._local, self._lock = threading.local(), threading.Lock()
        # What was seen of the slots of others, and since when, on this process's own clock.
        self._seen: dict[int, tuple[_Held, float]] = {}

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Hold a slot, once one is free."""
        if getattr(self._local, "has_slot", False):
            yield
            return
        number, fence = self._take()
        self._local.has_slot = True
        try:
            with self._kept_alive(number, fence):
                yield
        finally:
            self._local.has_slot = False
            # Where this fails, its heartbeat stops.
            with suppress(IngestError):
                self._execute(FREE, self._name, number, fence)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _take(self) -> tuple[int, int]:
        me, pause = this_process().to_text(), SHORTEST_PAUSE_SECONDS
        self._execute(ADD, self._name, self._count)
        while True:
            taken = self._rows(TAKE, me, self._name, self._count)
            if taken:
                return taken[0][0], taken[0][1]
            if not self._free_dead():
                time.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)

    def _free_dead(self) -> bool:
        """Free the slots of the dead, and say whether there were any."""
        rows = self._rows(HELD, self._name, self._count)
        held = [_Held(number, fence, heartbeat, Process.from_text(holder)) for number, fence, heartbeat, holder in rows]
        dead = [slot for slot in held if self._is_dead(slot)]
        for slot in dead:
            self._execute(f"{FREE} AND heartbeat = ?", self._name, slot.number, slot.fence, slot.heartbeat)
        return bool(dead)

    def _is_dead(self, slot: _Held) -> bool:
        # The process may live, and yet have failed to say that it has the slot no more.
        with self._lock:
            seen, since = self._seen.get(slot.number, (None, 0.0))
            now = time.monotonic()
            if seen != slot:
                since = now
                self._seen[slot.number] = (slot, now)
        return slot.holder.life() is Life.GONE or now - max(since, self._database.missed_at) >= self._timings.stale

    @contextmanager
    def _kept_alive(self, number: int, fence: int) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._timings.heartbeat):
                with suppress(IngestError):  # one may be missed
                    self._execute(BEAT, self._name, number, fence)

        thread = threading.Thread(target=beat, name=f"heartbeat of slot {number}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise ResourceUnavailable(str(error)) from error
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _execute(self, sql: str, *values: Any) -> None:
        """Execute a statement, which is a transaction by itself. Raises ResourceUnavailable where the database is
        away."""
        with reading(self._database) as connection:
            connection.execute(sql, values)

    def _rows(self, sql: str, *values: Any) -> Sequence[Any]:
        """What a statement gives."""
        with reading(self._database) as connection:
            return connection.execute(sql, values).fetchall()

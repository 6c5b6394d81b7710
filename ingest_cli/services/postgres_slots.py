"""Slots that the processes of several hosts share: rows of a table in PostgreSQL.

A lock of the session would be freed with its connection, but does not pass a pooler. A row says by whom it is held, and
its holder counts a heartbeat up in it: the slot of one who is dead is free.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from ..errors import ResourceUnavailable
from ..jobs.postgres_connections import usual_for
from ..jobs.process import Life, Process, this_process
from ..settings import PostgresUrl, Timings

# Each look is a statement or two.
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.2

ADD = "INSERT INTO slots (name, number) SELECT %s, generate_series(0, %s - 1) ON CONFLICT DO NOTHING"
TAKE = """
    UPDATE slots SET holder = %s, fence = fence + 1, heartbeat = 0 WHERE (name, number) = (
        SELECT name, number FROM slots WHERE name = %s AND number < %s AND holder IS NULL
            ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING number, fence
"""
HELD = "SELECT number, fence, heartbeat, holder FROM slots WHERE name = %s AND number < %s AND holder IS NOT NULL"
BEAT = "UPDATE slots SET heartbeat = heartbeat + 1 WHERE name = %s AND number = %s AND fence = %s"
FREE = "UPDATE slots SET holder = NULL WHERE name = %s AND number = %s AND fence = %s"


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
        self._url, self._name, self._count, self._timings = url, name, count, timings
        self._local, self._lock = threading.local(), threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
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
            with suppress(ResourceUnavailable):
                self._execute(FREE, self._name, number, fence)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _take(self) -> tuple[int, int]:
        me, pause = this_process().to_text(), SHORTEST_PAUSE_SECONDS
        self._execute(ADD, self._name, self._count)
        while True:
            taken = self._execute(TAKE, me, self._name, self._count)
            if taken:
                return taken[0][0], taken[0][1]
            if not self._free_dead():
                time.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)

    def _free_dead(self) -> bool:
        """Free the slots of the dead, and say whether there were any."""
        rows = self._execute(HELD, self._name, self._count)
        held = [_Held(number, fence, heartbeat, Process.from_text(holder)) for number, fence, heartbeat, holder in rows]
        dead = [slot for slot in held if self._is_dead(slot)]
        for slot in dead:
            self._execute(f"{FREE} AND heartbeat = %s", self._name, slot.number, slot.fence, slot.heartbeat)
        return bool(dead)

    def _is_dead(self, slot: _Held) -> bool:
        # The process may live, and yet have failed to say that it has the slot no more.
        with self._lock:
            seen, since = self._seen.get(slot.number, (None, 0.0))
            now = time.monotonic()
            if seen != slot:
                since = now
                self._seen[slot.number] = (slot, now)
        return slot.holder.life() is Life.GONE or now - since >= self._timings.stale

    @contextmanager
    def _kept_alive(self, number: int, fence: int) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._timings.heartbeat):
                with suppress(ResourceUnavailable):  # one may be missed
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

    def _execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement gives. Raises ResourceUnavailable where the database is away."""
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    # Statements that are prepared do not pass a pooler.
                    self._connection = psycopg.connect(
                        self._url.text, autocommit=True, prepare_threshold=None, **usual_for(self._url)
                    )
                found = self._connection.execute(sql, values)
                return found.fetchall() if found.description is not None else []
            except psycopg.OperationalError as error:
                self._seen.clear()  # nor could the others say that they have theirs
                raise ResourceUnavailable(f"the database {self._url} cannot be used: {error}") from error

"""Hands out jobs to the workers of many hosts by Procrastinate's queue in PostgreSQL.

Of Procrastinate there are its tables, its functions and its notifications; its worker is not used: asked from a loop
without threads they dispatch more jobs, for a tenth of the work.
"""

import time
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from ..settings import PostgresUrl, Timings
from .interruption import Interruption
from .job import Job
from .postgres_connections import usual_for
from .task_queue import TaskQueue

# Who listens need not ask; what was deferred is due without a word.
LISTENING_POLL_SECONDS, POLL_SECONDS = 5.0, 1.0
# Nobody takes tasks away but by hand.
FIRST_MEND_SECONDS, MEND_SECONDS = 30.0, 300.0


class ProcrastinateDispatch:
    """The jobs of a ``store`` that this host can run. Who is not ``listening`` to its database polls."""

    def __init__(self, store: TaskQueue, timings: Timings, listening: PostgresUrl | None) -> None:
        self._store, self._timings, self._url = store, timings, listening
        self._listener: psycopg.Connection[Any] | None = None
        self._watched, self._mended = 0.0, time.monotonic() - MEND_SECONDS + FIRST_MEND_SECONDS

    def lease_next(self) -> Job | None:
        """Become the holder of the next job: by its task; else one whose task was lost, or whose holder has died."""
        self._sweep()
        return self._store.lease_offered() or self._store.lease_next()

    def wait(self, interruption: Interruption) -> None:
        """Wait until a job is put into a queue of this host; not at all where it was not listened for until now."""
        if self._url is None:
            interruption.wait(POLL_SECONDS)
        elif self._listener is not None:
            self._listen(self._listener, interruption)
        elif not self._began_to_listen(self._url):
            interruption.wait(POLL_SECONDS)

    def close(self) -> None:
        """End the listening, and have Procrastinate know the worker no more."""
        self._hang_up()
        self._store.unregister()

    def _sweep(self) -> None:
        now = time.monotonic()
        if not self._watched or now - self._watched > self._timings.stale / 4:
            self._watched = now
            self._store.release_dead()
        if now - self._mended > MEND_SECONDS:
            self._mended = now
            self._store.mend()

    def _began_to_listen(self, url: PostgresUrl) -> bool:
        try:
            self._listener = psycopg.connect(url.text, autocommit=True, **usual_for(url))
            for name in self._store.channels:
                self._listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
        except psycopg.OperationalError:
            self._hang_up()
        return self._listener is not None

    def _listen(self, listener: "psycopg.Connection[Any]", interruption: Interruption) -> None:
        until = time.monotonic() + LISTENING_POLL_SECONDS
        try:
            while not interruption.is_set() and time.monotonic() < until:
                if next(listener.notifies(timeout=self._timings.poll, stop_after=1), None) is not None:
                    return
        except psycopg.OperationalError:
            self._hang_up()

    def _hang_up(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(psycopg.Error):
                listener.close()

"""Asynchronous access to the job store and the id service."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ..bundle.fingerprint import fingerprint
from ..errors import IngestError
from ..jobs.job import Job, JobKind
from ..jobs.store import JobStore, open_store
from ..services import factory
from ..settings import Settings
from ..text import counted
from .threads import Threads

# For a service that does not answer, or a store that another process has locked: neither keeps the server from ending.
CLOSE_SECONDS = 0.5

T = TypeVar("T")


class QueueFull(IngestError):
    """Too many jobs are waiting: the server accepts no more for now."""

    transient = True


class AsyncStore:
    """The jobs of a site, of which ``max_waiting`` may wait. Its methods can be awaited by many at once.

    No kind of question holds up another: a job's state is answered while all jobs are counted, or while no job can be
    entered because an id service is slow or another process has the store locked.
    """

    def __init__(self, settings: Settings, *, max_waiting: int) -> None:
        self._settings, self._max_waiting = settings, max_waiting
        self._ids, self._reserving = factory.unique_id(settings), Threads(1, "ids")
        self._entering = _Lane(open_store(settings), "job store: new jobs")
        self._looking = _Lane(open_store(settings), "job store: single jobs")
        self._listing = _Lane(open_store(settings), "job store: lists")
        self._searching = _Lane(open_store(settings), "job store: searches")
        self._places, self._lock = 0, threading.Lock()

    async def close(self) -> None:
        """Finish what was begun, as far as it does not hang, then close the store."""
        closing = [lane.close() for lane in (self._entering, self._looking, self._listing, self._searching)]
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(self._reserving.do(self._ids.close), *closing)

    async def look(self, question: Callable[[JobStore], T]) -> T:
        """Ask the store what it finds at once."""
        return await self._looking.do(question)

    async def list(self, question: Callable[[JobStore], T]) -> T:
        """Ask the store what it has to look through many jobs for."""
        return await self._listing.do(question)

    async def search(self, question: Callable[[JobStore], T]) -> T:
        """Ask the store what it has to look at every job for."""
        return await self._searching.do(question)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place in the queue, for a job to be submitted. Raises QueueFull where too many wait or have places."""
        await self._entering.do(self._take_place)
        try:
            yield
        finally:
            with self._lock:
                self._places -= 1

    async def reserve_id(self) -> int:
        """Reserve an id for a job. Raises ServiceUnavailable where none can be reserved."""
        return await self._reserving.do(self._ids.reserve, "upload_job", 1)

    async def submit(self, job_id: int, kind: JobKind, path: Path, user: str, name: str) -> Job:
        """Enter the job of a spooled file, durably. Its client calls it by this ``name``."""

        def enter(store: JobStore) -> Job:
            return store.submit(
                job_id,
                kind=kind,
                source=str(path),
                fingerprint=fingerprint(path),
                user=user,
                holder=None,
                spooled=True,
                origin=name,
            )

        return await self._entering.do(enter)

    def _take_place(self, store: JobStore) -> None:
        unfinished = store.count_unfinished()
        with self._lock:
            if unfinished + self._places >= self._max_waiting:
                raise QueueFull(f"the queue is full: at most {counted(self._max_waiting, 'job')} may wait")
            self._places += 1


class _Lane:
    """A connection to the store, and the thread that has it."""

    def __init__(self, store: JobStore, name: str) -> None:
        self._store, self._thread = store, Threads(1, name)

    async def do(self, question: Callable[[JobStore], T]) -> T:
        return await self._thread.do(question, self._store)

    async def close(self) -> None:
        await self._thread.do(self._store.__exit__, None, None, None)

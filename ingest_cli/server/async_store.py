"""Asynchronous access to the job store and the id service: one thread talks to both for all requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..bundle.fingerprint import fingerprint
from ..errors import IngestError
from ..jobs.job import Job, JobKind
from ..jobs.store import JobStore, open_store
from ..services import factory
from ..settings import Settings
from ..text import counted

T = TypeVar("T")


class QueueFull(IngestError):
    """Too many jobs are waiting: the server accepts no more for now."""

    transient = True


class AsyncStore:
    """The jobs of a site, of which ``max_waiting`` may wait. Its methods can be awaited by many at once."""

    def __init__(self, settings: Settings, *, max_waiting: int) -> None:
        self._settings, self._max_waiting = settings, max_waiting
        self._thread = ThreadPoolExecutor(1, "job store")
        self._store = open_store(settings)
        self._ids = factory.unique_id(settings)

    async def close(self) -> None:
        """Finish what was begun, then close the store."""

        def close() -> None:
            self._ids.close()
            self._store.__exit__(None, None, None)

        await self._do(close)
        self._thread.shutdown()

    async def call(self, question: Callable[[JobStore], T]) -> T:
        """Call ``question`` with the store, and return what it returns."""
        return await self._do(lambda: question(self._store))

    async def require_capacity(self) -> None:
        """Raise QueueFull where too many jobs are waiting."""
        if await self.call(lambda store: store.count_unfinished()) >= self._max_waiting:
            raise QueueFull(f"the queue is full: at most {counted(self._max_waiting, 'job')} may wait")

    async def reserve_id(self) -> int:
        """Reserve an id for a job. Raises ServiceUnavailable where none can be reserved."""
        return await self._do(lambda: self._ids.reserve("upload_job", 1))

    async def submit(self, job_id: int, kind: JobKind, path: Path, user: str) -> Job:
        """Enter the job of a spooled file, durably."""

        def enter() -> Job:
            return self._store.submit(
                job_id,
                kind=kind,
                source=str(path),
                fingerprint=fingerprint(path),
                user=user,
                holder=None,
                spooled=True,
                origin="HTTP upload",
            )

        return await self._do(enter)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

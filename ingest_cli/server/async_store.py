"""Asynchronous access to the job store and the id service."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

from ..errors import IngestError
from ..jobs.group_commit import Shared
from ..jobs.job import Job, JobKind
from ..jobs.store import JobStore, open_store
from ..services import factory
from ..settings import Settings
from ..text import counted
from .incoming import Incoming
from .threads import Threads

# For a service that does not answer, or a store that another process has locked: neither keeps the server from ending.
CLOSE_SECONDS = 0.5

# So many jobs are entered at once: what comes at the same time is committed, and synced, together.
AT_ONCE = 8

S = TypeVar("S")
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
        self._shared = shared = Shared()
        reserving = [_Reserving(settings, shared) for _ in range(AT_ONCE)]
        entering = [open_store(settings, shared=shared) for _ in range(AT_ONCE)]
        self._reserving = _Lane(reserving, _Reserving.close, "ids")
        self._entering = _Lane(entering, _close, "job store: new jobs")
        self._looking = _Lane([open_store(settings)], _close, "job store: single jobs")
        self._listing = _Lane([open_store(settings)], _close, "job store: lists")
        self._searching = _Lane([open_store(settings)], _close, "job store: searches")
        self._checking = _Lane([entering[0].another(busy=settings.timings.busy)], _close, "health")
        self._places, self._left, self._lock = 0, 0, threading.Lock()

    async def close(self) -> None:
        """Finish what was begun, as far as it does not hang, then close the store."""
        lanes = (self._entering, self._looking, self._listing, self._searching, self._checking)
        closing = [lane.close() for lane in lanes]
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(self._reserving.close(), *closing)
                self._shared.close()

    async def look(self, question: Callable[[JobStore], T]) -> T:
        """Ask the store what it finds at once."""
        return await self._looking.do(question)

    async def list(self, question: Callable[[JobStore], T]) -> T:
        """Ask the store what it has to look through many jobs for."""
        return await self._listing.do(question)

    async def search(self, question: Callable[[JobStore], T]) -> T:
        """Ask the store what it has to look at every job for."""
        return await self._searching.do(question)

    async def check(self, question: Callable[[JobStore], T]) -> T:
        """Ask the store whether jobs can be accepted, which waits for no connection that others have."""
        return await self._checking.do(question)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place in the queue, for a job to be submitted. Raises QueueFull where too many wait or have places."""
        await self._entering.do(self._take_place)
        try:
            yield
        finally:
            self._leave_place()

    @asynccontextmanager
    async def place_with_id(self) -> AsyncIterator[int]:
        """Hold a place as `place` does, and reserve an id for the job, in one step. Raises ServiceUnavailable too,
        where none can be reserved."""
        job_id = await self._reserving.do(self._take_place_with_id)
        try:
            yield job_id
        finally:
            self._leave_place()

    async def reserve_id(self) -> int:
        """Reserve an id for a job. Raises ServiceUnavailable where none can be reserved."""
        return await self._reserving.do(_Reserving.reserve)

    async def submit(self, job_id: int, kind: JobKind, file: Incoming, user: str, name: str) -> Job:
        """Enter the job of what lies in the spool, durably. Its client calls it by this ``name``."""

        def enter(store: JobStore) -> Job:
            noted = file.entered_as(job_id)
            if noted != job_id and (found := _job_of(store, noted, file)) is not None:
                return found
            try:
                return submit(store, noted)
            except IngestError:
                if (found := _job_of(store, noted, file)) is None:
                    raise
                return found

        def submit(store: JobStore, noted: int) -> Job:
            return store.submit(
                noted,
                kind=kind,
                source=file.source,
                fingerprint=file.fingerprint(),
                user=user,
                holder=None,
                spooled=True,
                origin=name,
            )

        return await self._entering.do(enter)

    def _take_place(self, store: JobStore) -> None:
        with self._lock:
            left = self._left
        unfinished = store.count_unfinished()
        with self._lock:
            # Who has left since may have a job that was not counted.
            if unfinished + self._places + self._left - left >= self._max_waiting:
                raise QueueFull(f"the queue is full: at most {counted(self._max_waiting, 'job')} may wait")
            self._places += 1

    def _take_place_with_id(self, reserving: "_Reserving") -> int:
        self._take_place(reserving.store)
        try:
            return reserving.reserve()
        except BaseException:
            self._leave_place()
            raise

    def _leave_place(self) -> None:
        with self._lock:
            self._places -= 1
            self._left += 1


class _Reserving:
    """What a job needs before it is entered: the id service, and the store that knows how many jobs wait."""

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._ids, self.store = factory.unique_id(settings, shared=shared), open_store(settings, shared=shared)

    def reserve(self) -> int:
        """An id."""
        return self._ids.reserve("upload_job", 1)

    def close(self) -> None:
        """Close both."""
        self._ids.close()
        _close(self.store)


def _job_of(store: JobStore, job_id: int, file: Incoming) -> Job | None:
    """The job of this id, where it is that of the file: another server may have entered it."""
    return next((job for job in store.several([job_id]) if job.source == file.source), None)


class _Lane(Generic[S]):
    """Connections to a store or service, and as many threads that have one each."""

    def __init__(self, connections: list[S], close: Callable[[S], None], name: str) -> None:
        self._connections, self._close, self._count = deque(connections), close, len(connections)
        self._threads = Threads(len(connections), name)

    async def do(self, question: Callable[[S], T]) -> T:
        return await self._threads.do(self._ask, question)

    async def close(self) -> None:
        await asyncio.gather(*(self._threads.do(self._close_one) for _ in range(self._count)))

    def _ask(self, question: Callable[[S], T]) -> T:
        connection = self._connections.pop()
        try:
            return question(connection)
        finally:
            self._connections.append(connection)

    def _close_one(self) -> None:
        self._close(self._connections.pop())


def _close(store: JobStore) -> None:
    store.__exit__(None, None, None)

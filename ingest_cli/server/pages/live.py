"""What changes, told to browsers as it happens: server-sent events, of one look at the store for all that listen.

While nobody listens, nobody looks.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...errors import IngestError
from ...jobs.filter import ALL, JobOrder
from ...jobs.job import Job
from ...jobs.sightings import Sightings
from ...jobs.store import JobStore
from ...text import counted, one_line
from ..admission import BUSY_SECONDS, client_of
from ..async_store import AsyncStore
from ..authentication import Refusal
from .hosts import hosts_table, members_of
from .overview import counts_of, failures, newest_failures
from .plots import flow_of, plots
from .query import group_of
from .rows import row

MAX_LISTENERS = 200
# What waits for one that reads slowly: it is let go then, comes back, and looks at the whole page.
MAX_WAITING = 50
# Where more than these have changed since the last look, each browser asks for its own page.
MOST_CHANGED = 200
# Other machines' clocks may be behind by so much.
OVERLAP = timedelta(seconds=60)
LOOK_SECONDS = 1.0
# A look is for so much of the time at most.
LOOKING_SHARE = 10
DRAWN_SECONDS = 60.0
# As often as processes say that they are there.
HOSTS_SECONDS = 5.0
# So that no proxy takes the connection for dead.
HEARTBEAT_SECONDS = 15.0
HEARTBEAT, RETRY = b": still here\n\n", b"retry: 2000\n\n"
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx passes on at once what comes
    "X-Content-Type-Options": "nosniff",
}
# What a listener is to be told, by the path below which it finds the jobs.
Message = Callable[[str], bytes]


@dataclass(slots=True)
class _Listener:
    client: str
    waiting: asyncio.Queue[Message | None] = field(default_factory=lambda: asyncio.Queue(MAX_WAITING + 1))

    def tell(self, message: Message) -> None:
        """Have it sent; a listener for which too much waits is let go in its place."""
        if self.waiting.qsize() < MAX_WAITING:
            self.waiting.put_nowait(message)
        elif not self.waiting.full():
            self.end()

    def end(self) -> None:
        """Nothing more is sent."""
        with suppress(asyncio.QueueFull):
            self.waiting.put_nowait(None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """The ``jobs`` that have changed, how many there are of each group then, and the failures."""

    jobs: list[Job]
    counts: dict[str, int]
    failures: list[Job]

    @classmethod
    def of(cls, store: JobStore, jobs: list[Job]) -> "Change":
        """Ask the store."""
        return cls(jobs=jobs, counts=counts_of(store.tally()), failures=newest_failures(store))

    def message(self, below: str) -> bytes:
        """What a listener is told."""
        jobs = [{"id": job.job_id, "state": group_of(job.status), "row": row(job, below)} for job in self.jobs]
        pinned = failures(self.failures, self.counts["failed"], below)
        return _event("jobs", {"jobs": jobs, "counts": self.counts, "failures": pinned})


class Feed:
    """The listeners, and who looks at the store for them while there are any."""

    def __init__(self, store: AsyncStore, sightings: Sightings) -> None:
        self._store, self._sightings = store, sightings
        self._listeners: list[_Listener] = []
        self._looking: asyncio.Task[None] | None = None
        self._known: dict[int, Job] | None = None
        self._drawn = self._saw_hosts = time.monotonic()
        self._hosts = ""

    def answer(self, below: str) -> Response:
        """All that changes from now on, until the visitor or the server leaves. Raises Refusal."""
        return _Stream(self, below)

    @contextmanager
    def listener(self, request: Request) -> Iterator[_Listener]:
        """One more listener. Raises Refusal where there are too many, or too many of one client."""
        listener = _Listener(client_of(request))
        of_client = sum(other.client == listener.client for other in self._listeners)
        if of_client >= MAX_LISTENERS // 2 or len(self._listeners) >= MAX_LISTENERS:
            busy = counted(len(self._listeners), "page is", "pages are")
            raise Refusal(503, f"{busy} kept up to date: look again later", {"Retry-After": str(BUSY_SECONDS)})
        self._listeners.append(listener)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        elif self._known is not None:
            listener.tell(_begun)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)
            if not self._listeners:
                self._looking.cancel()
                self._looking = self._known = None

    async def _look(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                await self._tell_changes()
                await self._draw()
                await self._tell_hosts()
            except IngestError as error:
                print(one_line(f"ingest: pages are out of date: {error}"), file=sys.stderr, flush=True)
                self._tell(_trouble)
            await asyncio.sleep(max(LOOK_SECONDS, LOOKING_SHARE * (time.monotonic() - begun)))

    async def _tell_changes(self) -> None:
        """Look at the jobs that have changed last, and tell the listeners of those that are new or different."""
        known, wanted = self._known, replace(ALL, since=_since(self._known))
        found = await self._store.list(lambda store: store.select(wanted, order=JobOrder.UPDATED, limit=MOST_CHANGED))
        seen = {job.job_id: replace(job, heartbeat=0) for job in found}
        self._known = seen or known or {}
        changed = [job for job_id, job in seen.items() if known is not None and known.get(job_id) != job]
        if known is None or len(changed) == MOST_CHANGED:
            self._tell(_begun)
        elif changed:
            self._tell((await self._store.list(partial(Change.of, jobs=changed))).message)

    async def _draw(self) -> None:
        """Tell the listeners what came and went, now and then."""
        if time.monotonic() < self._drawn + DRAWN_SECONDS:
            return
        self._drawn = time.monotonic()
        drawing = plots(await self._store.list(flow_of))
        self._tell(lambda _: _event("plots", {"plots": drawing}))

    async def _tell_hosts(self) -> None:
        """Tell the listeners what runs on which host, where several share the store and it is not as it was."""
        if time.monotonic() < self._saw_hosts + HOSTS_SECONDS:
            return
        self._saw_hosts = time.monotonic()
        members = await self._store.list(partial(members_of, sightings=self._sightings))
        if members is None or hosts_table(members, "") == self._hosts:
            return
        self._hosts = hosts_table(members, "")
        self._tell(lambda below: _event("hosts", {"hosts": hosts_table(members, below)}))

    def _tell(self, message: Message) -> None:
        texts: dict[str, bytes] = {}

        def once(below: str) -> bytes:
            if below not in texts:
                texts[below] = message(below)
            return texts[below]

        for listener in self._listeners:
            listener.tell(once)


class _Stream(Response):
    """Sends what its listener is told, and a sign of life now and then."""

    def __init__(self, feed: Feed, below: str) -> None:
        self._feed, self._below = feed, below
        self.status_code, self.background = 200, None
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.listener(Request(scope)) as listener:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _send(send, RETRY)
            endings = [asyncio.create_task(_end(listener, ending)) for ending in _endings(scope, receive)]
            try:
                while (text := await self._next(listener)) is not None:
                    await _send(send, text)
            finally:
                for ending in endings:
                    ending.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self, listener: _Listener) -> bytes | None:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                message = await listener.waiting.get()
        except TimeoutError:
            return HEARTBEAT
        return None if message is None else message(self._below)


def _endings(scope: Scope, receive: Receive) -> Iterator[Awaitable[object]]:
    """What ends a stream: the visitor leaves, or the server does."""
    yield _gone(receive)
    if (ending := scope.get("extensions", {}).get("ingest.ending")) is not None:
        yield ending.wait()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(listener: _Listener, ending: Awaitable[object]) -> None:
    await ending
    listener.end()


async def _send(send: Send, text: bytes) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": True})


def _since(known: dict[int, Job] | None) -> datetime | None:
    if not known:
        return None
    return datetime.fromisoformat(max(job.updated for job in known.values())) - OVERLAP


def _begun(_: str) -> bytes:
    """All that changes from now on is told: a browser looks once at what has changed before."""
    return _event("look", {})


def _trouble(_: str) -> bytes:
    return _event("trouble", {"reason": "the server cannot read its jobs now; see its log"})


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()

"""Ways to services that can be cut, and on which requests are lost: proxies in this process, whatever the service."""

import asyncio
import random
import re
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self

from .waiting import PATIENCE

LOOPBACK = "127.0.0.1"
PIECE = 1 << 16
REQUEST = re.compile(rb"(?:GET|HEAD|PUT|POST|DELETE) \S+ HTTP/1\.1\r\n")
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Unreliable:
    """What some requests over HTTP meet: half of these get no further, the others are served and their answer is lost.

    ``share`` is how many of all, from 0 to 1.
    """

    share: float
    chance: random.Random
    refused: int = 0
    lost: int = 0

    def fault(self) -> str | None:
        """What the next request meets."""
        if self.chance.random() >= self.share:
            return None
        if self.chance.random() < 0.5:
            self.refused += 1
            return "refused"
        self.lost += 1
        return "lost"


class Link:
    """The way to a service that listens at ``target``: a proxy at ``address``, that can be cut.

    What is on its way when it is cut arrives when it is mended, as TCP would have it; meanwhile nobody is told.
    """

    def __init__(self, address: str, target: tuple[str, int], faults: Unreliable | None = None) -> None:
        self._target, self._faults = target, faults
        self._whole = asyncio.Event()
        self._whole.set()
        self.address, self.port = address, 0

    def __str__(self) -> str:
        """As host and port."""
        return f"{self.address}:{self.port}"

    async def listen(self) -> None:
        """Begin to take connections."""
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._take, self.address, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    def cut(self) -> None:
        """Let nothing through."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        """Let all through, what has waited first."""
        self._loop.call_soon_threadsafe(self._whole.set)

    async def _take(self, near: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        try:
            far, requests = await asyncio.open_connection(*self._target)
        except OSError:
            answers.transport.abort()
            return
        talk = _Talk()
        try:
            await asyncio.gather(self._hand_on(near, requests, answers, talk), self._hand_back(far, answers, talk))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for writer in (requests, answers):
                writer.transport.abort()

    async def _hand_on(
        self,
        near: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
        answers: asyncio.StreamWriter,
        talk: "_Talk",
    ) -> None:
        while piece := await near.read(PIECE):
            await self._whole.wait()
            if self._faults is not None and REQUEST.match(piece):
                talk.fault = self._faults.fault()
                if talk.fault == "refused":
                    answers.write(UNAVAILABLE)
                    await answers.drain()
                    raise ConnectionAbortedError
            requests.write(piece)
            await requests.drain()
        await self._whole.wait()
        requests.write_eof()

    async def _hand_back(self, far: asyncio.StreamReader, answers: asyncio.StreamWriter, talk: "_Talk") -> None:
        while piece := await far.read(PIECE):
            await self._whole.wait()
            if talk.fault == "lost":
                raise ConnectionAbortedError
            answers.write(piece)
            await answers.drain()
        await self._whole.wait()
        answers.write_eof()


@dataclass
class _Talk:
    """What the request that is on a connection meets."""

    fault: str | None = None


class Exchange:
    """Where all links meet, for as long as a ``with`` block lasts: a thread that hands on what comes."""

    def __enter__(self) -> Self:
        self._links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._does(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def link(self, address: str, target: tuple[str, int], faults: Unreliable | None = None) -> Link:
        """A new way to a service."""
        self._links.append(Link(address, target, faults))
        self._does(self._links[-1].listen())
        return self._links[-1]

    def _does(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _end(self) -> None:
        for link in self._links:
            link.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

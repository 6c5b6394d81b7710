"""Ways to services that can be cut: proxies in this process, whatever the service."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

from .waiting import PATIENCE

LOOPBACK = "127.0.0.1"
PIECE = 1 << 16


class Link:
    """The way to a service that listens at ``target``: a proxy at ``address``, that can be cut.

    What is on its way when it is cut arrives when it is mended, as TCP would have it; meanwhile nobody is told.
    """

    def __init__(self, address: str, target: tuple[str, int]) -> None:
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks = set[asyncio.Task[Any]]()
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
        task = asyncio.current_task()
        assert task is not None
        # asyncio itself does not keep the task of a connection that stands still.
        self._tasks.add(task)
        # It is cancelled at the end of all, which asyncio complains of where a task tells of it.
        with suppress(asyncio.CancelledError):
            await self._connect(near, answers)
        self._tasks.discard(task)

    async def _connect(self, near: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        try:
            far, requests = await asyncio.open_connection(*self._target)
        except OSError:
            answers.transport.abort()
            return
        try:
            await asyncio.gather(self._hand_on(near, requests), self._hand_on(far, answers))
        except OSError:
            for writer in (requests, answers):
                writer.transport.abort()
        finally:
            for writer in (requests, answers):
                writer.close()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE):
            await self._whole.wait()
            writer.write(piece)
            await writer.drain()
        await self._whole.wait()
        writer.write_eof()


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

    def link(self, address: str, target: tuple[str, int]) -> Link:
        """A new way to a service."""
        self._links.append(Link(address, target))
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

"""Threads for what the event loop must not wait for: disks, databases, services, and large documents."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

# How long a request that is cancelled waits for what it has a thread do. Until then, what that uses is not closed.
CANCELLED_SECONDS = 0.5


class Threads:
    """``count`` threads that do what they are given in turn. What hangs in one keeps no process from ending."""

    def __init__(self, count: int, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[object], Callable[[], object]]] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._run, name=f"{name} {number + 1}", daemon=True).start()

    async def do(self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Call ``work`` in one of the threads, and return what it returns."""
        future: Future[T] = Future()
        self._work.put((future, lambda: work(*args, **keywords)))  # type: ignore[arg-type]
        done = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await _ended(done)
            raise

    def _run(self) -> None:
        while True:
            future, work = self._work.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - who waits for it is told
                future.set_exception(error)
            else:
                future.set_result(result)
            del future, work  # what is waited for next may be long in coming


async def _ended(done: "asyncio.Future[T]") -> None:
    """Wait until it is done, but no longer than is good for a server that stops, and that may cancel this too."""
    deadline = asyncio.get_running_loop().time() + CANCELLED_SECONDS
    while not done.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([done], timeout=left)
    if not done.cancel() and not done.cancelled():
        done.exception()  # which nobody else asks for

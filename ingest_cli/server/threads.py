"""Threads for what the event loop must not wait for: disks, databases, services, and large documents."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Generic, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

# How long a request that is cancelled waits for what it has a thread do. Until then, what that uses is not closed.
CANCELLED_SECONDS = 0.5
LOOK_SECONDS = 0.005


class Threads:
    """``count`` threads that do what they are given in turn. What hangs in one keeps no process from ending."""

    def __init__(self, count: int, name: str) -> None:
        self._calls: SimpleQueue[_Call[object]] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._run, name=f"{name} {number + 1}", daemon=True).start()

    async def do(self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Call ``work`` in one of the threads, and return what it returns."""
        call = _Call(partial(work, *args, **keywords))
        self._calls.put(call)  # type: ignore[arg-type]
        try:
            return await call.answer
        except asyncio.CancelledError:
            await call.ended_or_given_up()
            raise

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            call.run()
            del call  # what is waited for next may be long in coming


class _Call(Generic[T]):
    """What a thread is to do, and the ``answer``. Futures of the library's own cost several times as much."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work, self._loop = work, asyncio.get_running_loop()
        self.answer: asyncio.Future[T] = self._loop.create_future()
        self._has_ended = self._is_given_up = False

    def run(self) -> None:
        """Do it, unless it is given up, and answer."""
        if self._is_given_up:
            return
        try:
            answer = partial(self._answer, self._work())
        except BaseException as error:  # noqa: BLE001 - who waits for it is told
            answer = partial(self._fail, error)
        self._has_ended = True
        with suppress(RuntimeError):  # the loop may have ended meanwhile
            self._loop.call_soon_threadsafe(answer)

    async def ended_or_given_up(self) -> None:
        """Wait until it is done, but no longer than is good for a server that stops, and that may cancel this too."""
        deadline = self._loop.time() + CANCELLED_SECONDS
        while not self._has_ended and self._loop.time() < deadline:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(LOOK_SECONDS)
        self._is_given_up = True

    def _answer(self, result: T) -> None:
        if not self.answer.done():
            self.answer.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

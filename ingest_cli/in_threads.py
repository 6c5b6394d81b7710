"""Work on many things that several threads do at once; what comes of it comes in their order."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Generic, TypeVar

from .meter import Meter

# What is handed to a thread together: of small things so many that handing them over costs nothing, of large ones so
# few that no thread is idle while another has all.
BATCH_BYTES, BATCH_COUNT = 4 << 20, 128
# Files that are smaller are read or written in less time than it takes several threads to take turns.
PAY_FROM_BYTES = 16 << 10

Given = TypeVar("Given")
Made = TypeVar("Made")
Work = Callable[[Given, Meter], Made]
# Some of the things, and the error that ended them.
Batch = tuple[list[Given], Exception | None]
Done = tuple[list[tuple[Given, Made]], Exception | None]


def pay_for(files: int, total_bytes: int) -> bool:
    """Whether several threads pay for files of so many bytes together, where nobody waits for a disk or a network."""
    return total_bytes >= PAY_FROM_BYTES * files


def done_in_threads(
    work: "Work[Given, Made]",
    things: Iterable[Given],
    size_of: Callable[[Given], int],
    meter: Meter,
    threads: int,
    most: int = BATCH_COUNT,
) -> Iterator[tuple[Given, Made]]:
    """Yield each of ``things`` with what ``work`` makes of it, in so many threads. An error comes after all before it.

    The work is given a meter to tell how far it is, piece by piece: ``meter`` is told so by one thread at a time, and
    work that nobody waits for any more ends there. ``size_of`` says how many bytes a thing is; ``most`` are handed to a
    thread together.
    """
    batches = _batched(things, size_of, most)
    first = list(islice(batches, 2))
    if threads == 1 or len(first) == 1:
        for batch, error in chain(first, batches):
            yield from ((thing, work(thing, meter)) for thing in batch)
            if error is not None:
                raise error
    else:
        yield from _Threads(work, meter).done(chain(first, batches), threads)


class _NotWanted(BaseException):
    """Nobody waits for the work any more."""


class _SharedMeter(Meter):
    """Passes on to ``meter`` what threads tell it, for as long as it ``is_wanted``."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self._lock, self.is_wanted = meter, threading.Lock(), True

    def advance(self, length: int, files: int = 0) -> None:
        if not self.is_wanted:
            raise _NotWanted
        with self._lock:
            self._meter.advance(length, files)


class _Threads(Generic[Given, Made]):
    def __init__(self, work: "Work[Given, Made]", meter: Meter) -> None:
        self._work, self._meter = work, _SharedMeter(meter)

    def done(self, batches: "Iterable[Batch[Given]]", threads: int) -> Iterator[tuple[Given, Made]]:
        begun: deque[Future[Done[Given, Made]]] = deque()
        with ThreadPoolExecutor(threads) as executor:
            try:
                for batch in batches:
                    begun.append(executor.submit(self._do, *batch))
                    # Enough in hand that no thread is idle while the first in order is a large one.
                    if len(begun) > 4 * threads:
                        yield from _outcome(begun.popleft())
                while begun:
                    yield from _outcome(begun.popleft())
            finally:
                self._meter.is_wanted = False
                for future in begun:
                    future.cancel()

    def _do(self, batch: list[Given], error: Exception | None) -> "Done[Given, Made]":
        done = []
        try:
            for thing in batch:
                done.append((thing, self._work(thing, self._meter)))  # noqa: PERF401 - those before an error count
        except Exception as caught:  # noqa: BLE001 - raised where the results are awaited
            return done, caught
        return done, error


def _batched(things: Iterable[Given], size_of: Callable[[Given], int], most: int) -> "Iterator[Batch[Given]]":
    batch: list[Given] = []
    length = 0
    try:
        for thing in things:
            batch.append(thing)
            length += size_of(thing)
            if length >= BATCH_BYTES or len(batch) == most:
                yield batch, None
                batch, length = [], 0
    except Exception as error:  # noqa: BLE001 - raised after what comes of the others
        yield batch, error
    else:
        yield batch, None


def _outcome(future: "Future[Done[Given, Made]]") -> Iterator[tuple[Given, Made]]:
    done, error = future.result()
    yield from done
    if error is not None:
        raise error

"""Work that several threads do at once, yielded in its order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

# Files are handed to a thread together as long as they have no more bytes: of small ones as many as take long enough
# that handing them over costs nothing, of large ones few enough that none waits while a thread is idle.
BATCH_BYTES = 4 << 20


def batches(positions: range, size_of: Callable[[int], int], most: int) -> list[range]:
    """The positions in batches of ``most`` at most, and of fewer where they are large."""
    found, first, batch_bytes = [], positions.start, 0
    for position in positions:
        batch_bytes += size_of(position)
        if batch_bytes >= BATCH_BYTES or position + 1 - first == most:
            found.append(range(first, position + 1))
            first, batch_bytes = position + 1, 0
    if first < positions.stop:
        found.append(range(first, positions.stop))
    return found


def done_in_order(work: Callable[[int], None], given: Sequence[range], at_once: int) -> Iterator[int]:
    """Do ``work`` for each position of the batches ``given``, ``at_once`` of these at a time, and yield the positions
    that are done in their order.

    After an error no more is begun, and what runs is waited for.
    """
    if at_once == 1 or len(given) == 1:
        for batch in given:
            for position in batch:
                work(position)
                yield position
        return

    def do(batch: range) -> None:
        for position in batch:
            work(position)

    begun: deque[tuple[range, Future[None]]] = deque()
    with ThreadPoolExecutor(at_once) as executor:
        try:
            for batch in given:
                begun.append((batch, executor.submit(do, batch)))
                # Enough in hand that no thread is idle while the first in order is a large one.
                if len(begun) > 4 * at_once:
                    yield from _awaited(*begun.popleft())
            while begun:
                yield from _awaited(*begun.popleft())
        finally:
            for _, future in begun:
                future.cancel()


def _awaited(batch: range, future: "Future[None]") -> range:
    future.result()
    return batch

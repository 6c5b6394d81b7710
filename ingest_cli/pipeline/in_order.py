"""Work that several threads do at once, yielded in its order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def done_in_order(work: Callable[[int], None], positions: Iterable[int], at_once: int) -> Iterator[int]:
    """Do ``work`` for each position, ``at_once`` of them at a time, and yield those that are done in their order.

    After an error no more is begun, and what runs is waited for.
    """
    if at_once == 1:
        for position in positions:
            work(position)
            yield position
        return
    begun: deque[tuple[int, Future[None]]] = deque()
    with ThreadPoolExecutor(at_once) as executor:
        try:
            for position in positions:
                begun.append((position, executor.submit(work, position)))
                # Enough in hand that no thread is idle while the first in order is a large one.
                if len(begun) > 4 * at_once:
                    yield _awaited(*begun.popleft())
            while begun:
                yield _awaited(*begun.popleft())
        finally:
            for _, future in begun:
                future.cancel()


def _awaited(position: int, future: "Future[None]") -> int:
    future.result()
    return position

"""Hashing beside what else is done with the same bytes: hashlib lets other threads run."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

# From this size on, hashing in a second thread wins more than handing pieces over costs.
OVERLAP_FROM_BYTES = 8 << 20


@contextmanager
def beside(digest: "hashlib._Hash", size: int) -> Iterator[Callable[[bytes], None]]:
    """What updates the digest with the next piece of ``size`` bytes, in a second thread where these are many.

    The digest is of all of them at the end of the block.
    """
    if size < OVERLAP_FROM_BYTES:
        yield digest.update
        return
    hashing: Future[None] | None = None

    def update(piece: bytes) -> None:
        nonlocal hashing
        if hashing is not None:
            hashing.result()
        hashing = hasher.submit(digest.update, piece)

    with ThreadPoolExecutor(1) as hasher:
        yield update
        if hashing is not None:
            hashing.result()

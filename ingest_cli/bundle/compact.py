"""Very many values in little memory: the records of a million files take 50 MB."""

import marshal
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

VALUES_A_BLOCK = 500
# Some 25 MB of records, with which no time is to be lost.
MOST_LOOSE = 25_000


class CompactList(Generic[T]):
    """Values of the kinds that JSON has, and tuples of them, in the order in which they were appended.

    Many are compressed in blocks: that takes a microsecond a value, and another one to get it back. Those that are not
    form the last block.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        # The place of each block's first value.
        self._starts: list[int] = []
        self._compressed = 0
        self._loose: list[T] = []
        self._most_loose = MOST_LOOSE

    def __len__(self) -> int:
        return self._compressed + len(self._loose)

    def __iter__(self) -> Iterator[T]:
        for number in range(self.blocks):
            yield from self.block(number)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self._blocks) + 1

    def append(self, value: T) -> None:
        """Add a value behind the last."""
        self._loose.append(value)
        if len(self._loose) >= self._most_loose:
            self.compress()

    def compress(self) -> None:
        """Compress what there is, though it is not much: to be called where values may be large."""
        for start in range(0, len(self._loose), VALUES_A_BLOCK):
            values = self._loose[start : start + VALUES_A_BLOCK]
            self._blocks.append(zlib.compress(marshal.dumps(values), 1))
            self._starts.append(self._compressed)
            self._compressed += len(values)
        self._loose = []
        self._most_loose = VALUES_A_BLOCK

    def place(self, position: int) -> tuple[int, int]:
        """In which block a value is, and where in it."""
        if position >= self._compressed:
            return len(self._blocks), position - self._compressed
        number = bisect_right(self._starts, position) - 1
        return number, position - self._starts[number]

    def block(self, number: int) -> list[T]:
        """The values of a block, of which nothing is to be changed."""
        if number == len(self._blocks):
            return self._loose
        values: list[Any] = marshal.loads(zlib.decompress(self._blocks[number]))
        return values

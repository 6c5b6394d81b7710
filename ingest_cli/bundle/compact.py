"""Very many values in little memory: the records of a million files take 50 MB."""

import marshal
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

VALUES_A_BLOCK = 500


class CompactList(Generic[T]):
    """Values of the kinds that JSON has, and tuples of them, in the order in which they were appended.

    They are compressed in blocks: that takes a microsecond a value, and to get it back another one.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        # The place of each block's first value.
        self._starts: list[int] = []
        self._compressed = 0
        self._loose: list[T] = []

    def __len__(self) -> int:
        return self._compressed + len(self._loose)

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self._blocks)):
            yield from self.block(number)
        yield from self._loose

    def append(self, value: T) -> None:
        """Add a value behind the last."""
        self._loose.append(value)
        if len(self._loose) == VALUES_A_BLOCK:
            self.compress()

    def compress(self) -> None:
        """Compress the last values too, though they are few: to be called where they may be large, and at the end."""
        if self._loose:
            self._blocks.append(zlib.compress(marshal.dumps(self._loose), 1))
            self._starts.append(self._compressed)
            self._compressed += len(self._loose)
            self._loose = []

    def place(self, position: int) -> tuple[int, int]:
        """In which block a compressed value is, and where in it."""
        number = bisect_right(self._starts, position) - 1
        return number, position - self._starts[number]

    def block(self, number: int) -> list[T]:
        """The values of a block. They are made anew for each call."""
        values: list[Any] = marshal.loads(zlib.decompress(self._blocks[number]))
        return values

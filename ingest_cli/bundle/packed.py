"""Very many values in little memory: the records of a million files take 50 MB."""

import marshal
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

VALUES_A_BLOCK = 500


class Packed(Generic[T]):
    """Values of the kinds that JSON has, and tuples of them, in the order in which they were appended.

    They are kept compressed, in blocks: it takes a microsecond to pack a value, and another one to unpack it.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        # The place of each block's first value.
        self._starts: list[int] = []
        self._packed = 0
        self._loose: list[T] = []

    def __len__(self) -> int:
        return self._packed + len(self._loose)

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self._blocks)):
            yield from self.block(number)
        yield from self._loose

    def append(self, value: T) -> None:
        """Add a value behind the last."""
        self._loose.append(value)
        if len(self._loose) == VALUES_A_BLOCK:
            self.pack()

    def pack(self) -> None:
        """Pack the last values too, of which there may be few: to be called where they may be large, and at the end."""
        if self._loose:
            self._blocks.append(zlib.compress(marshal.dumps(self._loose), 1))
            self._starts.append(self._packed)
            self._packed += len(self._loose)
            self._loose = []

    def place(self, position: int) -> tuple[int, int]:
        """In which block a packed value is, and where in it."""
        number = bisect_right(self._starts, position) - 1
        return number, position - self._starts[number]

    def block(self, number: int) -> list[T]:
        """The values of a block. They are unpacked anew for each call."""
        values: list[Any] = marshal.loads(zlib.decompress(self._blocks[number]))
        return values

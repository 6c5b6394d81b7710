"""A window over an open file: what lies close together in it is read together."""

import os

SMALLEST, LARGEST = 4 << 10, 1 << 20


class Window:
    """Reads parts of the file open as ``descriptor``, best in their order, and no more than ``largest`` ahead of them.

    As long as one part is read after another with little between them, more and more is read at once: the headers and
    the bodies of small files. Where what lies between is passed over, as large files are, it is not read.
    """

    def __init__(self, descriptor: int, largest: int = LARGEST) -> None:
        self._descriptor, self._largest = descriptor, largest
        self._ahead = min(SMALLEST, largest)
        self._start, self._read = 0, b""

    def read(self, position: int, length: int) -> bytes:
        """So many bytes from ``position``; less at the file's end. Raises OSError."""
        start = position - self._start
        if start < 0 or start + length > len(self._read):
            self._slide(position, length)
            start = 0
        return self._read[start : start + length]

    def _slide(self, position: int, length: int) -> None:
        gap = position - self._start - len(self._read)
        is_next = -len(self._read) <= gap <= self._ahead
        self._ahead = min(self._largest, 2 * self._ahead if is_next else SMALLEST)
        self._start, self._read = position, os.pread(self._descriptor, max(length, self._ahead), position)

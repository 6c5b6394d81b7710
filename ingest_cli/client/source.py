"""The bundle that is sent: a file that must stay as it is meanwhile."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ..bundle.fingerprint import fingerprint_of
from ..disk import explained, open_regular
from ..errors import SourceChanged, SourceError
from ..throttle import Throttle

HASHED_AT_ONCE = 1 << 20


class Source:
    """The file at ``path``, open for as long as a ``with`` block lasts. Raises SourceError, and what may pass."""

    def __init__(self, path: Path, throttle: Throttle, sent: Callable[[int], None]) -> None:
        self._path, self._throttle, self._sent = path, throttle, sent
        try:
            self._file = open_regular(path)
        except OSError as error:
            raise explained(error, f"cannot read {path}", SourceError, path) from error
        self.name, found = path.name, os.fstat(self._file.fileno())
        self.length, self.fingerprint = found.st_size, fingerprint_of(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._file.close()

    def part(self, offset: int, length: int) -> "Part":
        """So many bytes from ``offset``, to be sent as fast as is allowed."""
        return Part(self, offset, length)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file. Raises SourceChanged where it is not what it was any more."""
        try:
            data = os.pread(self._file.fileno(), length, offset)
            found = os.fstat(self._file.fileno())
        except OSError as error:
            raise explained(error, f"cannot read {self._path}", SourceError, self._path) from error
        if not data or fingerprint_of(found) != self.fingerprint:
            raise SourceChanged(f"{self._path} was changed while it was sent")
        return data

    def pace(self, length: int) -> None:
        """Wait until so many bytes may be sent."""
        if seconds := self._throttle.pause(length, time.monotonic()):
            time.sleep(seconds)

    @property
    def piece(self) -> int:
        """How many bytes are best sent at once."""
        return self._throttle.piece

    def count(self, length: int) -> None:
        """So many bytes are on their way."""
        self._sent(length)


class Part:
    """A part of a source. Whoever goes through it sends it; `hashed` only reads it."""

    def __init__(self, source: Source, offset: int, length: int) -> None:
        self._source, self._offset, self._length = source, offset, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces(self._source.piece):
            self._source.pace(len(piece))
            yield piece
            self._source.count(len(piece))

    def hashed(self) -> Iterator[bytes]:
        """The bytes, as fast as they can be read."""
        return self._pieces(HASHED_AT_ONCE)

    def _pieces(self, most: int) -> Iterator[bytes]:
        offset, end = self._offset, self._offset + self._length
        while offset < end:
            piece = self._source.read(offset, min(most, end - offset))
            offset += len(piece)
            yield piece

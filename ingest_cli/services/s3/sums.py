"""What storage that speaks S3 tags an object with: its MD5, or that of the MD5s of its parts and their number.

It is computed here on the way, so that what was stored is known to be what was sent without being read again. A tag is
something else where storage encrypts what it keeps.
"""

import hashlib
from collections.abc import Iterable, Iterator


def tag_of(data: bytes) -> str:
    """The tag of an object that is stored at once."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def tag_of_parts(sums: Iterable[str]) -> str:
    """The tag of an object whose parts have these tags, in their order."""
    digests = [bytes.fromhex(tag) for tag in sums]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


class PartSums:
    """The tag of an object that is stored in parts of so many bytes."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes, self._left = part_bytes, part_bytes
        self._sums: list[bytes] = []
        self._sum = hashlib.md5(usedforsecurity=False)

    def of(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, which are looked at on their way."""
        for chunk in chunks:
            left = memoryview(chunk)
            while len(left):
                taken = left[: self._left]
                self._sum.update(taken)
                self._left -= len(taken)
                left = left[len(taken) :]
                if not self._left:
                    self._end_part()
            yield chunk

    @property
    def tag(self) -> str:
        """The tag, when all of the chunks have been seen."""
        if self._left < self._part_bytes:
            self._end_part()
        return f"{hashlib.md5(b''.join(self._sums), usedforsecurity=False).hexdigest()}-{len(self._sums)}"

    def _end_part(self) -> None:
        self._sums.append(self._sum.digest())
        self._sum, self._left = hashlib.md5(usedforsecurity=False), self._part_bytes

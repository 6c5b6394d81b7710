"""What the large files of a tar hash to, noted at the tar itself: of the very file, as long as nobody has changed it.

The note is an extended attribute, so that it goes with the file. It is no more than a saving of time: where a file
system keeps none, where it is in doubt, or has no room for a file, that file is read and hashed.
"""

import errno
import hashlib
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from .fingerprint import fingerprint_of

ATTRIBUTE = "user.ingest.sums"
FORMAT = "1"
# Of offset and length; the digest follows. As much as XFS keeps, and what ext4 does.
PLACE = struct.Struct(">QQ")
SIZES = (60_000, 3_800)
TOO_MUCH = {errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EDQUOT}
# A note changes the time at which the file was last changed, and is made soon after it says when.
SOON_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class Sums:
    """Of parts of a tar, by offset and length, what each hashes to by ``hashtype``, as lower-case hex."""

    hashtype: str = ""
    parts: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def find(self, hashtype: str, offset: int, length: int) -> str | None:
        """What a part hashes to; None where that is not known."""
        return self.parts.get((offset, length)) if hashtype == self.hashtype else None


def note_sums(descriptor: int, hashtype: str, parts: Sequence[tuple[int, int, bytes]]) -> None:
    """Note digests of parts (offset, length, digest) at the open file, of which nothing is to be written any more.

    Those of the largest, where there is no room for all.
    """
    if not parts or not hasattr(os, "setxattr"):
        return
    largest = sorted(parts, key=lambda part: part[1], reverse=True)
    for size in SIZES:
        most = size // (PLACE.size + len(parts[0][2]))
        kept = b"".join(PLACE.pack(offset, length) + digest for offset, length, digest in largest[:most])
        head = f"{FORMAT} {hashtype} {fingerprint_of(os.fstat(descriptor))} {time.time_ns()}\n".encode()
        try:
            os.setxattr(descriptor, ATTRIBUTE, head + kept)
        except OSError as error:
            if error.errno in TOO_MUCH:
                continue
        return


def proven_sums(descriptor: int) -> Sums:
    """What was noted at an open file, unless the file may have been changed since."""
    with suppress(OSError, ValueError, AttributeError, struct.error):
        head, _, kept = os.getxattr(descriptor, ATTRIBUTE).partition(b"\n")
        known, hashtype, fingerprint, noted = head.decode("ascii").split(" ")
        found = os.fstat(descriptor)
        is_same = fingerprint == fingerprint_of(found) and abs(found.st_ctime_ns - int(noted)) <= SOON_NS
        if known == FORMAT and is_same:
            return Sums(hashtype, dict(_parts(kept, hashlib.new(hashtype, usedforsecurity=False).digest_size)))
    return Sums()


def _parts(kept: bytes, digest_size: int) -> Iterator[tuple[tuple[int, int], str]]:
    for start in range(0, len(kept), PLACE.size + digest_size):
        begin = start + PLACE.size
        offset, length = PLACE.unpack(kept[start:begin])
        digest = kept[begin : begin + digest_size]
        if len(digest) == digest_size:
            yield (offset, length), digest.hex()

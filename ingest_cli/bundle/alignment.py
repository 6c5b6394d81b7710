"""Where the bytes of a large file lie in a bundle: where a disk's block begins, so that an archive can share them.

Before them stands an extended header that is filled up with comments (POSIX pax, "pax Header Block"), which every
reader passes over.
"""

import tarfile
from typing import Any

from .content import SHARED_BLOCK, SHARED_FROM_BYTES
from .header import BLOCK

# A whole record. There are readers that take none longer than a block of the tar.
COMMENT = b"256 comment=".ljust(255) + b"\n"


class AlignedInfo(tarfile.TarInfo):
    """A member of a tar that has PAX headers; these are to be written at ``position``."""

    position = 0

    def tobuf(self, *how: Any, **else_how: Any) -> bytes:
        """Its headers, behind which its bytes come."""
        plain = super().tobuf(*how, **else_how)
        missing = -(self.position + len(plain)) % SHARED_BLOCK
        if self.size < SHARED_FROM_BYTES or not missing:
            return plain
        if len(plain) == BLOCK:
            # The extended header is a new one, and has a block of its own before it.
            missing = missing - BLOCK or SHARED_BLOCK
        return _extended(plain[BLOCK:-BLOCK].rstrip(b"\0") + COMMENT * (missing // len(COMMENT))) + plain[-BLOCK:]


def _extended(records: bytes) -> bytes:
    header = tarfile.TarInfo("././@PaxHeader")  # as Python names it
    header.type, header.size = tarfile.XHDTYPE, len(records)
    return header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % BLOCK)

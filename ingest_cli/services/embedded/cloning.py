"""Files of the archive that share their bytes with the bundle, where one file system holds both and can do that.

XFS and btrfs can (reflinks), from block to block: nothing is copied, and nothing is taken of the disk. A clone is the
archive's own: whoever writes to the bundle afterwards writes to other blocks.

What was hashed must be what is stored. The bundle is what is read to be hashed, since it is often in memory, where the
clone never is: reading that can take ten times as long. It is not another one than the clone where its times say that
it was not written to from before it was cloned until after it was hashed. Where they do not, the clone is read.
"""

import errno
import fcntl
import os
import struct
import sys
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ...bundle.content import SHARED_BLOCK, Content, shareable_bytes
from ...mounts import on_network

CAN_CLONE = sys.platform.startswith("linux")
FICLONERANGE = 0x4020940D  # of linux/fs.h, and of Python's fcntl from 3.13 on
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
# Files are stamped with a clock that ticks up to every 10 ms: who writes twice in a tick leaves one time.
SETTLED_NS = 100_000_000


class Cloner:
    """Clones contents into new files below ``root``, but for those of file systems that proved ``unable``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.unable: set[int] = set()

    def clone(self, content: Content, descriptor: int) -> bool:
        """Have a new file that is open as ``descriptor`` hold the content, checked; False where that is to be copied.

        Raises as `Content.verify` does, and OSError where the disk is full.
        """
        shareable = shareable_bytes(content.offset, content.size)
        if not shareable or not CAN_CLONE:
            return False
        before = os.fstat(content.descriptor)
        is_settled = time.time_ns() - before.st_ctime_ns > SETTLED_NS
        if before.st_dev in self.unable or not self._share(content, descriptor, shareable, before.st_dev):
            return False
        # What is kept of it in memory was read before, and says nothing of what is shared now.
        content = replace(content, kept=None)
        has_proof = is_settled and self._is_local
        if has_proof:
            content.verify()
        if not has_proof or _stamp(os.fstat(content.descriptor)) != _stamp(before):
            _verify_clone(content, descriptor)
        return True

    @cached_property
    def _is_local(self) -> bool:
        """Whether this system sees at once what anyone writes: what it knows of a file of others may be old."""
        return not on_network(self._root)

    def _share(self, content: Content, descriptor: int, shareable: int, device: int) -> bool:
        try:
            _clone(content.descriptor, content.offset, shareable, descriptor)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            # Whatever else is wrong, copying shows. An EINVAL may be of this content, as where the bundle was cut.
            if error.errno != errno.EINVAL:
                self.unable.add(device)
            os.ftruncate(descriptor, 0)
            return False
        tail = os.pread(content.descriptor, content.size - shareable, content.offset + shareable)
        while tail:
            written = os.pwrite(descriptor, tail, shareable)
            shareable, tail = shareable + written, tail[written:]
        return True


def can_clone(descriptor: int, folder: Path) -> bool:
    """Whether new files in the folder can share the bytes of the open file. It is tried, with a file without a name."""
    import tempfile

    if not CAN_CLONE:
        return False
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _clone(descriptor, 0, SHARED_BLOCK, file.fileno())
    except OSError:
        return False
    return True


def _clone(source: int, offset: int, length: int, target: int) -> None:
    fcntl.ioctl(target, FICLONERANGE, struct.pack("=qQQQ", source, offset, length, 0))


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _verify_clone(content: Content, descriptor: int) -> None:
    # Its bytes may have been counted when they were read from the bundle.
    replace(content, descriptor=descriptor, offset=0, observe=lambda _: content.observe(0)).verify()

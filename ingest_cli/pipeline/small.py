"""Which bundles are small: so small that several are run at once, since what they take is time to wait for disks."""

import os
import resource
import stat
from contextlib import suppress
from pathlib import Path

from ..bundle.header import BLOCK, is_header
from ..disk import open_regular
from ..settings import Settings

# A bundle of this size, or smaller, takes less time to read than to sync.
SMALL_BYTES = 4 << 20
THREADS = 16
# How many files each of them may have open, and the process besides.
FILES_A_THREAD, OTHER_FILES = 24, 64


def is_small(path: Path, settings: Settings) -> bool:
    """Whether the bundle at ``path`` is small, and all that a job of it asks is on this machine."""
    services = (settings.unique_id, settings.archive, settings.catalog)
    if not all(isinstance(service, Path) for service in services):
        return False
    with suppress(OSError):
        found = os.stat(path)
        return stat.S_ISREG(found.st_mode) and found.st_size <= SMALL_BYTES
    return False


def is_plain(path: Path) -> bool:
    """Whether the file at ``path`` begins as a tar does that is not packed: it holds no more than its size."""
    with suppress(OSError), open_regular(path) as file:
        return is_header(os.pread(file.fileno(), BLOCK, 0))
    return False


def most_at_once() -> int:
    """How many small bundles may be run at once, by how many files the process may have open."""
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files == resource.RLIM_INFINITY:
        return THREADS
    return max(1, min(THREADS, (most_files - OTHER_FILES) // FILES_A_THREAD))

"""Which bundles are small: so small that several are run at once, since what they take is time to wait for disks, for a
database and for storage."""

import os
import resource
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..bundle.header import BLOCK, is_header
from ..disk import open_regular
from ..settings import ObjectStore, PostgresUrl, Settings

# A bundle of this size, or smaller, takes less time to read than to sync.
SMALL_BYTES = 4 << 20
THREADS = 16
# Each of them sends to storage so much less at once than a job that runs alone.
SHARE = 4
# How many files each of them may have open, and the process besides.
FILES_A_THREAD, OTHER_FILES = 24, 64


def may_be_several(settings: Settings) -> bool:
    """Whether what jobs ask may be asked by several at once: of Pacifica's services it is asked by one."""
    services = (settings.unique_id, settings.archive, settings.catalog)
    return all(isinstance(service, Path | PostgresUrl | ObjectStore) for service in services)


def is_small(path: Path, settings: Settings) -> bool:
    """Whether the bundle at ``path`` is small, and several jobs of such may be run at once."""
    with suppress(OSError):
        found = os.stat(path)
        return may_be_several(settings) and stat.S_ISREG(found.st_mode) and found.st_size <= SMALL_BYTES
    return False


def is_plain(path: Path) -> bool:
    """Whether the file at ``path`` begins as a tar does that is not packed: it holds no more than its size."""
    with suppress(OSError), open_regular(path) as file:
        return begins_plain(file.fileno())
    return False


def shared_out(settings: Settings) -> Settings:
    """The settings of each of several small jobs that run at once: alone, one would send more to storage at a time."""
    if not isinstance(settings.archive, ObjectStore):
        return settings
    return replace(settings, transfers=max(1, settings.transfers // SHARE))


def begins_plain(descriptor: int) -> bool:
    """Whether an open file begins as a tar does that is not packed. Raises OSError."""
    return is_header(os.pread(descriptor, BLOCK, 0))


def most_at_once() -> int:
    """How many small bundles may be run at once, by how many files the process may have open."""
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files == resource.RLIM_INFINITY:
        return THREADS
    return max(1, min(THREADS, (most_files - OTHER_FILES) // FILES_A_THREAD))

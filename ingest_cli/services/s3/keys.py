"""The keys of objects: which file an object is, and which run has written it.

An object's key has the file's id and the fence of the run that wrote it, so that no run ever writes under the key of
another. Ids that follow one another lie together, 256 of them in a folder, and the folders that follow one another lie
far apart, so that storage which divides its work by the beginnings of keys has all its parts at work.

A pack holds files of one such folder: its key has the first and the last of them. Files between these two may lie
elsewhere, as large ones do.
"""

import re
from typing import NamedTuple

FILES_A_FOLDER = 256
MARK_NAME = "ARCHIVE-ID"
# Fences begin with 1: of most files there was one run only.
USUAL_FENCE = 1
OF_A_FILE = re.compile(r"[0-9a-f]{2}/([0-9a-f]+)/([0-9a-f]{2})\.([0-9]+)")
OF_A_PACK = re.compile(r"[0-9a-f]{2}/([0-9a-f]+)/([0-9a-f]{2})-([0-9a-f]{2})\.([0-9]+)\.zip")


class PackKey(NamedTuple):
    """What the key of a pack says: the first and the last of its files, and which run has written it."""

    first: int
    last: int
    fence: int

    @property
    def ids(self) -> range:
        """All that may be in it."""
        return range(self.first, self.last + 1)

    def __str__(self) -> str:
        """The key, below the archive's prefix."""
        first, last = self.first % FILES_A_FOLDER, self.last % FILES_A_FOLDER
        return f"{folder_of(self.first)}/{first:02x}-{last:02x}.{self.fence}.zip"


def folder_of(file_id: int) -> str:
    """Where the objects of a file lie, and those of its neighbours."""
    number = file_id // FILES_A_FOLDER
    return f"{number % 256:02x}/{number:x}"


def key_of(file_id: int, fence: int) -> str:
    """The key, below the archive's prefix, of a file that the run with ``fence`` writes."""
    return f"{folder_of(file_id)}/{file_id % FILES_A_FOLDER:02x}.{fence}"


def parsed(key: str) -> tuple[int, int] | None:
    """The file's id and the fence of a key below the archive's prefix; None of a key that is none of ours."""
    found = OF_A_FILE.fullmatch(key)
    if found is None:
        return None
    file_id, fence = int(found[1], 16) * FILES_A_FOLDER + int(found[2], 16), int(found[3])
    return (file_id, fence) if key_of(file_id, fence) == key else None


def parsed_pack(key: str) -> PackKey | None:
    """What the key of a pack says; None of a key that is of no pack."""
    found = OF_A_PACK.fullmatch(key)
    if found is None:
        return None
    before, fence = int(found[1], 16) * FILES_A_FOLDER, int(found[4])
    pack = PackKey(before + int(found[2], 16), before + int(found[3], 16), fence)
    return pack if pack.ids and str(pack) == key else None

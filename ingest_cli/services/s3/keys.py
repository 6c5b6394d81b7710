"""The keys of objects: which file an object is, and which run has written it.

An object's key has the file's id and the fence of the run that wrote it, so that no run ever writes under the key of
another. Ids that follow one another lie together, 256 of them in a folder, and the folders that follow one another lie
far apart, so that storage which divides its work by the beginnings of keys has all its parts at work.
"""

import re

FILES_A_FOLDER = 256
MARK_NAME = "ARCHIVE-ID"
# Fences begin with 1: of most files there was one run only.
USUAL_FENCE = 1
OF_A_FILE = re.compile(r"[0-9a-f]{2}/([0-9a-f]+)/([0-9a-f]{2})\.([0-9]+)")


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

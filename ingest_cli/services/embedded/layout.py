"""The layout of the archive's folder: that of Pacifica's archive interface with ids turned into names."""

import re

READ_ONLY = 0o444
# In it each run has a folder of its own, named by the first of its ids and by its fence.
RUNS_FOLDER = ".ingest"


def id_to_path(file_id: int) -> str:
    """The place of a file below the archive's root: 12345 is 0x3039 and lies at ``39/3039``, 18 at ``file.12``."""
    digits = f"{file_id:x}"
    if len(digits) <= 2:
        return f"file.{digits}"
    folders = [digits[end - 2 : end] for end in range(len(digits), 2, -2)]
    return "/".join([*folders, digits])


def path_to_id(place: str) -> int | None:
    """The id of the file at ``place``, below the archive's root; None where it is not the place of any."""
    digits = place.rpartition("/")[2].removeprefix("file.")
    file_id = int(digits, 16) if re.fullmatch("[0-9a-f]+", digits) else None
    return file_id if file_id is not None and place == id_to_path(file_id) else None

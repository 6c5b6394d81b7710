"""Extended attributes of files, which some file systems do not keep."""

import os
from pathlib import Path

import pytest


def require_attributes(folder: Path) -> None:
    """Skip the test where files in the folder can have none."""
    place = folder / "probe"
    place.touch()
    try:
        os.setxattr(place, "user.probe", b"")
    except (AttributeError, OSError):
        pytest.skip("the file system keeps no extended attributes")

"""A second digest of each stored file, the archive's own: BLAKE3, in an extended attribute of the file.

It takes a fifth of the time of SHA-1 to compute, and says whether a file is what was stored, as long as nobody changes
both. It is a help, and no promise: where there is no package blake3, or where the file system has no extended
attributes, there is none.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ATTRIBUTE = "user.ingest.blake3"
HAS_ATTRIBUTES = sys.platform.startswith("linux")


@cache
def is_usable() -> bool:
    """Whether such digests can be computed here, and kept with files."""
    with suppress(ImportError):
        import_module("blake3")
        return HAS_ATTRIBUTES
    return False


def new_digest() -> Any:
    """A digest of nothing yet, as those of hashlib are."""
    return import_module("blake3").blake3()


def can_be_noted(folder: Path) -> bool:
    """Whether files in the folder can have such a digest. It is tried, with one without a name. Raises OSError."""
    with tempfile.TemporaryFile(dir=folder) as file:
        Noted().note(file.fileno())
        return noted(file.fileno()) is not None


class Noted:
    """The digest of a file that is being written: of the bytes since it was begun last."""

    def __init__(self) -> None:
        self._digest = new_digest()

    def begin(self) -> Callable[[bytes], None]:
        """Begin anew; what takes the bytes."""
        self._digest = new_digest()
        update: Callable[[bytes], None] = self._digest.update
        return update

    def note(self, descriptor: int) -> None:
        """Note it with the open file, whose mode still lets its owner write to it, if the file system takes that."""
        with suppress(OSError):
            os.setxattr(descriptor, ATTRIBUTE, self._digest.digest())


def noted(descriptor: int) -> bytes | None:
    """The digest that was noted of an open file."""
    with suppress(OSError):
        return os.getxattr(descriptor, ATTRIBUTE)
    return None

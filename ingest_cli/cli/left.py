"""What is left where a command is interrupted that writes one file or folder, which appears whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Interrupted
from .signals import interruptible

# What was written aside is to be gone: of very many files that takes its time.
CLEANING_SECONDS = 30.0
STANDARD_OUTPUT = Path("-")


@contextmanager
def saying_what_is_left(target: Path) -> Iterator[None]:
    """Have SIGINT and SIGTERM end the block, and say what there is at ``target`` then. Raises Interrupted."""
    before = _identity(target)
    try:
        with interruptible(cleaning=CLEANING_SECONDS):
            yield
    except Interrupted:
        if target == STANDARD_OUTPUT:
            raise Interrupted("interrupted; what was written to standard output is not whole") from None
        if _identity(target) != before:
            raise Interrupted(f"interrupted, but {target} is whole") from None
        left = "was not written" if before is None else "is as it was"
        raise Interrupted(f"interrupted; {target} {left}, and the same command begins anew") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino

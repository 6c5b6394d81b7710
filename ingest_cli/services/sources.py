"""The sources of files that were moved: how one is removed without removing what has come to stand in its place."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..disk import rename_new
from ..errors import ArchiveError, IngestError, ServiceUnavailable

MAY_NOT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST)


def caught_at(source: Path, first: int, fence: int, file_id: int) -> Path:
    """The name that the run with this fence, of a job whose ids begin with ``first``, gives a source to look at it."""
    return source.with_name(f".ingest-{first}.{fence}-{file_id}")


def catch(source: Path, caught: Path, hashed: os.stat_result | None) -> bool:
    """Rename the source, if it is still there, to where nothing stands."""
    try:
        if hashed is not None and not is_same_file(os.lstat(source), hashed):
            return False
        # Anyone may have put something there whose place a renaming would take.
        os.close(os.open(caught, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileNotFoundError:
        return False
    try:
        os.rename(source, caught)
    except BaseException as error:
        os.unlink(caught)
        if not isinstance(error, FileNotFoundError):
            raise
        return False
    return True


def is_same_file(found: os.stat_result, other: os.stat_result) -> bool:
    """Whether both are of one file."""
    return (found.st_dev, found.st_ino) == (other.st_dev, other.st_ino)


def each_caught(source: Path, first_id: int, fence: int, file_id: int, hashed: os.stat_result | None) -> Iterator[Path]:
    """The source under the names that runs up to the one with ``fence`` give it: those that killed ones have left, and
    then this run's own. It gets that first, so that what is checked is what is removed."""
    for each in range(1, fence + 1):
        caught = caught_at(source, first_id, each, file_id)
        if os.path.lexists(caught):
            yield caught
        if each == fence and catch(source, caught, hashed):
            yield caught


def not_removed(error: OSError, source: Path, archive: str) -> IngestError:
    """The error to raise where a source remains: an ArchiveError where it may not be removed, else one that passes."""
    trouble = f"cannot remove {source}, which was moved into the archive {archive}: {error.strerror}"
    return ArchiveError(trouble) if error.errno in MAY_NOT else ServiceUnavailable(trouble)


def put_back(caught: Path, source: Path) -> None:
    """Give a file its name again, unless another file has it: then both are kept."""
    with suppress(OSError):
        rename_new(caught, source)

"""The UPLOADING stage: a bundle that comes as a stream is written to a file of its own before anything else."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import IngestError, SourceError


@contextmanager
def spooled_input(stream: BinaryIO, spool: Path) -> Iterator[Path]:
    """The stream as a file in ``spool``; removed at the end unless a later run can resume it.

    It stays after an error that may pass and after an interruption, since a part of it may be stored by then.
    """
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(prefix="upload-", suffix=".tar", dir=spool)
    except OSError as error:
        raise SourceError(f"cannot write into the spool folder {spool}: {error.strerror}") from error
    path = Path(name)
    keep = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            try:
                # Dies with the process, and tells `prune` that the file is in use.
                fcntl.flock(file, fcntl.LOCK_EX)
                shutil.copyfileobj(stream, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise SourceError(f"cannot spool standard input to {path}: {error.strerror}") from error
            keep = True
            yield path
            keep = False
    except IngestError as error:
        keep = error.transient
        if keep:
            error.add_note(f"the bundle is kept in {path}")
        raise
    finally:
        if not keep:
            path.unlink(missing_ok=True)

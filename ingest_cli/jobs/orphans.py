"""The orphans of the spool folder: files that no process writes, no job needs, and that were left for long."""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .spool import EMPTY_UNTOUCHED, SpoolKind, record_of
from .store import JobStore


def orphans(spool: Path, store: JobStore, kinds: Iterable[SpoolKind] = SpoolKind) -> list[Path]:
    """The files of these kinds that no process writes and that no unfinished job needs."""
    return [path for kind in kinds for path in sorted(spool.glob(f"{kind.prefix}*")) if _is_orphan(kind, path, store)]


def remove_orphan(path: Path, store: JobStore) -> bool:
    """Remove a file of the spool, and a resumable upload with its record, if it is an orphan still.

    Nobody can begin to write it meanwhile: who has opened it finds it locked, and then gone.
    """
    kind = next(kind for kind in SpoolKind if path.name.startswith(kind.prefix))
    upload = _upload_of(kind, path)
    with _locked(upload) as is_ours:
        if not is_ours or not _is_left(kind, upload) or not _is_needless(upload, store):
            return False
        if kind is SpoolKind.RESUMABLE:
            # First: a kill in between leaves a file without a record, which is no upload and no promise.
            record_of(upload).unlink(missing_ok=True)
        upload.unlink(missing_ok=True)
        return True


def expiry_of(upload: Path) -> float | None:
    """When a resumable upload counts as left, unless something comes before; None where nothing is left of it."""
    times = list(_times([upload, record_of(upload)]))
    span = EMPTY_UNTOUCHED if _is_empty(upload) else SpoolKind.RESUMABLE.untouched
    return max(times) + span.total_seconds() if times else None


def _is_orphan(kind: SpoolKind, path: Path, store: JobStore) -> bool:
    upload = _upload_of(kind, path)
    if not _is_left(kind, upload) or not _is_needless(upload, store):
        return False
    with _locked(upload) as is_ours:
        return is_ours


def _upload_of(kind: SpoolKind, path: Path) -> Path:
    """What is locked and has a job: of a record, the upload. A job may have used and removed that."""
    return path.with_suffix(".tar") if kind is SpoolKind.RESUMABLE else path


def _is_left(kind: SpoolKind, upload: Path) -> bool:
    if kind is SpoolKind.RESUMABLE:
        expiry = expiry_of(upload)
    else:
        expiry = next((written + kind.untouched.total_seconds() for written in _times([upload])), None)
    # Without a span the clock is not asked: that of a share may be ahead of ours.
    return expiry is not None and (not kind.untouched or time.time() > expiry)


def _times(files: list[Path]) -> Iterator[float]:
    for path in files:
        with suppress(FileNotFoundError):
            yield path.stat().st_mtime


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether nobody writes the file, and nobody begins to within the block; so it is where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    try:
        yield _can_lock(descriptor)
    finally:
        os.close(descriptor)


def _can_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_needless(path: Path, store: JobStore) -> bool:
    job = store.of_source(path)
    return job is None or job.is_done

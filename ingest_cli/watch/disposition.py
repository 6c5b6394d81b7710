"""What becomes of a file in a drop folder once its job has ended."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle.fingerprint import fingerprint_of
from ..disk import CANNOT_LINK, copy_to, durable_write, opened
from ..errors import SourceError
from ..jobs.job import Job

ERROR_SUFFIX = ".error.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Disposition:
    """Ingested files go to the folder ``done``, failed ones to ``failed``; None leaves them where they are.

    ``delete`` deletes ingested files instead. Files of other bundles are never overwritten.
    """

    done: Path | None = None
    failed: Path | None = None
    delete: bool = False

    def carry_out(self, path: Path, job: Job) -> bool:
        """Dispose of the file of an ended job; return whether it is still that file. Raises SourceError."""
        try:
            if job.is_done:
                self._complete(path, job)
            else:
                self._fail(path, job)
        except FileNotFoundError:
            return False  # it is gone, or another file has its name: the next look sees to that
        except OSError as error:
            raise SourceError(f"cannot move or delete {path} after job {job.job_id}: {error.strerror}") from error
        return True

    def refuse(self, path: Path, fingerprint: str, reason: str) -> None:
        """Dispose of a file that cannot become a job as of one that failed, where that is possible."""
        if self.failed is not None:
            with suppress(OSError), _set_aside(path, fingerprint) as aside:
                path = _move(aside, self.failed, path.name)
        with suppress(OSError):
            _write(path, {"exception": reason})

    def _complete(self, path: Path, job: Job) -> None:
        _explanation_of(path).unlink(missing_ok=True)
        if not self.delete and self.done is None:
            return
        with _set_aside(path, job.fingerprint) as aside:
            if self.delete:
                shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
            elif self.done is not None:
                _move(aside, self.done, path.name)

    def _fail(self, path: Path, job: Job) -> None:
        if self.failed is not None:
            with _set_aside(path, job.fingerprint) as aside:
                path = _move(aside, self.failed, path.name)
        elif _is_explained(path, job):
            return
        _explain(path, job)


@contextmanager
def _set_aside(path: Path, fingerprint: str) -> Iterator[Path]:
    """The file or folder under a name of our own, so that none which gets its name meanwhile is mistaken for it.

    Raises FileNotFoundError where another file stands there by now, which is left.
    """
    aside = path.with_name(f".ingest-{secrets.token_hex(8)}.part")
    path.rename(aside)
    try:
        if not aside.is_dir() and fingerprint_of(aside.lstat()) != fingerprint:
            raise FileNotFoundError(errno.ENOENT, "another file has its name now")
        yield aside
    finally:
        if os.path.lexists(aside) and not os.path.lexists(path):
            aside.rename(path)


def _explanation_of(path: Path) -> Path:
    return path.with_name(path.name + ERROR_SUFFIX)


def _is_explained(path: Path, job: Job) -> bool:
    try:
        return bool(json.loads(_explanation_of(path).read_bytes())["job_id"] == job.job_id)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _explain(path: Path, job: Job) -> None:
    _write(
        path,
        {
            "job_id": job.job_id,
            "task": job.task,
            "exception": job.exception,
            "failed": f"{job.updated} UTC",
        },
    )


def _write(path: Path, why: dict[str, Any]) -> None:
    explanation = _explanation_of(path)
    story = {
        "file": os.fsencode(path.name).decode(errors="replace"),
        **why,
        "what_next": "put the corrected file into the drop folder under the same name: it will become a new job",
    }
    text = json.dumps(story, indent=2, ensure_ascii=False) + "\n"
    with durable_write(explanation, mode=0o644, replace=True) as file:
        file.write(text.encode(errors="replace"))


def _move(path: Path, folder: Path, name: str) -> Path:
    """Move the file into the folder, under a name that is free there, and return where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        return _move_folder(path, folder, name)
    number = 0
    while True:
        target = folder / (name if number == 0 else f"{name}.{number}")
        try:
            # Linking fails where a file of this name stands; renaming would overwrite it.
            os.link(path, target)
            break
        except FileExistsError:
            number += 1
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            if target.exists():
                number += 1
                continue
            copy_to(target, path)
            break
    with opened(folder) as descriptor:
        os.fsync(descriptor)
    path.unlink()
    return target


def _move_folder(path: Path, folder: Path, name: str) -> Path:
    number = 0
    while True:
        target = folder / (name if number == 0 else f"{name}.{number}")
        # Renaming overwrites no folder but an empty one, which is made here so that its name is ours.
        try:
            target.mkdir()
            break
        except FileExistsError:
            number += 1
    try:
        path.rename(target)
    except BaseException:
        target.rmdir()
        raise
    return target

"""Unfinished uploads: what a later run of the same command has to know to resume one, in a folder for each.

The folder ``KEY`` has a ``lock``, held by whoever works on the upload; ``record.json``, from when something is worth
noting; and ``bundle.tar``, which was packed to be sent. It is removed when the upload is done.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..disk import durable_write, explained, make_folder
from ..errors import IngestError, JobBusy, SourceError

# Longer than servers keep uploads; what nobody has resumed by then, nobody will.
ABANDONED_SECONDS = 14 * 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known of an upload: ``of`` which content it is, and at the server its ``name`` and its ``job_id``."""

    of: str
    name: str | None = None
    job_id: int | None = None


class Unfinished:
    """One upload, of which nobody else can have its folder now. ``record`` is what was noted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bundle = folder / "bundle.tar"
        self.record = _read(folder / "record.json")

    @property
    def job_id(self) -> int | None:
        """The job that the server has made of it."""
        return None if self.record is None else self.record.job_id

    @property
    def name(self) -> str | None:
        """What the server calls the upload."""
        return None if self.record is None else self.record.name

    def begin(self, of: str) -> str | None:
        """What is sent is ``of`` this content. What was noted of other content is forgotten; its name at the server."""
        outdated = None
        if self.record is None or self.record.of != of:
            outdated = self.name if self.job_id is None else None
            # First: a packed bundle of other content must not be taken for one of this.
            self._drop_bundle()
            self._note(Record(of=of))
        return outdated

    def renew(self) -> None:
        """It is sent from its beginning."""
        self.named(None)

    def named(self, name: str | None) -> None:
        """The server calls the upload so."""
        assert self.record is not None
        self._note(replace(self.record, name=name, job_id=None))

    def accepted(self, job_id: int) -> None:
        """The server has made a job of it, and the packed bundle is not needed any more."""
        assert self.record is not None
        self._note(replace(self.record, job_id=job_id))
        self._drop_bundle()

    def _drop_bundle(self) -> None:
        with _of(self._folder), suppress(FileNotFoundError):
            self.bundle.unlink()

    def _note(self, record: Record) -> None:
        # Durably: the bundle may take days.
        with _of(self._folder), durable_write(self._folder / "record.json", replace=True) as file:
            file.write(json.dumps(asdict(record)).encode())
        self.record = record

    def forget(self) -> None:
        """Remove all of it."""
        self.record = None
        shutil.rmtree(self._folder, ignore_errors=True)


def key_of(*parts: object) -> str:
    """The key of an upload that is told from others by these parts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@contextmanager
def unfinished(folder: Path, key: str) -> Iterator[Unfinished]:
    """The upload of this key in ``folder``, for as long as the block lasts. What was never noted leaves nothing.

    Raises JobBusy where another process has it.
    """
    place = folder / key
    descriptor = _lock(place)
    try:
        found = Unfinished(place)
        yield found
    finally:
        if place.is_dir() and not (place / "record.json").exists():
            shutil.rmtree(place, ignore_errors=True)
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove uploads that nobody has resumed for long."""
    with suppress(OSError):
        for place in list(folder.iterdir()):
            with suppress(OSError, IngestError):
                if time.time() - _touched(place) > ABANDONED_SECONDS:
                    descriptor = _lock(place)
                    shutil.rmtree(place, ignore_errors=True)
                    os.close(descriptor)


def _touched(place: Path) -> float:
    return max(path.stat().st_mtime for path in (place, *place.iterdir()))


def _lock(place: Path) -> int:
    while True:
        with _of(place):
            make_folder(place)
            try:
                descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # whoever had it has just removed it
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise JobBusy("another process is uploading it") from None
            except BaseException:
                os.close(descriptor)
                raise
        os.close(descriptor)


@contextmanager
def _of(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explained(error, f"cannot write into {place}", SourceError, place) from error


def _read(path: Path) -> Record | None:
    """The record in a file; None where there is none, or none of ours."""
    try:
        found = json.loads(path.read_bytes())
        name, job_id = found["name"], found["job_id"]
        usable = isinstance(name, str | None) and isinstance(job_id, int | None)
        return Record(of=str(found["of"]), name=name, job_id=job_id) if usable else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise explained(error, f"cannot read {path}", SourceError, path) from error

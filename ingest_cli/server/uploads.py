"""Resumable uploads in the spool: a file each, and beside it a record of what is to come and from whom."""

import json
import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ..disk import durable_write
from ..errors import SourceError
from ..jobs.spool import SpoolFile, SpoolKind, record_of
from ..text import counted
from .admission import BUSY_SECONDS, Room
from .authentication import Refusal

MAX_UPLOADS = 1000
# Room is kept for an upload as long as something comes. It can be resumed for days, if there is room then.
ACTIVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Upload:
    """A resumable upload: ``length`` bytes are to come to ``path``, from ``client``, in the name of ``user``."""

    path: Path
    length: int
    user: str
    client: str

    def offset(self) -> int | None:
        """How many bytes have arrived; None where the file is gone, since a job has used it."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"cannot look at {self.path}: {error.strerror}") from error

    def left(self) -> int:
        """How many bytes are to come of an upload that is under way; none of one of which nothing comes any more."""
        try:
            found = self.path.stat()
        except OSError:
            return 0
        return self.length - found.st_size if time.time() - found.st_mtime < ACTIVE_SECONDS else 0


class Uploads:
    """The uploads in the folder ``spool``. Each method blocks, and may be called by several threads at once."""

    def __init__(self, spool: Path, room: Room, reserve: int) -> None:
        self._spool, self._room, self._reserve = spool, room, reserve
        self._lock = threading.Lock()
        self._open: set[Upload] = set()
        for path in spool.glob(f"{SpoolKind.RESUMABLE.prefix}*.tar"):
            if (upload := _read(record_of(path))) is not None:
                self.keep(upload)

    def create(self, length: int, user: str, client: str) -> str:
        """Create an upload of ``length`` bytes, durably, and return its name. Raises Refusal and NoRoom."""
        name = secrets.token_hex(16)
        upload = Upload(self._path(name), length, user, client)
        with SpoolFile(upload.path, self._reserve, new=True) as file:
            with self._lock:
                self._require_place(client)
                self._room.claim(upload, length)
                self._open.add(upload)
            try:
                _write(upload)
            except BaseException:
                self.close(upload)
                raise
            file.keep()
        return name

    def find(self, name: str) -> Upload | None:
        """The upload of this name; it may be a job by now."""
        return _read(record_of(self._path(name))) if re.fullmatch("[0-9a-f]{32}", name) else None

    def keep(self, upload: Upload) -> None:
        """The upload is open: room is kept for it while something comes."""
        with self._lock:
            self._open.add(upload)
        self._room.keep(upload)

    def close(self, upload: Upload) -> None:
        """The upload is whole or removed: it needs no room any more."""
        with self._lock:
            self._open.discard(upload)
        self._room.release(upload)

    def remove(self, upload: Upload) -> None:
        """Remove an upload."""
        upload.path.unlink(missing_ok=True)
        record_of(upload.path).unlink(missing_ok=True)
        self.close(upload)

    def _require_place(self, client: str) -> None:
        """Raise Refusal where too many are open, or too many of this client's."""
        for upload in [upload for upload in self._open if upload.offset() in (None, upload.length)]:
            self._open.discard(upload)
            self._room.release(upload)
        of_client = sum(upload.client == client for upload in self._open)
        if of_client >= MAX_UPLOADS // 2 or len(self._open) >= MAX_UPLOADS:
            opened = counted(len(self._open), "upload is", "uploads are")
            raise Refusal(503, f"{opened} open: end one, or try again later", {"Retry-After": str(BUSY_SECONDS)})

    def _path(self, name: str) -> Path:
        return SpoolKind.RESUMABLE.path(self._spool, f"{name}.tar")


def _write(upload: Upload) -> None:
    record = {name: value for name, value in asdict(upload).items() if name != "path"}
    try:
        with durable_write(record_of(upload.path)) as file:
            file.write(json.dumps(record).encode())
    except OSError as error:
        raise SourceError(f"cannot write into {upload.path.parent}: {error.strerror}") from error


def _read(record: Path) -> Upload | None:
    """The upload of a record; None where there is no such record, or not a whole one."""
    try:
        found = json.loads(record.read_bytes())
        return Upload(
            record.with_suffix(".tar"), int(found["length"]), str(found["user"]), str(found.get("client", ""))
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise SourceError(f"cannot read {record}: {error.strerror}") from error

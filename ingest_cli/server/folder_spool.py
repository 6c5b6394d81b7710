"""The spool of a single host: a folder. A resumable upload is a file, and beside it a record of what is to come.

The files are locked while they are written, so that several servers of a host may share the folder.
"""

import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from ..bundle.fingerprint import fingerprint
from ..disk import durable_write, explained, sync_folder
from ..errors import SourceError
from ..jobs.job import Job
from ..jobs.orphans import expiry_of, orphans, remove_orphan
from ..jobs.spool import Locked, SpoolFile, SpoolKind, record_of
from ..jobs.store import JobStore
from ..shared_sync import SharedSync
from .admission import Room
from .authentication import Refusal
from .carts import Carts, FolderCarts
from .concatenation import append_files
from .incoming import Incoming
from .threads import Threads
from .uploads import NAME, Standing, Upload, final_name, part_names, require_place

# Room is kept for an upload as long as something comes. It can be resumed for days, if there is room then.
ACTIVE_SECONDS = 60.0
# What is recorded of an upload beside its file.
RECORDED = ("length", "user", "client", "metadata", "concat", "doubted")


class SpooledFile(SpoolFile):
    """A file of the folder that a request writes."""

    @property
    def source(self) -> str:
        """Its path."""
        return str(self.path)

    def fingerprint(self) -> str:
        """The file's."""
        return fingerprint(self.path)

    def entered_as(self, job_id: int) -> int:
        """The id that was reserved: as long as the file is locked, there is no other."""
        return job_id


class FolderSpool:
    """The spool in the folder ``spool``."""

    def __init__(self, spool: Path) -> None:
        self._spool, self._sync = spool, SharedSync(sync_folder)

    def fresh(self, suffix: str, reserve: int = 0) -> Incoming:
        """A new file."""
        return SpooledFile.fresh(SpoolKind.RECEIVED, self._spool, suffix, reserve, self._sync)

    def try_out(self, reserve: int) -> None:
        """Write a file."""
        with self.fresh(".health", reserve) as file:
            file.write(b"ingest")
            file.sync()

    def uploads(self, room: Room, reserve: int) -> "FolderUploads":
        """The uploads that lie in it."""
        return FolderUploads(self._spool, room, reserve)

    def carts(self, reserve: int) -> Carts:
        """The carts that lie in it."""
        return FolderCarts(self._spool, reserve)

    def key(self, name: str) -> bytes:
        """A new one: who shares the folder is another server of this host, which is begun as this one ends."""
        return secrets.token_bytes(32)

    def close(self) -> None:
        """Nothing is open."""

    def free(self) -> int:
        """The room on its disk."""
        try:
            return shutil.disk_usage(self._spool).free
        except OSError as error:
            raise SourceError(f"cannot write into {self._spool}: {error.strerror}") from error

    def sweep(self, store: JobStore, *kinds: SpoolKind) -> None:
        """Remove the orphans of these kinds."""
        for path in orphans(self._spool, store, kinds):
            remove_orphan(path, store)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What an upload under way needs of the room."""

    upload: Upload

    @property
    def client(self) -> str:
        return self.upload.client

    def left(self) -> int:
        """How many bytes are known to come of an upload under way; none of one of which nothing comes any more."""
        try:
            found = os.stat(self.upload.source)
        except OSError:
            return 0
        is_active, length = time.time() - found.st_mtime < ACTIVE_SECONDS, self.upload.length
        return max(0, length - found.st_size) if is_active and length is not None else 0


class FolderUploads:
    """The uploads in the folder ``spool``, on whose disk ``reserve`` bytes stay free."""

    def __init__(self, spool: Path, room: Room, reserve: int) -> None:
        self._spool, self._room, self._reserve = spool, room, reserve
        self._lock = threading.Lock()
        self._open: set[Upload] = set()
        for path in spool.glob(f"{SpoolKind.RESUMABLE.prefix}*.tar"):
            if (upload := _read(path)) is not None:
                self.keep(upload)

    def create(self, length: int | None, user: str, client: str, metadata: str = "", concat: str = "") -> Upload:
        """Create an upload, durably."""
        parts = part_names(concat)
        name = final_name(parts) if parts else secrets.token_hex(16)
        path = self._path_of(name)
        upload = Upload(name, str(path), length, user, client, metadata, concat)
        with self._new_file(path) as file:
            with self._lock:
                self._require_place(client)
                self._room.claim(_Claim(upload), length or 0)
                self._open.add(upload)
            try:
                _write(upload)
            except BaseException:
                self.close(upload)
                raise
            file.keep()
        return upload

    def find(self, name: str) -> Upload | None:
        """The upload of this name."""
        upload = _read(self._path_of(name)) if re.fullmatch(NAME, name) else None
        if upload is None:
            return None
        expiry = expiry_of(Path(upload.source))
        return replace(upload, is_left=expiry is None or time.time() >= expiry)

    def standing(self, upload: Upload) -> Standing:
        """What is to be seen of its file."""
        return Standing(self._offset(upload), self._is_whole(upload), expiry_of(Path(upload.source)))

    def _offset(self, upload: Upload) -> int | None:
        """How many bytes of the file count."""
        size = _size(upload)
        # Behind the size: what is in doubt is recorded before it is written.
        recorded = _read(Path(upload.source))
        if size is None or recorded is None or recorded.doubted is None:
            return size
        return min(size, recorded.doubted)

    def _is_whole(self, upload: Upload) -> bool:
        return _size(upload) in (None, upload.length) and self._offset(upload) in (None, upload.length)

    def expire(self, upload: Upload, store: JobStore) -> bool:
        """Remove what is left of it, if it is an orphan."""
        remove_orphan(Path(upload.source), store)
        if self.find(upload.name) is not None:
            return False
        self.close(upload)
        return True

    def job_of(self, upload: Upload, store: JobStore) -> Job | None:
        """The job of its file."""
        return store.of_source(Path(upload.source))

    def opening(self, upload: Upload) -> Callable[[], Incoming | None]:
        """What tries to lock its file."""
        return partial(_opened, Path(upload.source), self._reserve)

    def declare(self, upload: Upload, file: Incoming, length: int) -> Upload:
        """Record its length, and keep room for it."""
        known = replace(upload, length=length)
        self.close(upload)
        try:
            self._room.claim(_Claim(known), length - (self._offset(upload) or 0))
            _write(known)
        except BaseException:
            self.close(known)
            self.keep(upload)
            raise
        self.keep(known)
        return known

    def doubt(self, upload: Upload, file: Incoming) -> None:
        """Record from where on it is in doubt."""
        _write(replace(upload, doubted=file.length))

    def trust(self, upload: Upload, file: Incoming) -> None:
        """Record that all in the file counts."""
        _write(replace(upload, doubted=None))

    def settle(self, upload: Upload, file: Incoming) -> Upload:
        """Cut off what is in doubt."""
        if upload.doubted is None:
            return upload
        file.cut(upload.doubted)
        self.trust(upload, file)
        return replace(upload, doubted=None)

    def keep(self, upload: Upload) -> None:
        """Keep room for it while something comes."""
        with self._lock:
            self._open.add(upload)
        self._room.keep(_Claim(upload))

    def close(self, upload: Upload) -> None:
        """Keep no room for it."""
        with self._lock:
            self._open.discard(upload)
        self._room.release(_Claim(upload))

    def remove(self, upload: Upload) -> None:
        """Remove its record and its file."""
        path = Path(upload.source)
        # In this order: a kill in between leaves a file without a record, which is no upload any more.
        record_of(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        self.close(upload)

    def keep_parts(self, final: Upload) -> None:
        """Touch the parts' records."""
        for name in final.parts:
            with suppress(FileNotFoundError):
                os.utime(record_of(self._path_of(name)))

    async def join(self, final: Upload, file: Incoming, disk: Threads) -> None:
        """Append the parts' files. They stay until the upload is a job: a kill costs only time."""
        await append_files(file, [self._path_of(name) for name in final.parts], disk)

    def remove_parts(self, final: Upload) -> None:
        """Remove the parts' files."""
        for name in final.parts:
            if (part := self.find(name)) is not None:
                Path(part.source).unlink(missing_ok=True)
                self.close(part)

    def _path_of(self, name: str) -> Path:
        return SpoolKind.RESUMABLE.path(self._spool, f"{name}.tar")

    def _new_file(self, path: Path) -> SpoolFile:
        try:
            # Of a final upload, a server that was killed may have left the file without the record.
            return SpoolFile(path, self._reserve, new=not path.exists())
        except Locked as error:
            raise Refusal(423, str(error)) from error

    def _require_place(self, client: str) -> None:
        """Raise Refusal where too many are open, or too many of this client's."""
        ended = [upload for upload in self._open if not upload.is_partial and self._is_whole(upload)]
        for upload in ended:
            self._open.discard(upload)
            self._room.release(_Claim(upload))
        require_place(sum(upload.client == client for upload in self._open), len(self._open))


def _opened(path: Path, reserve: int) -> SpooledFile | None:
    try:
        return SpooledFile(path, reserve, new=False)
    except SourceError:
        if path.exists():
            raise
        return None


def _size(upload: Upload) -> int | None:
    try:
        return os.stat(upload.source).st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"cannot look at {upload.source}: {error.strerror}") from error


def _write(upload: Upload) -> None:
    record = {name: value for name, value in asdict(upload).items() if name in RECORDED}
    path = Path(upload.source)
    try:
        with durable_write(record_of(path), replace=True) as file:
            file.write(json.dumps(record).encode())
    except OSError as error:
        raise explained(error, f"cannot write into {path.parent}", SourceError, path.parent) from error


def _read(path: Path) -> Upload | None:
    """The upload of a file; None where there is no record of it, or not a whole one."""
    record = record_of(path)
    try:
        found = json.loads(record.read_bytes())
        length = None if found["length"] is None else int(found["length"])
        client, metadata, concat = (str(found.get(name, "")) for name in ("client", "metadata", "concat"))
        doubted = None if found.get("doubted") is None else int(found["doubted"])
        name = path.stem.removeprefix(SpoolKind.RESUMABLE.prefix)
        return Upload(name, str(path), length, str(found["user"]), client, metadata, concat, doubted)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise SourceError(f"cannot read {record}: {error.strerror}") from error

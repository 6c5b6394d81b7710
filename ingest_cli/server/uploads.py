"""Resumable uploads in the spool: a file each, and beside it a record of what is to come and from whom.

Some are parts of another, the final one, into which they are joined. Its name follows from theirs: asked for again, by
whoever was not answered, it is the same one.
"""

import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..disk import durable_write, explained
from ..errors import SourceError
from ..jobs.orphans import expiry_of
from ..jobs.spool import Locked, SpoolFile, SpoolKind, record_of
from ..text import counted
from .admission import BUSY_SECONDS, Room
from .authentication import Refusal

MAX_UPLOADS = 1000
# Room is kept for an upload as long as something comes. It can be resumed for days, if there is room then.
ACTIVE_SECONDS = 60.0
PARTIAL, FINAL = "partial", "final;"
NAME = "[0-9a-f]{32}"


@dataclass(frozen=True, slots=True)
class Upload:
    """A resumable upload: ``length`` bytes are to come to ``path``, from ``client``, in the name of ``user``.

    The length is None as long as the client does not know it. ``metadata`` and ``concat`` are what the client said of
    it: the latter that it is a part of another upload, or of which parts it is to be made. What is in the file from
    byte ``doubted`` on does not count: its checksum is not known to be right.
    """

    path: Path
    length: int | None = field(compare=False)
    user: str = field(compare=False)
    client: str = field(compare=False)
    metadata: str = field(default="", compare=False)
    concat: str = field(default="", compare=False)
    doubted: int | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Its name in URLs."""
        return self.path.stem.removeprefix(SpoolKind.RESUMABLE.prefix)

    @property
    def is_partial(self) -> bool:
        """Whether it is a part of another upload, and becomes no job itself."""
        return self.concat == PARTIAL

    @property
    def parts(self) -> list[str]:
        """The names of the uploads that it is made of; none where the client sends its bytes."""
        return part_names(self.concat)

    def offset(self) -> int | None:
        """How many bytes have arrived; None where the file is gone, since a job has used it, or another upload."""
        size = self._size()
        # Behind the size: what is in doubt is recorded before it is written.
        recorded = _read(record_of(self.path))
        if size is None or recorded is None or recorded.doubted is None:
            return size
        return min(size, recorded.doubted)

    def is_whole(self) -> bool:
        """Whether all of it has arrived."""
        return self._size() in (None, self.length) and self.offset() in (None, self.length)

    def has_ended(self) -> bool:
        """Whether it is a job, or is to become one now."""
        return self.is_whole() and not self.is_partial

    def expiry(self) -> float | None:
        """When it is removed, unless something comes before; None where nothing is left of it."""
        return expiry_of(self.path)

    def _size(self) -> int | None:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"cannot look at {self.path}: {error.strerror}") from error

    def left(self) -> int:
        """How many bytes are known to come of an upload under way; none of one of which nothing comes any more."""
        try:
            found = self.path.stat()
        except OSError:
            return 0
        is_active = time.time() - found.st_mtime < ACTIVE_SECONDS
        return max(0, self.length - found.st_size) if is_active and self.length is not None else 0


def part_names(concat: str) -> list[str]:
    """The names of the parts that a client wants to be joined; an empty one for what is no upload's URL."""
    if not concat.startswith(FINAL):
        return []
    found = [re.search(f"(?:^|/)({NAME})/?$", url) for url in concat.removeprefix(FINAL).split()]
    return [match[1] if match else "" for match in found]


class Uploads:
    """The uploads in the folder ``spool``. Each method blocks, and may be called by several threads at once."""

    def __init__(self, spool: Path, room: Room, reserve: int) -> None:
        self._spool, self._room, self._reserve = spool, room, reserve
        self._lock = threading.Lock()
        self._open: set[Upload] = set()
        for path in spool.glob(f"{SpoolKind.RESUMABLE.prefix}*.tar"):
            if (upload := _read(record_of(path))) is not None:
                self.keep(upload)

    def create(self, length: int | None, user: str, client: str, metadata: str = "", concat: str = "") -> Upload:
        """Create an upload, durably. Raises Refusal and NoRoom."""
        parts = part_names(concat)
        path = self.path_of(final_name(parts) if parts else secrets.token_hex(16))
        upload = Upload(path, length, user, client, metadata, concat)
        with self._new_file(path) as file:
            with self._lock:
                self._require_place(client)
                self._room.claim(upload, length or 0)
                self._open.add(upload)
            try:
                _write(upload)
            except BaseException:
                self.close(upload)
                raise
            file.keep()
        return upload

    def find(self, name: str) -> Upload | None:
        """The upload of this name; it may be a job by now."""
        return _read(record_of(self.path_of(name))) if re.fullmatch(NAME, name) else None

    def declare(self, upload: Upload, length: int) -> Upload:
        """The upload, whose length is known by now: durably so. Raises NoRoom."""
        known = replace(upload, length=length)
        self.close(upload)
        try:
            self._room.claim(known, length - (upload.offset() or 0))
            _write(known)
        except BaseException:
            self.close(known)
            self.keep(upload)
            raise
        self.keep(known)
        return known

    def doubt(self, upload: Upload, offset: int) -> None:
        """What is written from ``offset`` on does not count until it is `trust`-ed: durably so."""
        _write(replace(upload, doubted=offset))

    def trust(self, upload: Upload) -> None:
        """All that is in the file counts, which is durable: nothing of it is in doubt."""
        _write(replace(upload, doubted=None))

    def settle(self, upload: Upload, file: SpoolFile) -> Upload:
        """The upload when nothing of it is in doubt. What is was left by a request that was killed, and is removed."""
        if upload.doubted is None:
            return upload
        file.cut(upload.doubted)
        self.trust(upload)
        return replace(upload, doubted=None)

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
        # In this order: a kill in between leaves a file without a record, which is no upload any more.
        record_of(upload.path).unlink(missing_ok=True)
        upload.path.unlink(missing_ok=True)
        self.close(upload)

    def keep_parts(self, final: Upload) -> None:
        """The parts of a final upload are not to expire while they are joined."""
        for name in final.parts:
            with suppress(FileNotFoundError):
                os.utime(record_of(self.path_of(name)))

    def remove_parts(self, final: Upload) -> None:
        """The final upload is a job: remove its parts, but not what answers who asks again how much arrived of them."""
        for name in final.parts:
            if (part := self.find(name)) is not None:
                part.path.unlink(missing_ok=True)
                self.close(part)

    def path_of(self, name: str) -> Path:
        """Where the file of an upload lies."""
        return SpoolKind.RESUMABLE.path(self._spool, f"{name}.tar")

    def _new_file(self, path: Path) -> SpoolFile:
        try:
            # Of a final upload, a server that was killed may have left the file without the record.
            return SpoolFile(path, self._reserve, new=not path.exists())
        except Locked as error:
            raise Refusal(423, str(error)) from error

    def _require_place(self, client: str) -> None:
        """Raise Refusal where too many are open, or too many of this client's."""
        for upload in [upload for upload in self._open if upload.has_ended()]:
            self._open.discard(upload)
            self._room.release(upload)
        of_client = sum(upload.client == client for upload in self._open)
        if of_client >= MAX_UPLOADS // 2 or len(self._open) >= MAX_UPLOADS:
            opened = counted(len(self._open), "upload is", "uploads are")
            raise Refusal(503, f"{opened} open: end one, or try again later", {"Retry-After": str(BUSY_SECONDS)})


def final_name(parts: Sequence[str]) -> str:
    """The name of the upload that is made of these parts. Like theirs, nobody else can guess it."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


def _write(upload: Upload) -> None:
    record = {name: value for name, value in asdict(upload).items() if name != "path"}
    try:
        with durable_write(record_of(upload.path), replace=True) as file:
            file.write(json.dumps(record).encode())
    except OSError as error:
        raise explained(error, f"cannot write into {upload.path.parent}", SourceError, upload.path.parent) from error


def _read(record: Path) -> Upload | None:
    """The upload of a record; None where there is no such record, or not a whole one."""
    try:
        found = json.loads(record.read_bytes())
        length = None if found["length"] is None else int(found["length"])
        client, metadata, concat = (str(found.get(name, "")) for name in ("client", "metadata", "concat"))
        doubted = None if found.get("doubted") is None else int(found["doubted"])
        return Upload(record.with_suffix(".tar"), length, str(found["user"]), client, metadata, concat, doubted)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise SourceError(f"cannot read {record}: {error.strerror}") from error

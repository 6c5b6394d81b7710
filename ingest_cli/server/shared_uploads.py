"""The spool that the servers of several hosts share: any of them takes any piece of any upload."""

import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from ..jobs.job import Job
from ..jobs.spool import Locked, SpoolKind
from ..jobs.store import JobStore
from ..spool.rows import Gone, Row
from ..spool.shared import SharedSpool, spans_of
from .admission import Room
from .authentication import Refusal
from .carts import Carts
from .incoming import Incoming
from .shared_carts import SharedCarts
from .shared_file import SharedFile
from .threads import Threads
from .uploads import NAME, Standing, Upload, final_name, part_names, require_place

# Who waits for an upload asks no more often.
ASK_SECONDS = 0.2


class SharedReceptions:
    """The shared spool, for what comes in one request."""

    def __init__(self, spool: SharedSpool) -> None:
        self._spool = spool

    def fresh(self, suffix: str, reserve: int = 0) -> Incoming:
        """A new upload. How much room there is nobody knows."""
        name, holder = f"{SpoolKind.RECEIVED.prefix}{secrets.token_hex(16)}{suffix}", self._spool.leases.holder
        row = self._spool.rows.add(name, None, "", "", "", "", holder)
        assert row is not None, "two uploads have the same name"
        return SharedFile(self._spool, row, new=True)

    def try_out(self, reserve: int) -> None:
        """Write an object, and into the database."""
        self._spool.try_out()

    def uploads(self, room: Room, reserve: int) -> "SharedUploads":
        """The uploads that lie in it."""
        return SharedUploads(self._spool)

    def carts(self, reserve: int) -> Carts:
        """The carts that the database keeps."""
        return SharedCarts(self._spool)

    def key(self, name: str) -> bytes:
        """The one that the database keeps."""
        return self._spool.rows.servers.key(name)

    def close(self) -> None:
        """Close the connections to the database."""
        self._spool.close()

    def free(self) -> int:
        """Any number of bytes."""
        return sys.maxsize

    def sweep(self, store: JobStore, *kinds: SpoolKind) -> None:
        """Remove the uploads of these kinds that were left."""
        for source in self._spool.expired(store, kinds):
            self._spool.remove_left(source)


class SharedUploads:
    """The resumable uploads of the shared spool."""

    def __init__(self, spool: SharedSpool) -> None:
        self._spool, self._rows = spool, spool.rows

    def create(self, length: int | None, user: str, client: str, metadata: str = "", concat: str = "") -> Upload:
        """Create an upload."""
        require_place(*self._rows.count_open(SpoolKind.RESUMABLE.prefix, client))
        parts = part_names(concat)
        name = final_name(parts) if parts else secrets.token_hex(16)
        row = self._rows.add(_stored(name), length, user, client, metadata, concat, None)
        if row is None:
            raise Refusal(423, "another request joins the same uploads, or has just done so")
        return self._upload(row)

    def find(self, name: str) -> Upload | None:
        """The upload of this name."""
        row = self._rows.find(_stored(name)) if re.fullmatch(NAME, name) else None
        return None if row is None else self._upload(row)

    def standing(self, upload: Upload) -> Standing:
        """What the database knows of it, and by its clock."""
        row = self._row(upload)
        offset = None if row is None or row.is_used else row.arrived
        return Standing(offset, offset in (None, upload.length), None if row is None else row.touched + _span(row))

    def expire(self, upload: Upload, store: JobStore) -> bool:
        """Remove what is left of it, unless its job needs it."""
        job = self.job_of(upload, store)
        if job is None or job.is_done:
            self._spool.remove_left(upload.source)
        return self._row(upload) is None

    def job_of(self, upload: Upload, store: JobStore) -> Job | None:
        """The job whose id is noted for it, if that was entered."""
        row = self._row(upload)
        jobs = [] if row is None or row.job_id is None else store.several([row.job_id])
        return jobs[0] if jobs else None

    def opening(self, upload: Upload) -> Callable[[], Incoming | None]:
        """What tries to become its holder."""
        return _Opening(self._spool, _stored(upload.name))

    def declare(self, upload: Upload, file: Incoming, length: int) -> Upload:
        """Note its length."""
        assert isinstance(file, SharedFile)
        file.declare(length)
        return replace(upload, length=length)

    def doubt(self, upload: Upload, file: Incoming) -> None:
        """Have the database know nothing of what comes."""
        assert isinstance(file, SharedFile)
        file.doubt()

    def trust(self, upload: Upload, file: Incoming) -> None:
        """Have the database know of what has come."""
        assert isinstance(file, SharedFile)
        file.trust()

    def settle(self, upload: Upload, file: Incoming) -> Upload:
        """Nothing that the database knows of is in doubt."""
        return upload

    def keep(self, upload: Upload) -> None:
        """Nobody knows how much room there is."""

    def close(self, upload: Upload) -> None:
        """Nobody knows how much room there is."""

    def remove(self, upload: Upload) -> None:
        """Remove it."""
        self._spool.remove(upload.source)

    def keep_parts(self, final: Upload) -> None:
        """Joining them takes no time."""

    async def join(self, final: Upload, file: Incoming, disk: Threads) -> None:
        """Have it consist of its parts' pieces."""
        assert isinstance(file, SharedFile)
        try:
            await disk.do(file.join, [_stored(name) for name in final.parts])
        except Gone as error:
            raise Refusal(410, str(error)) from error

    def remove_parts(self, final: Upload) -> None:
        """The parts have no pieces any more."""
        for name in final.parts:
            self._spool.forget(self._rows.use(_stored(name)))

    def _upload(self, row: Row) -> Upload:
        name = row.name.removeprefix(SpoolKind.RESUMABLE.prefix).removesuffix(".tar")
        source = self._spool.source_of(row.name)
        said = (row.length, row.user, row.client, row.metadata, row.concat)
        return Upload(name, source, *said, is_left=row.age >= _span(row))

    def _row(self, upload: Upload) -> Row | None:
        return self._rows.find(_stored(upload.name))


class _Opening:
    """Tries to become the holder of an upload, for as long as it is called. It sees by its own clock whether the one
    that it has is alive."""

    def __init__(self, spool: SharedSpool, name: str) -> None:
        self._spool, self._name = spool, name
        self._beat, self._since, self._asked = (0, 0), 0.0, 0.0

    def __call__(self) -> Incoming | None:
        now = time.monotonic()
        if now - self._asked >= ASK_SECONDS:
            self._asked = now
            dead = self._beat if self._since and now - self._since >= self._spool.stale else None
            row = self._spool.rows.lease(self._name, self._spool.leases.holder, dead)
            if row is not None:
                return SharedFile(self._spool, row, new=False)
            row = self._spool.rows.find(self._name)
            if row is None or row.is_used:
                return None
            if not self._since or row.beat != self._beat:
                self._beat, self._since = row.beat, now
        raise Locked(f"another request is writing {self._name}, or has just removed it")


def _stored(name: str) -> str:
    """By what name the spool knows an upload that has this one in URLs."""
    return f"{SpoolKind.RESUMABLE.prefix}{name}.tar"


def _span(row: Row) -> float:
    """How long it is kept after something came, in seconds."""
    if_empty, span = spans_of(SpoolKind.RESUMABLE)
    return if_empty if row.arrived == 0 and not row.is_used else span

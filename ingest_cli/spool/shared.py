"""The shared spool: writes uploads as pieces, gets them back, and removes what nobody needs.

A piece lies in an object of its own, which is written before the database knows of it. S3's multipart uploads are not
used: their parts have 5 MiB at least, and only the process that began one could go on with it through obstore. So an
upload may come in pieces of any length through any number of servers, and parts are joined without being copied.

The name of an object says for which upload it was written, and under which fence of it. Where no piece is known to lie
in it, and another lease has begun since, none ever will: it can be removed, however long its writer was frozen.
"""

import hashlib
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, cast

from rich.filesize import decimal

from ..bundle.reader import Fetched
from ..disk import RESERVE_BYTES, close_in_vain, explained, free_bytes
from ..errors import ArchiveError, IngestError, ResourceUnavailable, SourceError
from ..in_threads import done_in_threads
from ..jobs.postgres_connections import pool_of
from ..jobs.process import host_name
from ..jobs.spool import EMPTY_UNTOUCHED, SpoolKind
from ..jobs.store import JobStore
from ..meter import NOBODY, Meter
from ..services.s3.bucket import Bucket
from ..settings import PostgresUrl, Settings
from .rows import Piece, Row, Spans, UploadRows, in_batches

# An upload in one request was left by a server that was killed, if nobody has said for so long that it is written.
RECEIVED_UNTOUCHED = 3600.0
# How many pieces are got at once.
FETCHED_AT_ONCE = 4
MOST_CONNECTIONS = 16
# How many pieces a process writes at once, and how many bytes of them wait in its memory: who has more waits.
WRITERS, WRITING_BYTES = 8, 64 << 20
BEAT_SECONDS, STALE_SECONDS = 1.0, 5.0
# What comes over HTTP.
KINDS = (SpoolKind.RECEIVED, SpoolKind.RESUMABLE)


class SharedSpool:
    """The spool in the ``bucket``, of which ``rows`` tell. Its methods may be called by several threads at once.

    Who holds an upload says so every ``beat`` seconds. It has died, or is frozen or cut off, if it was seen not to for
    ``stale`` seconds. So many ``writers`` write pieces.
    """

    def __init__(
        self,
        rows: UploadRows,
        bucket: Bucket,
        *,
        beat: float = BEAT_SECONDS,
        stale: float = STALE_SECONDS,
        writers: int = WRITERS,
    ) -> None:
        self.rows, self.bucket, self.stale = rows, bucket, stale
        self.leases = Leases(rows, beat)
        self._writers = Writers(writers)

    @classmethod
    def of(cls, settings: Settings) -> "SharedSpool":
        """The site's."""
        assert settings.shared_spool is not None, "the site's spool is a folder"
        assert settings.s3 is not None
        assert isinstance(settings.database, PostgresUrl)
        return cls(UploadRows(pool_of(settings.database)), Bucket(settings.shared_spool, settings.s3, MOST_CONNECTIONS))

    def close(self) -> None:
        """Close the connections."""
        self.leases.close()
        self.rows.close()
        self.bucket.close()

    def source_of(self, name: str) -> str:
        """What a job knows an upload by."""
        return f"{self.bucket.place}/{name}"

    def name_of(self, source: str) -> str:
        """The upload that a job knows as ``source``. Raises ResourceUnavailable where it lies elsewhere."""
        if not source.startswith(f"{self.bucket.place}/"):
            raise ResourceUnavailable(f"{source} is not in the shared spool of this host, {self.bucket.place}")
        return source.rpartition("/")[2]

    def begin_writing(self, row: Row, start: int, parts: Sequence[bytes | bytearray | memoryview]) -> "Future[Piece]":
        """Have a thread write a piece of an upload that is leased, as soon as there is memory for it. The database does
        not know of it yet."""
        return self._writers.begin(partial(self._write, row, start, parts), sum(map(len, parts)))

    def _write(self, row: Row, start: int, parts: Sequence[bytes | bytearray | memoryview]) -> Piece:
        data = b"".join(parts)
        key = _key_for(row.name, row.fence)
        etag = self.bucket.put(key, data, {}, "write an upload", create=False)
        assert etag is not None
        return Piece(start, len(data), key, etag)

    def try_out(self) -> None:
        """Write, and remove, what an upload would have written, without waiting for those that are under way.

        An object that is left by a kill is an orphan.
        """
        name = f"{SpoolKind.RECEIVED.prefix}{secrets.token_hex(16)}.health"
        key = _key_for(name, 1)
        self.rows.try_out(name)
        self.bucket.put(key, b"ingest", {}, "write an upload", create=False)
        self.forget([key])

    def read(self, piece: Piece) -> memoryview:
        """The bytes of a piece."""
        try:
            data = self.bucket.read(piece.key, piece.etag, "read an upload")
        except ArchiveError as error:  # what is wrong is not wrong with the upload
            raise ResourceUnavailable(str(error)) from error
        if data is None or len(data) != piece.length:
            raise ResourceUnavailable(f"{self.bucket.location(piece.key)} is not there, or is not what was written")
        return data

    def fetch(self, source: str, scratch: Path, require: Callable[[], None], observe: Callable[[int], None]) -> Fetched:
        """The bytes of an upload, in a nameless file in the folder ``scratch``.

        ``require`` is called all the time, and ``observe`` is told the length of each piece; both may raise to stop.
        Raises SourceError where the upload is gone, ResourceUnavailable where the disk has too little room for it.
        """
        name = self.name_of(source)
        if not self.rows.there([name]):
            raise SourceError(f"{source} is not in the spool any more")
        pieces = self.rows.pieces(name)
        cannot = f"cannot get {source} into {scratch}"
        file = _scratch_file(scratch, sum(piece.length for piece in pieces), cannot)

        def put_down(piece: Piece, _: Meter) -> None:
            data = self.read(piece)
            while data:
                data = data[os.pwrite(file.fileno(), data, piece.start + piece.length - len(data)) :]

        try:
            for piece, _ in done_in_threads(put_down, pieces, lambda piece: piece.length, NOBODY, FETCHED_AT_ONCE):
                require()
                observe(piece.length)
        except BaseException as error:
            close_in_vain(file)
            if isinstance(error, OSError):
                raise explained(error, cannot, SourceError) from error
            raise
        return Fetched(file, fingerprint_of(pieces))

    def length_of(self, source: str) -> int | None:
        """How many bytes of an upload have arrived; None where it is gone."""
        row = self.rows.find(self.name_of(source))
        return None if row is None or row.is_used else row.arrived

    def fingerprint(self, source: str) -> str:
        """By what a run knows that an upload is the same still."""
        return fingerprint_of(self.rows.pieces(self.name_of(source)))

    def there(self, sources: Sequence[str]) -> list[str]:
        """Those of the uploads whose bytes are there."""
        ours = {source.rpartition("/")[2]: source for source in sources if source.startswith(f"{self.bucket.place}/")}
        return [ours[name] for name in self.rows.there(list(ours))]

    def remove_bytes(self, source: str) -> None:
        """Remove the bytes of an upload that its job needs no more. Of a resumable one it is known still that it was
        one, for whoever asks again."""
        name = self.name_of(source)
        if name.startswith(SpoolKind.RESUMABLE.prefix):
            self.forget(self.rows.use(name))
        else:
            self.remove(source)

    def remove(self, source: str) -> None:
        """Remove an upload."""
        self.forget(self.rows.remove(self.name_of(source)) or [])

    def forget(self, keys: list[str]) -> None:
        """Delete objects in which no piece lies any more. Where that fails, they are found as orphans later."""
        with suppress(IngestError):
            for batch in in_batches(keys):
                self.bucket.delete(batch, "delete an upload")

    def expired(self, store: JobStore, kinds: Iterable[SpoolKind] = KINDS) -> list[str]:
        """The sources of the uploads of these kinds that were left, and that no unfinished job needs."""
        rows = [row for kind in kinds for row in self.rows.untouched(kind.prefix, spans_of(kind))]
        jobs = {job.job_id: job for job in store.several([row.job_id for row in rows if row.job_id is not None])}
        left = [row for row in rows if row.is_used or row.job_id not in jobs or jobs[row.job_id].is_done]
        return [self.source_of(row.name) for row in left]

    def remove_left(self, source: str) -> None:
        """Remove an upload that was left, if that is so still."""
        name = self.name_of(source)
        kind = next(kind for kind in KINDS if name.startswith(kind.prefix))
        self.forget(self.rows.remove_untouched(name, spans_of(kind)) or [])

    def orphans(self) -> Iterator[list[str]]:
        """The keys of objects in which no piece lies, nor ever will, in batches."""
        for batch in in_batches(key for key, _ in self.bucket.keys("", "list uploads")):
            found = {key: written for key in batch if (written := _written_for(key)) is not None}
            if needless := self.rows.needless(found):
                yield needless


class Writers:
    """So many threads at most that write pieces, of which WRITING_BYTES wait. What hangs in one keeps no process from
    ending.

    Few: each of them keeps memory of its own for what it writes.
    """

    def __init__(self, count: int) -> None:
        self._left, self._lock = count, threading.Lock()
        self._bytes, self._has_room = 0, threading.Condition()
        self._calls: SimpleQueue[tuple[Future[Piece], Callable[[], Piece], int]] = SimpleQueue()

    def begin(self, write: Callable[[], Piece], length: int) -> "Future[Piece]":
        """Have a thread write a piece of so many bytes, once fewer wait."""
        future: Future[Piece] = Future()
        with self._has_room:
            self._has_room.wait_for(lambda: not self._bytes or self._bytes + length <= WRITING_BYTES)
            self._bytes += length
        self._calls.put((future, write, length))
        with self._lock:
            if self._left:
                self._left -= 1
                threading.Thread(target=self._run, name="spool writer", daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            future, write, length = self._calls.get()
            try:
                answer = partial(future.set_result, write())
            except BaseException as error:  # noqa: BLE001 - who waits for it is told
                answer = partial(future.set_exception, error)
            del write  # what comes next may be long in coming
            with self._has_room:
                self._bytes -= length
                self._has_room.notify_all()
            answer()
            del future, answer


class Leases:
    """The uploads that this process holds: as long as it does, it says every ``beat`` seconds that it lives."""

    def __init__(self, rows: UploadRows, beat: float) -> None:
        self._rows, self._seconds, self._held = rows, beat, dict[str, int]()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self.holder = f"{host_name()} {os.getpid()}"

    def add(self, row: Row) -> None:
        """This process holds an upload."""
        with self._lock:
            self._held[row.name] = row.fence
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="spool leases", daemon=True)
                self._thread.start()

    def discard(self, row: Row) -> None:
        """It does so no more."""
        with self._lock:
            if self._held.get(row.name) == row.fence:
                del self._held[row.name]

    @property
    def count(self) -> int:
        """How many it holds."""
        return len(self._held)

    def close(self) -> None:
        """Tell nobody any more."""
        self._closing.set()

    def _beat(self) -> None:
        while not self._closing.wait(self._seconds):
            with self._lock:
                held = dict(self._held)
            if held:
                with suppress(IngestError):
                    self._rows.beat(held)


def _key_for(name: str, fence: int) -> str:
    """The key of a new object of an upload."""
    return f"{name}/{fence}-{secrets.token_hex(16)}"


def _written_for(key: str) -> tuple[str, int] | None:
    """The upload and the fence that an object was written for; None where it is none of the spool's."""
    name, _, own = key.partition("/")
    fence = own.partition("-")[0]
    is_ours = name.startswith(tuple(kind.prefix for kind in KINDS)) and fence.isdigit()
    return (name, int(fence)) if is_ours else None


def spans_of(kind: SpoolKind) -> Spans:
    """For how many seconds an upload of a kind that was left was not touched: an empty one, and any other."""
    if kind is SpoolKind.RESUMABLE:
        return EMPTY_UNTOUCHED.total_seconds(), kind.untouched.total_seconds()
    return RECEIVED_UNTOUCHED, RECEIVED_UNTOUCHED


def _scratch_file(scratch: Path, length: int, cannot: str) -> BinaryIO:
    try:
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = free_bytes(scratch)
        if free < length + RESERVE_BYTES:
            raise ResourceUnavailable(f"{cannot}: {decimal(free)} free, {decimal(RESERVE_BYTES)} in reserve")
        return cast(BinaryIO, tempfile.TemporaryFile(dir=scratch))
    except OSError as error:
        raise explained(error, cannot, SourceError) from error


def fingerprint_of(pieces: list[Piece]) -> str:
    """The fingerprint of an upload: objects that have the same tags are the same ones, unchanged."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(f"{piece.start} {piece.length} {piece.key} {piece.etag}\n".encode())
    return digest.hexdigest()[:32]

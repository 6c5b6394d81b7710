"""An upload of the shared spool, as one request writes it: made pieces, which are written while more comes."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Self

from ..errors import IngestError
from ..jobs.spool import Locked
from ..spool.rows import Piece, Row
from ..spool.shared import SharedSpool

# What has come of an upload waits in memory until it makes a piece: of many at once each has smaller ones.
SMALLEST_PIECE, LARGEST_PIECE, PIECES_BYTES = 512 << 10, 8 << 20, 64 << 20
# So many of an upload are written while more comes.
WRITTEN_AT_ONCE = 2
# Pieces that clients have sent smaller than this are made larger ones as more come, of up to so many at a time.
SMALL_PIECE, SMALL_PIECES = 1 << 20, 24


class SharedFile:
    """What a request writes into an upload of the shared spool, which it holds.

    What is written counts once it is in objects and the database knows of it: that is as soon as it makes a piece, and
    when it is synced; what is in doubt, when it is trusted.
    """

    def __init__(self, spool: SharedSpool, row: Row, *, new: bool) -> None:
        self._spool, self._row, self._is_new, self._kept = spool, row, new, not new
        self._recorded = self._length = row.arrived
        # What has come, then what is being written, and what lies in objects that the database does not know of.
        self._waiting, self._waiting_bytes = list[bytes | bytearray | memoryview](), 0
        self._writing, self._pending = deque[Future[Piece]](), list[Piece]()
        self._is_doubted = self._has_failed = self._is_closed = self._has_news = False
        self._trouble: Exception | None = None
        # A request that is cancelled leaves while a thread of its may still write, as those do that write pieces.
        self._lock = threading.RLock()
        spool.leases.add(row)

    @property
    def source(self) -> str:
        """The upload, as a URL."""
        return self._spool.source_of(self._row.name)

    @property
    def length(self) -> int:
        """How many bytes have come."""
        return self._length

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.leases.discard(self._row)
        self._is_closed = True
        if self._kept and self._is_new:
            return  # nobody else wants it, and this may be the thread that answers all
        with self._lock, suppress(IngestError):
            self._drop_pending()
            if not self._kept:
                self._spool.forget(self._spool.rows.remove(self._row.name, fence=self._row.fence) or [])
            else:
                self._spool.rows.release(self._row.name, self._row.fence)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``, which nobody changes any more."""
        with self._alone():
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._length += len(data)
            most = max(SMALLEST_PIECE, min(LARGEST_PIECE, PIECES_BYTES // max(1, self._spool.leases.count)))
            self._require_sound()
            if self._waiting_bytes >= most:
                with self._failing():
                    self._begin_piece()
                    while len(self._writing) > WRITTEN_AT_ONCE:
                        self._end_piece()

    def cut(self, length: int) -> None:
        """Forget what is not known to the database: that is what was written since it is in doubt."""
        with self._alone():
            assert length == self._recorded
            self._waiting.clear()
            self._waiting_bytes, self._length = 0, self._recorded
            self._drop_pending()

    def sync(self) -> None:
        """Have all lie in objects."""
        with self._alone():
            self._require_sound()
            if self._has_failed:
                return
            with self._failing():
                if self._waiting_bytes:
                    self._begin_piece()
                while self._writing:
                    self._end_piece()
                self._record()

    def doubt(self) -> None:
        """The database is to know nothing of what is written from now on."""
        self._is_doubted = True

    def trust(self) -> None:
        """The database is to know of all that was written."""
        with self._alone(), self._failing():
            self._is_doubted = False
            self._record()

    def join(self, parts: Sequence[str]) -> None:
        """Have the upload consist of what these others do. Raises Gone."""
        self._spool.rows.join(self._row.name, self._row.fence, parts)

    def declare(self, length: int) -> None:
        """Note how long it is to be."""
        self._spool.rows.declare(self._row.name, self._row.fence, length)

    @property
    def is_kept(self) -> bool:
        """Whether it stays at the end of the block."""
        return self._kept

    def keep(self) -> None:
        """Leave it at the end of the block."""
        self._kept = True

    def drop(self) -> None:
        """Remove it at the end of the block after all."""
        self._kept = False

    def fingerprint(self) -> str:
        """That of its pieces."""
        return self._spool.fingerprint(self.source)

    def entered_as(self, job_id: int) -> int:
        """The id that was noted first: a server that was killed since, or frozen, may have entered the job."""
        return self._spool.rows.enter(self._row.name, self._row.fence, job_id)

    def _begin_piece(self) -> None:
        """Have what waits be written by another thread, while more comes."""
        start, parts = self._length - self._waiting_bytes, self._waiting
        for earlier in reversed(self._small_pieces(self._waiting_bytes)):
            if earlier.length > self._length - start:
                break
            start, parts = earlier.start, [self._spool.read(earlier), *parts]
        writing = self._spool.begin_writing(self._row, start, parts)
        self._waiting, self._waiting_bytes = [], 0
        self._writing.append(writing)
        writing.add_done_callback(self._written)

    def _end_piece(self) -> None:
        self._pending.append(self._writing.popleft().result())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Have no other thread at the upload."""
        try:
            with self._lock:
                yield
        finally:
            self._note_written()

    def _written(self, _: "Future[Piece]") -> None:
        """A thread has written a piece, be it that nothing more has come since: the database is to know."""
        self._has_news = True
        self._note_written()

    def _note_written(self) -> None:
        """Have the database know of what was written. Who is at the upload meanwhile does so at the end.

        Nobody is waited for: that one may itself wait for a thread that writes, of which there are few.
        """
        while self._has_news and self._lock.acquire(blocking=False):
            try:
                self._has_news = False
                self._record_written()
            finally:
                self._lock.release()

    def _record_written(self) -> None:
        if self._has_failed or self._is_closed:
            return
        try:
            with self._failing():
                while self._writing and self._writing[0].done():
                    self._end_piece()
                self._record()
        except Exception as error:  # noqa: BLE001 - who writes next is told
            self._trouble = error

    def _require_sound(self) -> None:
        """Raise what a thread has met since."""
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def _small_pieces(self, length: int) -> list[Piece]:
        """The last pieces, where they and another one of this length are small: each is written anew only when as much
        has come once more, so few stay, and none is written often."""
        if length >= SMALL_PIECE or self._writing or self._pending or not self._recorded:
            return []
        small, left = list[Piece](), SMALL_PIECE - length
        for piece in reversed(self._spool.rows.pieces(self._row.name, SMALL_PIECES)):
            left -= piece.length
            if left < 0:
                break
            small.insert(0, piece)
        return small

    def _record(self) -> None:
        """Have the database know of the pieces that lie in objects, unless they are in doubt."""
        if self._is_doubted or not self._pending:
            return
        try:
            replaced = self._spool.rows.record(self._row.name, self._row.fence, self._recorded, self._pending)
        except Locked:
            self._drop_pending()
            raise
        self._recorded = self._pending[-1].start + self._pending[-1].length
        self._pending.clear()
        self._spool.forget(replaced)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """After an error nobody can tell what the database knows: nothing more is written."""
        try:
            yield
        except BaseException:
            self._has_failed = True
            raise

    def _drop_pending(self) -> None:
        """Delete what the database knows nothing of; where that is not certain, it is left to be found as an orphan."""
        while self._writing:
            with suppress(IngestError):
                self._end_piece()
        if not self._has_failed or self._is_doubted:
            self._spool.forget([piece.key for piece in self._pending])
        self._pending.clear()

"""Sends a bundle by tus: resumes wherever the server says that it is, until it has made a job of it."""

import time
from contextlib import suppress

from ..errors import IngestError, SourceChanged, Unavailable, UploadRefused
from .observer import UploadObserver
from .retries import Retries
from .server import IngestServer, Progress, UploadGone
from .source import Source
from .unfinished import Unfinished

# A piece is sent in one request.
SMALLEST_PIECE, LARGEST_PIECE = 256 << 10, 64 << 20
# A piece with a checksum counts only when all of it has arrived: where one takes long, the next is smaller.
LONG_SECONDS, SHORT_SECONDS = 10.0, 2.5


class PieceSize:
    """How long the next piece is best: as long as can be, if what arrived of one ``counts`` where it is cut off."""

    def __init__(self, *, counts: bool) -> None:
        self._is_fixed = counts
        self.bytes = LARGEST_PIECE if counts else SMALLEST_PIECE

    def took(self, seconds: float) -> None:
        """A piece of this size took so long."""
        if seconds < SHORT_SECONDS:
            self.bytes = min(LARGEST_PIECE, 2 * self.bytes)
        elif seconds > LONG_SECONDS:
            self.failed()

    def failed(self) -> None:
        """A piece of this size was cut off."""
        if not self._is_fixed:
            self.bytes = max(SMALLEST_PIECE, self.bytes // 2)


class TusUpload:
    """The upload of ``source``, of which ``unfinished`` knows how far it is."""

    def __init__(
        self,
        server: IngestServer,
        source: Source,
        unfinished: Unfinished,
        retries: Retries,
        observer: UploadObserver,
        checksum: str | None,
    ) -> None:
        self._server, self._source, self._unfinished = server, source, unfinished
        self._retries, self._observer, self._checksum = retries, observer, checksum
        self._size = PieceSize(counts=checksum is None)

    def send(self) -> int:
        """Send what the server does not have yet; the id of its job.

        Raises UploadRefused, SourceChanged, and Unavailable where something has failed for too long.
        """
        try:
            while True:
                try:
                    return self._send()
                except UploadGone as error:
                    self._unfinished.renew()
                    self._retries.wait(error)
                except Unavailable as error:
                    self._retries.wait(error, getattr(error, "at_least", 0.0))
        except (UploadRefused, SourceChanged):
            self._give_up()
            raise

    def _send(self) -> int:
        name = self._name()
        progress = self._server.progress(name)
        self._observer.sending(self._source.length, progress.offset)
        while progress.job_id is None and progress.offset < self._source.length:
            progress = self._append(name, progress)
            self._retries.worked()
        if progress.job_id is None:
            raise UploadRefused("the server has all of the bundle, but makes no job of it: is it an ingest server?")
        return progress.job_id

    def _append(self, name: str, progress: Progress) -> Progress:
        length = min(self._size.bytes, self._source.length - progress.offset)
        part, begun = self._source.part(progress.offset, length), time.monotonic()
        try:
            progress = self._server.append(name, progress.offset, part, self._checksum)
        except Unavailable:
            self._size.failed()
            raise
        self._size.took(time.monotonic() - begun)
        return progress

    def _name(self) -> str:
        if self._unfinished.name is not None:
            return self._unfinished.name
        name = self._server.create(self._source.length, self._source.name)
        self._unfinished.named(name)
        return name

    def _give_up(self) -> None:
        """Have the server drop what it has of a bundle that will never be whole."""
        if self._unfinished.name is not None:
            with suppress(IngestError):
                self._server.remove(self._unfinished.name)

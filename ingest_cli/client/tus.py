"""Sends a bundle by tus: resumes wherever the server says that it is, until it has made a job of it."""

from contextlib import suppress

from ..errors import IngestError, SourceChanged, Unavailable, UploadRefused
from .observer import UploadObserver
from .retries import Retries
from .server import IngestServer, Progress, UploadGone
from .source import Source
from .unfinished import Unfinished

# A piece is sent in one request, and with a checksum read twice: the second time from memory.
PIECE_BYTES = 64 << 20


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
        length = min(PIECE_BYTES, self._source.length - progress.offset)
        part = self._source.part(progress.offset, length)
        return self._server.append(name, progress.offset, part, self._checksum)

    def _name(self) -> str:
        if self._unfinished.name is not None:
            return self._unfinished.name
        name = self._server.create(self._source.length)
        self._unfinished.named(name)
        return name

    def _give_up(self) -> None:
        """Have the server drop what it has of a bundle that will never be whole."""
        if self._unfinished.name is not None:
            with suppress(IngestError):
                self._server.remove(self._unfinished.name)

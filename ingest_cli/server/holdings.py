"""What a site has stored, for downloads: asked for by many, kept for a moment, opened when it is first needed."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ..jobs.store import open_store
from ..retrieval.ahead import Ahead
from ..retrieval.content import read_content
from ..retrieval.layout import Pieces
from ..retrieval.stored import Stored
from ..services import factory
from ..services.base import Archive, Catalog, StoredFile
from ..settings import Settings

# A client that comes back for the next range, or for the next file, does not have it all looked up again.
KEPT_SECONDS = 60.0
KEPT_FILES = 200_000


class Holdings:
    """The catalogue and the archive. Each method blocks, and may be called by several threads at once; they raise what
    the services do. ``reserve`` bytes stay free on the disk of the ``spool`` folder."""

    def __init__(self, settings: Settings, reserve: int) -> None:
        self.spool = settings.spool
        self._settings, self._ahead = settings, Ahead(settings.spool, reserve)
        self._kept: OrderedDict[int, tuple[float, Stored]] = OrderedDict()
        self._archive: Archive | None = None
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def stored(self, job_id: int) -> Stored:
        """What is recorded of a job. Raises JobNotRecorded."""
        # One at a time, since that of a large job takes memory; and who comes second finds it.
        with self._loading:
            if (kept := self._kept.get(job_id)) is not None and time.monotonic() - kept[0] < KEPT_SECONDS:
                return kept[1]
            with self._catalog() as catalog:
                stored = Stored(catalog, job_id)
            self._keep(job_id, stored)
            return stored

    def find_files(self, file_ids: list[int]) -> list[tuple[int, StoredFile] | None]:
        """The files of these ids, each after the job that it is recorded of."""
        with self._catalog() as catalog:
            return [catalog.find_file(file_id) for file_id in file_ids]

    def read(self, file: StoredFile, start: int, stop: int) -> Pieces:
        """The bytes of a file from ``start`` on, up to ``stop``; see `read_content`."""
        yield from read_content(self.archive, file, start, stop, ahead=self._ahead)

    @property
    def archive(self) -> Archive:
        """The site's archive."""
        with self._lock:
            if self._archive is None:
                self._archive = factory.archive(self._settings, _Memory(self._settings))
            return self._archive

    def close(self) -> None:
        """Close the connections."""
        if self._archive is not None:
            self._archive.close()

    @contextmanager
    def _catalog(self) -> Iterator[Catalog]:
        with closing(factory.catalog(self._settings, new=False)) as catalog:
            yield catalog

    def _keep(self, job_id: int, stored: Stored) -> None:
        self._kept[job_id] = (time.monotonic(), stored)
        self._kept.move_to_end(job_id)
        while len(self._kept) > 1 and sum(len(kept.named) for _, kept in self._kept.values()) > KEPT_FILES:
            self._kept.popitem(last=False)


class _Memory:
    """What the site remembers of its archive, asked of the job store until it knows it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def archive(self) -> str | None:
        """The identity of the archive."""
        with open_store(self._settings, new=False) as store:
            return store.archive()

    def note_archive(self, identity: str) -> None:
        """Nothing is stored here."""

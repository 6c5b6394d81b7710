"""Reads ahead of those who are slow: what an archive gives goes into a file without a name, as fast as it comes.

An archive that takes only so many requests at once must not wait for a client on a slow line.
"""

import os
import tempfile
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..bundle.content import CHUNK_BYTES
from ..disk import explained, free_bytes
from ..errors import SourceError
from ..jobs.spool import NoRoom
from .layout import Pieces


@dataclass(frozen=True, slots=True)
class Ahead:
    """Reads ahead into the spool folder ``spool``, on whose disk ``reserve`` bytes stay free."""

    spool: Path
    reserve: int

    def read(self, pieces: Pieces) -> Pieces:
        """The same bytes. Raises what ``pieces`` does, and NoRoom."""
        try:
            self.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = tempfile.TemporaryFile(dir=self.spool, buffering=0)  # noqa: SIM115 - the copy closes it
            descriptor = os.dup(file.fileno())
        except OSError as error:
            raise explained(error, f"cannot write into {self.spool}", SourceError, self.spool) from error
        copy, position = _Copy(self, pieces, file), 0
        try:
            while (arrived := copy.beyond(position)) > position:
                piece = os.pread(descriptor, min(CHUNK_BYTES, arrived - position), position)
                position += len(piece)
                yield piece
        finally:
            copy.is_wanted = False
            os.close(descriptor)

    def require_room(self, length: int) -> None:
        """Raise NoRoom where ``length`` more bytes are too many."""
        if free_bytes(self.spool) - length < self.reserve:
            raise NoRoom(f"no room in {self.spool} to read ahead of a slow client")


class _Copy:
    """A thread that writes ``pieces`` to ``file`` for as long as it ``is_wanted``. It may hang in an archive that does
    not answer; nobody waits for it then."""

    def __init__(self, ahead: Ahead, pieces: Pieces, file: IO[bytes]) -> None:
        self.is_wanted = True
        self._ahead, self._pieces, self._file = ahead, pieces, file
        self._arrived, self._has_ended = 0, False
        self._error: BaseException | None = None
        self._news = threading.Condition()
        threading.Thread(target=self._run, name="read ahead", daemon=True).start()

    def beyond(self, position: int) -> int:
        """How many bytes have arrived, once it is more than ``position``, or all. Raises what ended the copy."""
        with self._news:
            self._news.wait_for(lambda: self._arrived > position or self._has_ended)
            if self._arrived <= position and self._error is not None:
                raise self._error
            return self._arrived

    def _run(self) -> None:
        try:
            with self._file, closing(self._pieces):
                for piece in self._pieces:
                    if not self.is_wanted:
                        break
                    self._append(piece)
        except OSError as error:
            self._error = explained(error, f"cannot write into {self._ahead.spool}", SourceError, self._ahead.spool)
        except BaseException as error:  # noqa: BLE001 - who reads is told
            self._error = error
        finally:
            with self._news:
                self._has_ended = True
                self._news.notify_all()

    def _append(self, piece: bytes) -> None:
        self._ahead.require_room(len(piece))
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]
        with self._news:
            self._arrived += len(piece)
            self._news.notify_all()

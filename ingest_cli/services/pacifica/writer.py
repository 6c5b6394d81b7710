"""How one run of a job changes a Pacifica site's archive."""

import errno
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ...bundle.content import CHUNK_BYTES, Content
from ...copying import move_to
from ...disk import opened
from ...errors import ArchiveError, RollbackFailed, ServiceUnavailable, SourceChanged
from ...text import counted
from ..base import require_within
from .holdings import Holdings
from .http import BUSY_STATUSES, JSON, TRIES, Answer, HttpService, NoAnswer

# The archive answers 201 with the length of the request, whatever it stored. Unless all are to be confirmed, its stored
# sizes are asked for: of every file this large, of some of the smaller ones, and of the last one before each
# checkpoint, where a full disk shows.
CONFIRM_FROM_BYTES = 1 << 20
# It may hash, copy or sync a file before it answers, or a proxy before it may have to hand it on: at so many bytes a
# second, which a slow disk does.
WORK_BYTES = 10 << 20


class PacificaWriter:
    """What one run changes the archive interface by.

    The archive interface knows no fences: a request that is on its way when a run is frozen is carried out when it
    thaws. What can be done here is to ask, by ``content.observe`` and ``require``, whether the job is still this run's
    before anything is sent, deleted or moved back, and to send nothing that was not asked for within the ids.

    Of ``confirm_every`` small files the stored size of one is asked for.
    """

    def __init__(
        self,
        service: HttpService,
        holdings: Holdings,
        ids: range,
        *,
        resumed: bool,
        require: Callable[[], None],
        remote_sources: bool,
        confirm_every: int,
    ) -> None:
        self.resent = 0
        self._service, self._holdings, self._ids = service, holdings, ids
        self._resumed, self._remote_sources, self._confirm_every = resumed, remote_sources, confirm_every
        self._require = require
        self._small = itertools.count(1)
        self._unconfirmed: tuple[int, int] | None = None
        self._renamed_in: set[Path] = set()

    def put(self, file_id: int, content: Content) -> None:
        """Send the file. What an earlier attempt or run may have left is deleted first: an archive that does not run
        as root cannot overwrite its read-only files.

        What a failed attempt leaves stays for the job to be rolled back. It is never all of a file whose bytes are not
        those that were recorded: the last of them are sent once all are known to be right.
        """
        require_within(self._ids, file_id)
        require_lease = partial(content.observe, 0)
        whole = [b"".join(content.chunks())] if content.size <= CHUNK_BYTES else None
        work = content.size / WORK_BYTES
        trouble = ""
        for attempt in range(TRIES):
            if attempt:
                self._service.back_off(attempt - 1, trouble)
            try:
                if attempt or self._resumed:
                    self._service.send("DELETE", f"/{file_id}", require=require_lease)
                body = whole if whole is not None else _last_held_back(content.chunks())
                answer = self._service.send_file(f"/{file_id}", body, content.size, work, require_lease)
            except NoAnswer as error:
                trouble = str(error)
                if self._service.hangs:
                    break
                continue
            if answer.status == 201 and _total_bytes(answer) == content.size:
                self._confirm_some(file_id, content.size)
                return
            trouble = answer.message
            if answer.status == 201:
                trouble += f", but with total_bytes {_total_bytes(answer)} instead of {content.size}"
            elif answer.is_refusal:
                raise ArchiveError(f"the archive at {self._service.url} refuses {content.name!r}: {trouble}")
            elif answer.status < 500 and answer.status not in BUSY_STATUSES:
                break
            self.resent += 1
        raise ServiceUnavailable(f"the archive at {self._service.url} does not store {content.name!r}: {trouble}")

    def stage(self, file_id: int, content: Content) -> None:
        """The archive interface stores at once what it is sent."""
        raise NotImplementedError

    def place(self, file_id: int) -> None:
        """Nothing is staged."""
        raise NotImplementedError

    def move(self, file_id: int, source: Path, size: int, content: Content | None) -> None:
        """Have the archive move the file from ``source``, a path that it sees.

        That what was moved is what was hashed is proved where this machine sees the archive's file: it is the open
        source, unchanged, or its bytes are hashed once more. Elsewhere only sizes are compared, and whether the source
        was written to: a file that took its place in the last moment, or a copy by the archive that went wrong with the
        right length, is not found. Of a file that only the archive sees, the size is all there is.
        """
        require_within(self._ids, file_id)
        before = _written_to(content) if content is not None else None

        def require_lease() -> None:
            self._require()
            if content is not None:
                content.observe(0)

        answer = self._service.request(
            "PATCH",
            f"/{file_id}",
            body=json.dumps({"path": str(source)}).encode(),
            headers=JSON,
            # A proxy's 502, 503 or 504 may hide a move that was done, after which a second one finds no source.
            repeatable=False,
            busy={429},
            work=size / WORK_BYTES,
            require=require_lease,
        )
        trouble = f"the archive at {self._service.url} does not move {source}: {answer.message}"
        try:
            if answer.status == 500 or answer.is_refusal:
                raise ArchiveError(trouble)
            if answer.status != 200:
                raise ServiceUnavailable(trouble)
            if content is None:
                self._confirm(file_id, size)
            else:
                self._require_moved(file_id, source, content, before)
        except (ArchiveError, SourceChanged):
            # A move across file systems that failed halfway leaves a copy. What is there may be another run's.
            require_lease()
            self.move_back(file_id, source)
            raise

    def move_back(self, file_id: int, source: Path) -> None:
        """Rename the archive's file back to ``source``, which works where this machine sees the archive's own path.

        The archive interface cannot be asked to move a file back. It says by HEAD where a file lies. When that file has
        been renamed, and the archive then says that it holds none, it was the right one.
        """
        require_within(self._ids, file_id)
        size, place = self._holdings.locate(file_id)
        if size is None:
            return
        self._require()
        kept = f"the archive still holds file {file_id}, moved from {source}"
        if self._remote_sources:
            raise RollbackFailed(f"{kept}, a path on its own machine")
        try:
            if os.path.lexists(source):
                self._delete_copy(file_id, source)
                return
            if not place.is_absolute() or place.lstat().st_size != size:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            is_back = self._rename_back(file_id, source, place)
        except OSError as error:
            trouble = f"this machine cannot move it back from {place}: {error.strerror}"
            raise RollbackFailed(f"{kept}: {trouble}") from error
        if not is_back:
            raise RollbackFailed(f"{kept}: {place} is on another machine")
        self._renamed_in |= {source.parent, place.parent}

    def holds(self, file_id: int, hashed: os.stat_result) -> bool:
        """False: a file that the archive has moved has one name only."""
        return False

    def was_changed(self, file_id: int, hashed: os.stat_result) -> bool:
        """False: `move` itself has seen to that."""
        return False

    def release(self, file_id: int, source: Path, hashed: os.stat_result | None) -> None:
        """There is nothing to remove: the archive itself moved the file."""
        require_within(self._ids, file_id)

    def delete(self, file_id: int) -> None:
        """Delete the file; the archive answers 500 where there is none, so that its absence is what is checked."""
        require_within(self._ids, file_id)
        if self._unconfirmed is not None and self._unconfirmed[0] == file_id:
            self._unconfirmed = None
        answer = self._service.request("DELETE", f"/{file_id}", require=self._require)
        if answer.status != 200 and self._holdings.stat(file_id) is not None:
            trouble = f"the archive at {self._service.url} does not delete file {file_id}: {answer.message}"
            raise RollbackFailed(trouble)

    def flush(self) -> None:
        """Confirm the last file stored, and sync what this machine moved back.

        What the archive reports as stored is its own to keep durable.
        """
        if self._unconfirmed is not None:
            self._confirm(*self._unconfirmed)
            self._unconfirmed = None
        for folder in tuple(self._renamed_in):
            try:
                with opened(folder) as descriptor:
                    os.fsync(descriptor)
            except OSError as error:
                raise ArchiveError(f"cannot sync {folder}: {error.strerror}") from error
            self._renamed_in.remove(folder)

    def close(self) -> None:
        """The connections are the archive's."""

    def _confirm_some(self, file_id: int, size: int) -> None:
        if size < CONFIRM_FROM_BYTES and next(self._small) % self._confirm_every:
            self._unconfirmed = (file_id, size)
            return
        self._confirm(file_id, size)
        self._unconfirmed = None

    def _confirm(self, file_id: int, size: int) -> None:
        found = self._holdings.stat(file_id)
        if found != size:
            held = "does not hold" if found is None else f"holds {counted(found, 'byte')} of"
            raise ArchiveError(f"the archive {held} file {file_id}, of {counted(size, 'byte')}")

    def _rename_back(self, file_id: int, source: Path, place: Path) -> bool:
        """Rename ``place`` to ``source``. Where the archive does not miss it then, it is renamed back: False."""
        move_to(place, source)
        is_missed = False
        try:
            is_missed = self._holdings.stat(file_id) is None
        finally:
            if not is_missed:
                move_to(source, place)
        return is_missed

    def _delete_copy(self, file_id: int, source: Path) -> None:
        """Delete what the archive holds, unless ``source`` is another file now.

        A move across file systems that was cut off leaves the source, and a part of it in the archive.
        """
        another = RollbackFailed(f"the archive still holds file {file_id}: another file is at {source} now")
        if not stat.S_ISREG(source.lstat().st_mode):  # opening a FIFO would wait for who writes to it
            raise another
        with source.open("rb") as file:
            if not all(file.read(len(chunk)) == chunk for chunk in self._holdings.read(file_id)):
                raise another
        self.delete(file_id)

    def _require_moved(self, file_id: int, source: Path, content: Content, before: tuple[int, int] | None) -> None:
        size, place = self._holdings.locate(file_id)
        if size is None:
            raise ArchiveError(
                f"the archive at {self._service.url} does not hold file {file_id} after it moved {source}"
            )
        after = _written_to(content)
        if size != content.size or (before is not None and after is not None and before != after):
            raise SourceChanged(f"{source} was modified while the archive moved it")
        if self._holds_another(file_id, size, place, content):
            raise SourceChanged(f"the file that the archive moved from {source} is not the one that was hashed")

    def _holds_another(self, file_id: int, size: int, place: Path, content: Content) -> bool:
        """Whether this machine sees that the archive's file is neither the open source nor a copy with its hash."""
        if not place.is_absolute():
            return False
        try:
            found, source = place.lstat(), os.fstat(content.descriptor)
        except OSError:
            return False
        # Where the size is another one, that place is another machine's.
        if os.path.samestat(found, source) or found.st_size != size:
            return False
        digest = hashlib.new(content.hashtype, usedforsecurity=False)
        for chunk in self._holdings.read(file_id):
            content.observe(0)
            digest.update(chunk)
        return digest.hexdigest() != content.hashsum


def _total_bytes(answer: Answer) -> int | None:
    """The length that the archive says it was sent: on the released one the request's Content-Length, so that the right
    one proves nothing, but another one that the file is not stored."""
    content = answer.json()
    found = content.get("total_bytes") if isinstance(content, dict) else None
    return found if isinstance(found, int) else None


def _last_held_back(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks; the last of them only when the iterator has ended, and thereby said that all are right."""
    held = b""
    for chunk in chunks:
        if held:
            yield held
        held = chunk
    yield held


def _written_to(content: Content) -> tuple[int, int] | None:
    """What changes when the open file is written to; None where that cannot be seen, as when a share lets go of it."""
    try:
        found = os.fstat(content.descriptor)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns

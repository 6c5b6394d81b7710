"""The interfaces of the four services that the pipeline uses. Every implementation keeps these promises."""

import os
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ..bundle.content import Content
from ..bundle.metadata import Document
from ..errors import ArchiveError
from .query import FileQuery

IdMode = Literal["upload_job", "file"]


class Service(Protocol):
    """What all four services have in common."""

    def ping(self) -> str:
        """Check that the service works, and describe it in a line. Raises an IngestError where it cannot be used."""

    def close(self) -> None:
        """Close files and connections."""


class UniqueId(Service, Protocol):
    """Gives out unique numbers."""

    def reserve(self, mode: IdMode, count: int) -> int:
        """Reserve ``count`` consecutive ids of ``mode`` and return the first. Raises Unavailable."""

    def pass_over(self, mode: IdMode, last: int) -> None:
        """Give out no id of ``mode`` up to ``last`` from now on, where nobody else gives them out: others would have
        given out these."""


class Policy(Service, Protocol):
    """Decides who may ingest what."""

    def check(self, document: Document, user: str) -> None:
        """Raise PolicyRefused where ``user`` may not ingest ``document``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchivedFile:
    """A file that an archive has listed: under ``file_id``, or of a run in progress whose first id is ``run_of``.

    Neither is set where the archive does not know its name. ``location`` is for messages; where several files lie at
    one, each is listed with the ids of all that are ``beside`` it, its own too.
    """

    location: str
    file_id: int | None = None
    run_of: int | None = None
    beside: tuple[int, ...] = ()


class Archive(Service, Protocol):
    """Stores files by number. Errors are ArchiveError, or Unavailable where trying again can help.

    As many threads as ``transfers`` says may use a writer at once, each for its own files: small ones too where it
    ``waits`` for each, as for an answer from elsewhere. Where it ``is_exclusive``, a file that is being read keeps
    others waiting. Where it ``stages``, a writer takes files before they may be stored.
    """

    transfers: int
    is_exclusive: bool
    stages: bool

    @property
    def waits(self) -> bool:
        """Whether each file that is stored takes a way over a network."""

    def free_bytes(self) -> int | None:
        """How much more can be stored; None where the archive cannot tell."""

    def require_room(self, total_bytes: int) -> None:
        """Raise where ``total_bytes`` more can certainly not be stored."""

    def shares(self, descriptor: int) -> bool:
        """Whether the bytes of this open file can be stored without taking room, as far as they are
        `shareable_bytes`."""

    def require_free(self, ids: range) -> None:
        """Raise ArchiveError where a file is stored under one of ``ids``, as far as that is cheap to find out."""

    def writer(
        self, ids: range, fence: int, *, resumed: bool, require: Callable[[], None] | None = None
    ) -> "ArchiveWriter":
        """The writer with which one run of a job changes the archive; see `ArchiveWriter`.

        ``resumed`` says that an earlier run, with a smaller ``fence``, may have stored some of the files. ``require``
        raises where the run has lost its job; an archive that cannot refuse older fences itself calls it before it
        moves or deletes a file, when nothing needs to be waited for any more.
        """

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes; None where the archive holds no such file."""

    def read(self, file_id: int, start: int = 0) -> Generator[bytes, None, None]:
        """The stored bytes from ``start`` on, in pieces. Raises ArchiveError where the archive holds no such file."""

    def is_unchanged(self, file_id: int, observe: Callable[[int], None]) -> bool | None:
        """Whether the file is what was stored, by a digest that the archive keeps of it; None where it keeps none.

        ``observe`` is told the length of each piece. Raises ArchiveError where the archive holds no such file.
        """

    def list_files(self) -> Iterator[ArchivedFile] | None:
        """Everything that the archive holds; None where it cannot list it."""

    def still_holds(self, file: ArchivedFile) -> bool:
        """Whether a file that was listed is there now."""

    def own_files(self, inodes: Collection[tuple[int, int]], ids: range) -> set[tuple[int, int]]:
        """Those of the files of this machine, by device and inode, that are stored under an id outside of ``ids``."""


class Memory(Protocol):
    """What a site remembers of the archive that holds its files."""

    def archive(self) -> str | None:
        """The identity of the archive; empty where it had none when files were stored in it, None where none were."""

    def note_archive(self, identity: str) -> None:
        """Remember the identity, durably: before the first file is stored."""


class ArchiveWriter(Protocol):
    """One run's way to change the archive: within its ``ids`` and nowhere else.

    The ids were free when they were reserved, so that whatever is under them is this job's. As far as the archive
    can promise it, a writer with a larger fence for the same ids has put an end to the older ones: what their runs do
    when they wake up changes nothing under the ids, nor the sources of a move. ``resent`` counts how often a file had
    to be sent again, since the archive had failed at it.
    """

    resent: int

    def put(self, file_id: int, content: Content) -> None:
        """Store ``content`` under ``file_id``, whole or not at all, over what an earlier run stored there.

        Raises FileRefused where the bytes are not those that were recorded.
        """

    def stage(self, file_id: int, content: Content) -> None:
        """Take ``content`` aside, whole or not at all, so that `place` can store it. Nothing is stored yet: what is
        staged is gone with `close`, and with the next writer for the same ids.

        Raises FileRefused where the bytes are not those that were recorded.
        """

    def place(self, file_id: int) -> None:
        """Store what was staged, over what an earlier run stored under ``file_id``."""

    def move(self, file_id: int, source: Path, size: int, content: Content | None) -> None:
        """Make the file at ``source``, of ``size`` bytes, the file ``file_id``.

        ``content`` is the source, open, and hashed before; None where only the archive sees it. Raises SourceChanged
        where what was moved is not what was hashed. Until `release` the source remains, or `move_back` restores it.
        """

    def holds(self, file_id: int, hashed: os.stat_result) -> bool:
        """Whether the stored file is a second name of the very file that was hashed, not written to since."""

    def was_changed(self, file_id: int, hashed: os.stat_result) -> bool:
        """Whether the moved file is the very one that was hashed, but was written to since."""

    def move_back(self, file_id: int, source: Path) -> None:
        """Undo `move`: the file is at ``source``, and the archive does not hold it any more.

        Raises RollbackFailed where that cannot be done: the archive then still holds the file.
        """

    def release(self, file_id: int, source: Path, hashed: os.stat_result | None) -> None:
        """Remove what is left at ``source`` of a moved file, once the catalogue has it; leave any other file there.

        ``hashed`` is the source as it was hashed by this run. Raises ArchiveError where that file remains: it may not
        be removed, or was modified.
        """

    def delete(self, file_id: int) -> None:
        """Delete the file; no error where there is none. Raises RollbackFailed where it remains."""

    def flush(self) -> None:
        """Return once all that was stored, moved back, released or deleted would survive a loss of power."""

    def close(self) -> None:
        """Release what belongs to this run alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """What the catalogue says of a file. ``ctime`` and ``mtime`` are as the document had them, or None."""

    file_id: int
    name: str
    subdir: str
    size: int
    hashtype: str
    hashsum: str
    mimetype: str
    ctime: str | None
    mtime: str | None

    @property
    def path(self) -> str:
        """Its name in the bundle."""
        return "/".join(filter(None, ["data", self.subdir, self.name]))

    def answers(self, query: FileQuery) -> bool:
        """Whether all that is asked of a file itself holds of this one, whatever its transaction."""
        return query.matches(name=self.name, path=self.path, hashtype=self.hashtype, hashsum=self.hashsum)

    def as_record(self) -> dict[str, Any]:
        """Its record in a metadata document, with its id as ``_id``."""
        times = {"ctime": self.ctime, "mtime": self.mtime}
        return {
            "destinationTable": "Files",
            "_id": self.file_id,
            "name": self.name,
            "subdir": f"data/{self.subdir}".rstrip("/"),
            "size": self.size,
            "hashtype": self.hashtype,
            "hashsum": self.hashsum,
            "mimetype": self.mimetype,
            **{key: value for key, value in times.items() if value is not None},
        }


class Catalog(Service, Protocol):
    """Stores the metadata of transactions and their files."""

    def check(self, document: Document) -> None:
        """Raise CatalogRefused where ``record`` would surely refuse the document."""

    def record(self, document: Document, transaction_id: int, first_file_id: int, *, fence: int) -> None:
        """Record the transaction and its files, all or nothing, durably. Files are numbered in document order.

        Raises CatalogRefused where the rules forbid it, or a run with this ``fence`` was barred.
        """

    def bar(self, transaction_id: int, ids: range, fence: int) -> bool:
        """Whether the transaction is recorded with the files ``ids``.

        Where not, no run with this ``fence`` or a smaller one records it from now on, as far as that can be promised.
        """

    def contains(self, transaction_id: int, ids: range | None = None) -> bool:
        """Whether the transaction is recorded, with the files ``ids`` and no others where these are given."""

    def find_file(self, file_id: int) -> tuple[int, StoredFile] | None:
        """The file of this id, after the transaction that it belongs to; None where none is recorded."""

    def known_files(self, file_ids: Collection[int]) -> set[int]:
        """Those of the ids under which a file is recorded."""

    def files(self, transaction_id: int) -> Iterator[StoredFile]:
        """The files of a transaction, by their ids."""

    def require_findable(self, query: FileQuery) -> None:
        """Raise NotFindable where the catalogue cannot be asked for these files."""

    def find(self, query: FileQuery) -> Iterator[tuple[int, StoredFile]]:
        """The files that are asked for, each after its transaction: those of a transaction together, by their ids.

        What is recorded meanwhile may be among them or not. Raises NotFindable.
        """

    def hashtypes(self) -> frozenset[str]:
        """The types of hash that recorded files have, of those that can be used here."""

    def metadata(self, transaction_id: int) -> list[dict[str, Any]]:
        """The records of a recorded transaction's document that are not of files; a FileKeyValue has the file's id."""

    def given(self, transaction_id: int) -> list[dict[str, Any]] | None:
        """The numbered document as it was given, where `files` and `metadata` are not all of it and it was kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """The four services, as they are configured."""

    unique_id: UniqueId
    policy: Policy
    archive: Archive
    catalog: Catalog


def require_within(ids: range, file_id: int) -> None:
    """Raise ArchiveError unless ``file_id`` is one of the reserved ``ids``: a file under any other is another job's."""
    if file_id not in ids:
        reserved = f"files {ids.start} to {ids.stop - 1}" if ids else "no files"
        raise ArchiveError(f"file {file_id} in the archive does not belong to this job, which has reserved {reserved}")

"""A folder that is ingested as it lies: which of its files are taken, and what its document says of them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Self

from .content import CHUNK_BYTES
from .entries import Entries
from .fingerprint import fingerprint_of
from .gather import warnings_of
from .metadata import Document
from .pack import plan
from .pack_rules import USUAL, PackRules, Reason
from .records import HASHTYPE, Record, document_pieces, odd_times, record_of
from .tree import NOTHING, Entry, Identity, identity_of
from .unchanged import UnchangedFile, require_unchanged

DONE = "ingested"
# What a person writes of a folder, in the folder.
DESCRIPTION = ".ingest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderRequest:
    """How a folder is to be ingested: with these ``records`` in its document besides those of the files, which are
    taken by ``rules``; of them only what the jobs ``beyond`` have not stored."""

    records: list[Record]
    rules: PackRules = USUAL
    beyond: tuple[int, ...] = ()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The request that `to_text` wrote."""
        fields = json.loads(text)
        rules = PackRules(**{**fields["rules"], "exclude": tuple(fields["rules"]["exclude"])})
        return cls(records=fields["records"], rules=rules, beyond=tuple(fields["beyond"]))

    def to_text(self) -> str:
        """The request as the job store keeps it."""
        return json.dumps(asdict(self))

    def is_of_the_same(self, other: Self) -> bool:
        """Whether both say the same of whom and what the files are."""
        return _sorted(self.records) == _sorted(other.records)


class Folder:
    """The files of the folder at ``path`` that are to be ingested, as they lie there now. What is ``own`` is left out.

    ``fingerprint`` changes with them and with the request. Raises PackError and ResourceUnavailable.
    """

    def __init__(self, path: Path, request: FolderRequest, own: Mapping[Identity, Reason] = NOTHING) -> None:
        planned = plan([path], request.records, request.rules, own)
        self.files, self.left_out = planned.gathered.files, planned.gathered.left_out
        self.fingerprint = _fingerprint(self.files, request)
        # The document of all the files, but for their hashes.
        self.unhashed = planned.document
        self._request = request

    @property
    def total_bytes(self) -> int:
        """The size of the files together, in bytes."""
        return sum(file.found.st_size for file in self.files)

    @property
    def warnings(self) -> list[str]:
        """What is left out, and what cannot be kept as it is."""
        return [*warnings_of(self.left_out), *odd_times(self.files)]

    def changed_since(self, moment: float) -> list[str]:
        """The files that have come or were changed since ``moment``, in seconds since 1970 by the clock of the disk."""
        return [file.name for file in self.files if file.found.st_ctime > moment]

    def open(self, file: Entry) -> UnchangedFile:
        """One of its files, for reading. Raises FilesChanged where it is not as it was found."""
        return UnchangedFile(file, HASHTYPE, follow=self._request.rules.dereference, done=DONE)

    def require_unchanged(self, file: Entry) -> None:
        """Raise FilesChanged where one of its files is not as it was found; it is not opened."""
        require_unchanged(file, follow=self._request.rules.dereference, done=DONE)

    def hashed(self, take: Callable[[bytes], None], files: Iterable[Entry] | None = None) -> Iterator[Record]:
        """The record of each of the ``files``, or of all, which are read: ``take`` is given each chunk."""
        for file in self.files if files is None else files:
            with self.open(file) as content:
                content.require_unchanged()
                left = file.found.st_size
                while left:
                    chunk = content.read(min(left, CHUNK_BYTES))
                    left -= len(chunk)
                    take(chunk)
                content.require_end()
                yield record_of(file, content.hashsum)

    def document(self, records: Iterable[Record]) -> Document:
        """The document that lists these files."""
        return Document.parse(document_pieces(chain(self._request.records, records)))


def own_description(folders: Iterable[Path]) -> dict[Identity, Reason]:
    """The files in which these folders say what they are: those are not a part of what they say it of."""
    found = {}
    for folder in folders:
        with suppress(OSError):
            found[identity_of((folder / DESCRIPTION).lstat())] = Reason.OWN
    return found


def _fingerprint(files: Entries, request: FolderRequest) -> str:
    digest = hashlib.sha256(replace(request, beyond=()).to_text().encode())
    for file in files:
        digest.update(f"\0{file.name}\0{fingerprint_of(file.found)}".encode())
    return digest.hexdigest()


def _sorted(records: list[Record]) -> list[str]:
    return sorted(json.dumps(record, sort_keys=True) for record in records)

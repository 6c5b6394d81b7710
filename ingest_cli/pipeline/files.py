"""The interface to the files of a job, whether they are in a bundle or on a disk."""

from pathlib import Path
from typing import Protocol

from ..services.base import Archive, ArchiveWriter


class JobFiles(Protocol):
    """The files of a job. Positions are the document's."""

    stage: str
    sources: list[str] | None

    @property
    def are_staged(self) -> bool:
        """Whether their bytes are looked at by `set_aside`, after `check`, rather than by it."""

    def mounts(self) -> set[Path]:
        """Where the file systems are mounted that the sources lie on."""

    def size(self, position: int) -> int:
        """The size of one, as it was found."""

    def bytes_to_archive(self) -> int:
        """How much room they take in the archive. Raises FileRefused where a file is seen not to be as listed."""

    def bytes_shared(self, archive: Archive) -> int:
        """How many of these bytes the archive can share with what they come from: they take no room."""

    def check(self) -> None:
        """Raise where a file is missing, or its bytes are not those that the document records."""

    def set_aside(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Have the archive take the bytes of one aside. Raises where they are not those that the document records."""

    def store(self, writer: ArchiveWriter, position: int, file_id: int) -> None:
        """Have the archive take one."""

    def require_unchanged(self, writer: ArchiveWriter, ids: range) -> None:
        """Raise SourceChanged where a file that is stored was written to after it was checked."""

    def release(self, writer: ArchiveWriter, ids: range) -> None:
        """The catalogue has the files: let go of where they came from."""

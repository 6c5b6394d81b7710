"""The stages of a job, and what of it is told to the outside while it goes through them."""

from typing import Protocol

from .metadata import Document

UPLOADING = "UPLOADING"
OPEN_TAR = "open tar"
LOAD_METADATA = "load metadata"
POLICY_VALIDATION = "Policy Validation"
INGEST_FILES = "ingest files"
MOVE_FILES = "move files"
INGEST_METADATA = "ingest metadata"
STAGES = (
    UPLOADING,
    OPEN_TAR,
    LOAD_METADATA,
    POLICY_VALIDATION,
    INGEST_FILES,
    MOVE_FILES,
    INGEST_METADATA,
)


class Journal(Protocol):
    """What of a job must outlive this process, and who watches it. Any call may raise JobStopped."""

    @property
    def job_id(self) -> int:
        """The job's id, which is also its transaction's."""

    @property
    def first_file_id(self) -> int | None:
        """The first of the ids reserved for the files, by this run or one before; None where none are."""

    @property
    def stored(self) -> int:
        """How many files, in document order, are known to be durably stored."""

    @property
    def interrupted(self) -> bool:
        """Whether the job is to be left as soon as a later run can go on with it well."""

    def stage(self, task: str) -> None:
        """The job enters a stage."""

    def identify(self, document: Document) -> None:
        """Raise where this very document is recorded already or another process is at it."""

    def plan(self, files: int, total_bytes: int) -> None:
        """So many bytes will be read for so many files, each byte once to check it and once to store it."""

    def advance(self, length: int) -> None:
        """So many more bytes were read. Comes from several threads where the archive takes several files at once."""

    def file_done(self, size: int) -> None:
        """One more file, of so many bytes, was checked, or after that stored, be it that nothing of it was read."""

    def warn(self, message: str) -> None:
        """Something that does not stop the job, but that a person should see."""

    def reserve(self, first_file_id: int) -> None:
        """The files' ids are reserved. Durable on return: before the first file is stored."""

    def checkpoint(self, stored: int) -> None:
        """The first ``stored`` files are durable in the archive."""

    def taken_back(self) -> None:
        """The archive holds nothing of the job any more, and its ids will not be used."""

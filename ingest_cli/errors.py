"""Everything that can go wrong, as one family.

An error knows the pipeline stage it belongs to, whether trying again can help, and the exit code of a
command that ends with it. Its message says what was wrong, where, and what to do.
"""

from collections.abc import Callable, Collection, Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ends. The same table stands in the man page and ``ingest --help``."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130

    @classmethod
    def of_failures(cls, codes: Iterable["ExitCode"]) -> "ExitCode":
        """How a command ends of which several things failed: with the code of them all, else FAILED."""
        distinct = set(codes)
        return distinct.pop() if len(distinct) == 1 else cls.FAILED

    @classmethod
    def of_several(cls, codes: Collection["ExitCode"]) -> "ExitCode":
        """How a command ends that did several things, each of which ended so."""
        failures = [code for code in codes if code is not cls.SUCCESS]
        if not failures:
            return cls.SUCCESS
        return cls.of_failures(failures) if len(failures) == len(codes) else cls.SOME_FAILED


class IngestError(Exception):
    """Something went wrong that a person can do something about."""

    stage: str | None = None
    transient = False
    exit_code = ExitCode.FAILED

    @property
    def lines(self) -> list[str]:
        """What went wrong, then the notes that were added on the way up."""
        return [str(self), *getattr(self, "__notes__", ())]


Complain = Callable[[IngestError], None]


def refuse(problem: IngestError) -> None:
    """What is done about a problem where the first one ends everything."""
    raise problem


class SettingsError(IngestError):
    """A flag, an environment variable or the configuration file holds what cannot be used."""

    exit_code = ExitCode.USAGE


class SourceError(IngestError):
    """What was given to ingest cannot be read."""

    stage = "UPLOADING"


class PackError(IngestError):
    """No bundle can be made of these files."""


class BundleError(IngestError):
    """The file is not a tar, or holds what no bundle may hold."""

    stage = "open tar"


class BundleTruncated(BundleError):
    """The tar ends too early. Pacifica reports this while it loads the metadata, and so do we."""

    stage = "load metadata"


class MetadataError(IngestError):
    """The metadata document is missing or is not what the format asks for."""

    stage = "load metadata"


class PolicyRefused(IngestError):
    """The policy does not allow this transaction."""

    stage = "Policy Validation"


class FileRefused(IngestError):
    """A file is missing, or its bytes are not those that the metadata records."""

    stage = "ingest files"


class SourceMissing(IngestError):
    """A file that is to be moved into the archive is not where the document says."""

    stage = "move files"


class ArchiveError(IngestError):
    """The archive cannot take, keep or give back a file."""

    stage = "ingest files"


class RollbackFailed(ArchiveError):
    """The archive still holds a file that it should no longer hold."""


class SourceChanged(IngestError):
    """A file was written to, or another one took its place, after it had been looked at."""

    stage = "ingest files"


class CatalogRefused(IngestError):
    """The catalogue's rules forbid the document."""

    stage = "ingest metadata"


class ServiceUnavailable(IngestError):
    """A service does not answer now; the same command may succeed later."""

    transient = True
    exit_code = ExitCode.UNREACHABLE


class JobNotFound(IngestError):
    """The job store has no such job."""


class JobNotRecorded(IngestError):
    """The catalogue does not hold the job's transaction."""


class JobBusy(IngestError):
    """Another process works on this job now."""

    transient = True
    exit_code = ExitCode.UNREACHABLE


class WrongState(IngestError):
    """The job is not in a state in which that can happen to it."""


class StopRequested(IngestError):
    """An administrator has said by ``ingest job`` how this job is to end, while it ran."""


class LeaseLost(IngestError):
    """Another process holds this job by now; this one touches nothing more of it."""

    transient = True
    exit_code = ExitCode.UNREACHABLE


class Interrupted(IngestError):
    """A person or the system stopped the program; its jobs can be resumed."""

    transient = True
    exit_code = ExitCode.INTERRUPTED

    def __init__(self) -> None:
        super().__init__("interrupted; the same command resumes from here")


class StoreError(IngestError):
    """A database of ours cannot be used."""

"""The exceptions of this program: one base class, and one for each kind of failure.

An error knows the pipeline stage it belongs to, whether trying again can help, whether a run that ends with it was an
attempt, and the exit code of a command that ends with it. Its message says what was wrong, where, and what to do.
"""

from collections.abc import Callable, Collection, Iterable
from enum import IntEnum

from .text import one_line


class ExitCode(IntEnum):
    """How a command ends. The same table stands in the man page and ``ingest --help``."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2  # or a wrong configuration
    SOME_FAILED = 3  # of several bundles
    UNREACHABLE = 4  # a service, a disk or a lock is, or a job is busy: the same command may succeed later
    INTERRUPTED = 130

    @classmethod
    def of_failures(cls, codes: Iterable["ExitCode"]) -> "ExitCode":
        """The exit code where several things failed: the one that they share, else FAILED."""
        distinct = set(codes)
        return distinct.pop() if len(distinct) == 1 else cls.FAILED

    @classmethod
    def of_several(cls, codes: Collection["ExitCode"]) -> "ExitCode":
        """The exit code of a command that did several things, from the code of each."""
        failures = [code for code in codes if code is not cls.SUCCESS]
        if not failures:
            return cls.SUCCESS
        return cls.of_failures(failures) if len(failures) == len(codes) else cls.SOME_FAILED

    @classmethod
    def of_errors(cls, errors: Iterable["IngestError | None"]) -> "ExitCode":
        """The exit code of a command that did several things, from the error that ended each, None where none did."""
        return cls.of_several([cls.SUCCESS if error is None else error.exit_code for error in errors])


class IngestError(Exception):
    """An error that a person can do something about."""

    stage: str | None = None
    transient = False
    is_attempt = True
    exit_code = ExitCode.FAILED

    @property
    def lines(self) -> list[str]:
        """The message, then the notes that were added on the way up, each as a line to be shown."""
        return [one_line(text) for text in (self, *getattr(self, "__notes__", ()))]


OnProblem = Callable[[IngestError], None]


def raise_problem(problem: IngestError) -> None:
    """The OnProblem that stops at the first problem."""
    raise problem


class SettingsError(IngestError):
    """A flag, an environment variable or the configuration file has an invalid value."""

    exit_code = ExitCode.USAGE


class OutputsConflict(SettingsError):
    """Two kinds of output were asked for at once: standard output gets neither, not even the error as JSON."""


class SourceError(IngestError):
    """A bundle or document cannot be read."""

    stage = "UPLOADING"


class PackError(IngestError):
    """These files cannot be packed into a bundle."""


class FilesChanged(PackError):
    """A file was modified or removed while it was packed."""


class BundleError(IngestError):
    """The file is not a tar, or has a member that a bundle may not have."""

    stage = "open tar"


class BundleTruncated(BundleError):
    """The tar is truncated. Pacifica reports this while it loads the metadata, and so do we."""

    stage = "load metadata"


class MetadataError(IngestError):
    """The metadata document is missing or invalid."""

    stage = "load metadata"


class PolicyRefused(IngestError):
    """The policy does not allow this transaction."""

    stage = "Policy Validation"


class FileRefused(IngestError):
    """A file is missing, or its bytes do not match the metadata."""

    stage = "ingest files"


class SourceMissing(IngestError):
    """A file to be moved into the archive is not where the document says."""

    stage = "move files"


class SourceRefused(IngestError):
    """A file may not be moved into the archive: it is the program's own, or not in a folder that the site names."""

    stage = "move files"


class ArchiveError(IngestError):
    """The archive cannot store, return, move back or delete a file."""

    stage = "ingest files"


class RollbackFailed(ArchiveError):
    """The archive still holds a file that it should no longer hold."""


class SourceChanged(IngestError):
    """A file was modified or replaced after it was checked."""

    stage = "ingest files"


class CatalogRefused(IngestError):
    """The catalogue does not accept the document."""

    stage = "ingest metadata"


class NotFindable(IngestError):
    """The catalogue cannot be asked for these files."""

    exit_code = ExitCode.USAGE


class Unavailable(IngestError):
    """Something that is needed is unavailable now; the same command may succeed later."""

    transient = True
    exit_code = ExitCode.UNREACHABLE


class ServiceUnavailable(Unavailable):
    """A service is unavailable."""


class ResourceUnavailable(Unavailable):
    """This machine has no room, lock or memory left for it, or a disk or share is away.

    However long that lasts, a job waits.
    """

    is_attempt = False


class Contended(ResourceUnavailable):
    """A database has undone a change for the sake of another one, which was made at the same time."""


class UploadRefused(IngestError):
    """A server does not take an upload."""


class NoSuchJob(IngestError):
    """There is no job ``job_id`` where it was looked for."""

    def __init__(self, message: str, job_id: int | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobNotFound(NoSuchJob):
    """The job store has no such job."""


class JobNotRecorded(NoSuchJob):
    """The catalogue does not hold the job's transaction."""


class FileNotRecorded(IngestError):
    """The catalogue holds no such file of the job."""


class JobBusy(IngestError):
    """Another process is working on this job."""

    transient = True
    is_attempt = False
    exit_code = ExitCode.UNREACHABLE


class ProjectBusy(JobBusy):
    """As many jobs of the project are at work as may be."""


class WrongState(IngestError):
    """The job's state does not allow the transition."""


class StopRequested(IngestError):
    """An administrator stopped the job with ``ingest job`` while it was running."""


class LeaseLost(IngestError):
    """Another process now has the lease of this job; this one must not touch it any more."""

    transient = True
    exit_code = ExitCode.UNREACHABLE


class Interrupted(IngestError):
    """A user or the system stopped the program; its jobs can be resumed."""

    transient = True
    exit_code = ExitCode.INTERRUPTED

    def __init__(self, message: str = "interrupted; the same command resumes from here") -> None:
        super().__init__(message)


class StoreError(IngestError):
    """One of this program's databases cannot be used."""


class StoreRefused(StoreError):
    """A database does not let this program in, or at its tables: jobs wait until its settings or rights are mended."""

    transient = True

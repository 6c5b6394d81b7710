"""Who looks on while jobs are worked at, such as a progress display."""

from ..errors import IngestError
from ..jobs.job import Job


class Observer:
    """Is told what happens to a job, and does nothing of itself: subclasses pick what they show.

    ``checked`` and ``stored`` come from several threads where the archive takes several files at once.
    """

    def queued(self, job: Job) -> None:
        """The job waits for a worker."""

    def stage(self, task: str) -> None:
        """The job enters a stage."""

    def plan(self, files: int, total_bytes: int) -> None:
        """So many files, of so many bytes together, are to be checked, and then stored."""

    def checked(self, length: int, files: int = 0) -> None:
        """So many more bytes, and whole files, were checked."""

    def stored(self, length: int, files: int = 0) -> None:
        """So many more bytes, and whole files, were stored, or were stored before."""

    def warn(self, message: str) -> None:
        """A person should see this."""

    def settled(self, job: Job) -> None:
        """A run of the job has come to its end; the job is as it stands now."""

    def failed(self, error: IngestError) -> None:
        """The run ended with this error, which was noted with the job, if there is one."""

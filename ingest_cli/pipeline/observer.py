"""Observers of running jobs, such as a progress display."""

from collections.abc import Callable

from ..errors import IngestError
from ..jobs.job import Job
from ..meter import Meter


class Observer(Meter):
    """Is told what happens to a job. This one does nothing; subclasses override what they show.

    It observes for as long as a ``with`` block lasts. ``checked`` and ``stored`` come from several threads where the
    archive takes several files at once.
    """

    def started(self, job: Job) -> None:
        """The job is about to be run; it may be done already."""

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
        """A warning for a person."""

    def note(self, message: str) -> None:
        """What a person may like to know of the job."""

    def settled(self, job: Job) -> None:
        """A run of the job has ended; this is the job as it is now."""

    def postponed(self) -> None:
        """The job is busy; the same command runs it again later, when this observer is entered once more."""

    def failed(self, error: IngestError) -> None:
        """The run ended with this error, which was noted with the job, if there is one."""


# Makes the observer of a job of the queue.
ObserveJob = Callable[[Job], Observer]

"""What a person or a program sees of a job. Standard output is data, standard error is talk."""

import json
import sys
from types import TracebackType
from typing import Self

from ..errors import IngestError
from ..jobs import Job

# Every byte is read to be checked and again to be stored; a person thinks of the bundle's size.
PASSES = 2


class Screen:
    """Shows one job: only errors here, what else in the subclasses."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._job: Job | None = None
        self._earlier: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def started(self, job: Job) -> None:
        """The bundle has a job, which may be one that recorded it before."""
        self._earlier = job.job_id if job.recorded else None

    def queued(self, job: Job) -> None:
        """The bundle has a job, for a worker to run."""

    def settled(self, job: Job) -> None:
        """The job has come to its end."""
        self._job = job

    def failed(self, error: IngestError) -> None:
        """Say on standard error why the bundle was not ingested."""
        where = "" if self._job is None else f"{self._name}: job {self._job.job_id} failed at {self._job.task!r}: "
        what, *notes = error.lines
        for line in (where + what, *notes):
            print(f"ingest: {line}", file=sys.stderr)

    def stage(self, task: str) -> None:
        """The job enters a stage."""

    def plan(self, files: int, total_bytes: int) -> None:
        """So many bytes will be read, all passes together."""

    def advance(self, length: int) -> None:
        """So many bytes were read."""

    def warn(self, message: str) -> None:
        """A person should see this."""


class JsonScreen(Screen):
    """One JSON object a job on standard output, as ``ingest state --json`` writes it."""

    def settled(self, job: Job) -> None:
        """Write the job's state."""
        super().settled(job)
        print(json.dumps(job.as_state()), flush=True)

    def queued(self, job: Job) -> None:
        """Write the job's state."""
        print(json.dumps(job.as_state()), flush=True)

    def warn(self, message: str) -> None:
        """Write the warning."""
        _warn(message)


class PlainScreen(Screen):
    """A line a job on standard output, a line a stage and a warning on standard error."""

    def settled(self, job: Job) -> None:
        """Write how the job ended, where it ended well."""
        super().settled(job)
        earlier = self._earlier or job.duplicate_of
        if earlier is not None:
            print(f"job {earlier}: {self._name} was ingested before", flush=True)
        elif job.complete:
            print(f"job {job.job_id}: {self._name} is complete, {_counted(job.stored)}", flush=True)

    def queued(self, job: Job) -> None:
        """Say which job it is."""
        print(f"job {job.job_id}: {self._name} {'was ingested before' if job.recorded else 'waits'}", flush=True)

    def stage(self, task: str) -> None:
        """Name the stage."""
        print(f"{self._name}: {task}", file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        """Write the warning."""
        _warn(message)


class QueueScreen(PlainScreen):
    """A line a job: on standard output where it ended well, on standard error where not."""

    def settled(self, job: Job) -> None:
        """Write how the run ended."""
        super().settled(job)
        if job.exception:
            what = "failed" if job.state == "FAILED" else "is put off, since it failed"
            print(f"ingest: {self._name}: job {job.job_id} {what} at {job.task!r}: {job.exception}", file=sys.stderr)

    def stage(self, task: str) -> None:
        """Stages are not worth a line."""


class QuietQueueScreen(QueueScreen):
    """Only what failed."""

    def settled(self, job: Job) -> None:
        """Write how the run ended, where it did not end well."""
        if job.state == "FAILED":
            super().settled(job)

    def warn(self, message: str) -> None:
        """Warnings are not written."""


class LiveScreen(PlainScreen):
    """A live line on a terminal: stage, files, bytes, rate, time left."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as RateColumn

        super().__init__(name)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[files]}"),
            BarColumn(),
            DownloadColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(self._name, total=None, files="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, task: str) -> None:
        """Show the stage."""
        self._progress.update(self._task, description=f"{self._name}: {task}")

    def plan(self, files: int, total_bytes: int) -> None:
        """Show how much there is to do."""
        self._progress.update(self._task, total=total_bytes / PASSES, completed=0, files=_counted(files))

    def advance(self, length: int) -> None:
        """Show how much is done."""
        self._progress.advance(self._task, length / PASSES)


def _counted(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _warn(message: str) -> None:
    print(f"ingest: warning: {message}", file=sys.stderr, flush=True)


def screen_of_queue(job: Job, *, json: bool, quiet: bool) -> Screen:
    """The screen for a job that comes from the queue."""
    if json:
        return JsonScreen(job.source)
    return QuietQueueScreen(job.source) if quiet else QueueScreen(job.source)


def screen_for(name: str, *, json: bool, quiet: bool) -> Screen:
    """The screen that fits the flags and the terminal, for the bundle of this name."""
    if json:
        return JsonScreen(name)
    if quiet:
        return Screen(name)
    return LiveScreen(name) if sys.stderr.isatty() else PlainScreen(name)

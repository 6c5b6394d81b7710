"""What a person or a program sees of a job while it runs: one screen for each kind of output."""

import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import Any

from ..errors import IngestError, NoSuchJob
from ..jobs.fields import job_fields, naming_fields
from ..jobs.job import Job, JobKind, JobState
from ..jobs.stages import UPLOADING
from ..pipeline.observer import Observer
from ..text import counted, timed
from .output import Warnings, error_fields, mention, notify, record, regardless, say, write_event, write_json

# Where there is no terminal, how often a long stage says how far it is.
PROGRESS_SECONDS = 30.0


class Screen(Observer):
    """Shows one job: this one shows only errors, subclasses show more."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._job: Job | None = None
        self._earlier: int | None = None
        self._warnings = Warnings()
        self.failure: str | None = None
        self.error: IngestError | None = None
        self.is_postponed = False

    @property
    def job(self) -> Job | None:
        """The job as it ended, where it came to that."""
        return self._job

    @property
    def was_done(self) -> bool:
        """Whether the job was done before it was to be run."""
        return self._earlier is not None

    @property
    def earlier(self) -> int | None:
        """The job that had ingested the same before."""
        return self._earlier or (self._job.duplicate_of if self._job is not None else None)

    @property
    def is_deferred(self) -> bool:
        """Whether the run ended with an error, but the same command may succeed later."""
        if self._job is not None and self._job.exception:
            return self._job.will_be_tried_again
        return self.error is not None and self.error.transient

    def started(self, job: Job) -> None:
        """The bundle has a job, which may be one that ingested it before."""
        self._earlier = (job.duplicate_of or job.job_id) if job.is_done else None
        self.is_postponed = False

    def postponed(self) -> None:
        """Nothing has ended yet."""
        self.is_postponed = True

    def settled(self, job: Job) -> None:
        """Note how the job ended."""
        self._job = job
        self.end()

    def end(self) -> None:
        """Show nothing more of what happens meanwhile."""
        self._warnings.end()

    def not_queued(self, error: IngestError) -> None:
        """Say on standard error why no job waits."""
        self.failed(error)

    def failed(self, error: IngestError) -> None:
        """Say on standard error why the bundle was not ingested."""
        job, where = self._job, ""
        what, *notes = error.lines
        if job is not None:
            # Not where the job did not come to be run, as while another process works on it.
            failed = f"{_failed(job)}: " if what in job.exception else ""
            where = f"{self._name}: {failed}"
        self.error, self.failure = error, where + what
        notify(self.failure, *notes)


class Turns:
    """Has what is said of several jobs at once come in the order of their numbers, which begin with 1."""

    def __init__(self) -> None:
        self._turn = 1
        self._kept: dict[int, list[object]] = {}
        self._ended: set[int] = set()
        self._lock = threading.Lock()

    def write(self, number: int, answer: object) -> None:
        """Write an answer of a job, once those before it have come to their ends."""
        with self._lock:
            self._kept.setdefault(number, []).append(answer)
            self._write_due()

    def end(self, number: int) -> None:
        """The job has no more to say."""
        with self._lock:
            self._ended.add(number)
            self._write_due()

    def flush(self) -> None:
        """Write what is left: those before it will not come to their ends."""
        with self._lock:
            for number in sorted(self._kept):
                self._write(number)

    def _write_due(self) -> None:
        self._write(self._turn)
        while self._turn in self._ended:
            self._ended.remove(self._turn)
            self._turn += 1
            self._write(self._turn)

    def _write(self, number: int) -> None:
        for answer in self._kept.pop(number, ()):
            with regardless():
                write_json(answer)


class JsonScreen(Screen):
    """One JSON object on standard output, when it is its turn: the job as it was left, and the error that ended its
    run, if one did."""

    def __init__(self, name: str, number: int = 1, turns: Turns | None = None) -> None:
        super().__init__(name)
        self._number, self._turns = number, turns or Turns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure = error if isinstance(error, IngestError) else self.error
        if self._job is not None or failure is not None:
            self._write(self._job, failure)
        if not self.is_postponed:
            self._turns.end(self._number)

    def queued(self, job: Job) -> None:
        """Write the job."""
        self._write(job)

    def not_queued(self, error: IngestError) -> None:
        """Write the error."""
        super().not_queued(error)
        self._write(None, error)

    def warn(self, message: str) -> None:
        """Write the warning."""
        self._warnings.warn(message)

    def _write(self, job: Job | None, error: IngestError | None = None) -> None:
        if isinstance(error, NoSuchJob):
            fields: dict[str, Any] = {"job_id": error.job_id}
        else:
            fields = {"source": self._name} if job is None else job_fields(job)
        self._turns.write(self._number, {**fields, **error_fields(error)})


class EventScreen(Screen):
    """One JSON object on standard output for each thing that happens to a job of the queue."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.name)
        self._seen = job

    def queued(self, job: Job) -> None:
        """Write that the job waits."""
        self._write("queued", naming_fields(job))

    def plan(self, files: int, total_bytes: int) -> None:
        """Note what the job is of."""
        self._seen = replace(self._seen, files=files, bytes=total_bytes)

    def stage(self, task: str) -> None:
        """Write the stage."""
        self._write("stage", naming_fields(self._seen), task=task)

    def warn(self, message: str) -> None:
        """Write the warning."""
        self._write("warning", naming_fields(self._seen), message=message)

    def note(self, message: str) -> None:
        """Write it."""
        self._write("note", naming_fields(self._seen), message=message)

    def settled(self, job: Job) -> None:
        """Write the job as the run has left it."""
        self._write("settled", job_fields(job))

    def _write(self, event: str, job: dict[str, Any], **more: object) -> None:
        with regardless():
            write_event(event, **job, **more)


class PlainScreen(Screen):
    """A line a job on standard output; a line a stage and a warning, and ``every`` so often, on standard error."""

    # Each byte is checked, then stored.
    _times = 2

    def __init__(self, name: str, *, every: float = PROGRESS_SECONDS) -> None:
        super().__init__(name)
        self._every = every
        self._enter(UPLOADING)

    def _enter(self, task: str) -> None:
        self._task, self._entered = task, time.monotonic()
        self._due = self._entered + self._every
        self._total = self._done = self._files = 0
        self._counted = {"checked": (0, 0), "stored": (0, 0), "done": (0, 0)}

    def settled(self, job: Job) -> None:
        """Write how the job ended, where it ended well."""
        super().settled(job)
        if self.earlier is not None:
            self._say(f"job {self.earlier}: {self._name} {_before(job)}")
        elif job.is_done:
            self._say(f"job {job.job_id}: {self._name} is complete, {counted(job.stored, 'file')}")

    def queued(self, job: Job) -> None:
        """Say which job it is."""
        self._say(f"job {job.job_id}: {self._name} {_before(job) if job.is_done else 'is queued'}")

    def _say(self, line: str) -> None:
        with regardless():
            say(line)

    def stage(self, task: str) -> None:
        """Name the stage."""
        self._enter(task)
        mention(f"{self._name}: {task}")

    def plan(self, files: int, total_bytes: int) -> None:
        """Note how much there is to do."""
        self._files, self._total = files, total_bytes

    def checked(self, length: int, files: int = 0) -> None:
        """Count what was checked."""
        self._count("checked", length, files)

    def stored(self, length: int, files: int = 0) -> None:
        """Count what was stored."""
        self._count("stored", length, files)

    def _count(self, phase: str, length: int, files: int) -> None:
        """Count, and say how far the stage is, where it said nothing for long."""
        bytes_done, files_done = self._counted[phase]
        self._counted[phase] = (bytes_done + length, files_done + files)
        self._done += length
        if time.monotonic() >= self._due:
            self._due += self._every
            told = ", ".join([f"{self._percent()}%", *self._counts()])
            mention(f"{self._name}: {self._task}, {told}")

    def warn(self, message: str) -> None:
        """Write the warning."""
        self._warnings.warn(message)

    def note(self, message: str) -> None:
        """Write it."""
        mention(f"{self._name}: {message}")

    def _percent(self) -> int:
        # 100 is for what is complete: what has been read must yet get to the disk.
        files_done = sum(files for _, files in self._counted.values())
        share = self._done / self._whole if self._total else files_done / max(1, self._times * self._files)
        return min(99, int(100 * share))

    @property
    def _whole(self) -> int:
        """The bytes that are to be counted."""
        return self._times * self._total

    def _counts(self) -> list[str]:
        """The files and the bytes that are checked, or stored when all are checked."""
        from rich.filesize import decimal

        phase = "stored" if self._counted["checked"][1] >= self._files else "checked"
        done, files = self._counted[phase]
        size = self._total
        return [
            f"{files:,} of {counted(self._files, 'file')} {phase}",
            f"{decimal(min(done, size))} of {decimal(size)}",
        ]


class Once:
    """What is different from the screen of a job where every byte is gone through once."""

    _total: int
    _done: int
    _times = 1

    def _counts(self) -> list[str]:
        from rich.filesize import decimal

        return [f"{decimal(min(self._done, self._total))} of {decimal(self._total)}"]


class QueueScreen(PlainScreen):
    """A line a job, with its time: on standard output where it ended well, on standard error where not."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._warnings = Warnings(record)

    def settled(self, job: Job) -> None:
        """Write how the run ended."""
        super().settled(job)
        if job.exception:
            why, *more = job.exception.split("\n")
            for line in (f"{self._name}: {_failed(job)}: {why}", *more):
                record(line)

    def _say(self, line: str) -> None:
        super()._say(timed(line))

    def stage(self, task: str) -> None:
        """Stages are not worth a line."""

    def note(self, message: str) -> None:
        """Write it."""
        record(f"{self._name}: {message}")

    def _count(self, phase: str, length: int, files: int) -> None:
        """Nor is what they do."""


class QuietQueueScreen(QueueScreen):
    """Only what failed."""

    def settled(self, job: Job) -> None:
        """Write how the run ended, where it did not end well."""
        if job.has_failed:
            super().settled(job)

    def warn(self, message: str) -> None:
        """Warnings are not written."""

    def note(self, message: str) -> None:
        """Nor is what is only good to know."""


def _before(job: Job) -> str:
    left = "; its sources are left where they are" if job.kind is JobKind.MOVE else ""
    return f"was ingested before{left}"


def _failed(job: Job) -> str:
    if job.state is JobState.DISCARDED:
        return f"job {job.job_id} was discarded"
    return f"job {job.job_id} {'is deferred: it ' if job.will_be_tried_again else ''}failed at {job.task!r}"

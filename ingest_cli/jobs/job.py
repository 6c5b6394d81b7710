"""A job as the store holds it, and as Pacifica's clients see it."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .process import Process
from .stages import INGEST_METADATA


class JobKind(StrEnum):
    """What a job is made of."""

    BUNDLE = "bundle"
    MOVE = "move"
    FOLDER = "folder"


class JobState(StrEnum):
    """The state of a job. `transitions` lists the ways from one state to another."""

    QUEUED = "queued"  # waits for a run; deferred if it has a time to retry
    RUNNING = "running"  # a run takes it through the stages, or did so when it died
    UNDOING = "undoing"  # what is stored of it is being rolled back
    HELD = "held"  # some of what it stored could not be rolled back
    FAILED = "failed"  # nothing of it is stored
    DISCARDED = "discarded"  # ended by an administrator; nothing of it is stored
    COMPLETE = "complete"  # the catalogue has it
    DUPLICATE = "duplicate"  # the catalogue has another job of the same document
    SUPERSEDED = "superseded"  # another job of the same document took over what it had stored


class JobStatus(StrEnum):
    """What people are told of a job in a word: its state, and of a queued one what it waits for."""

    WAITING = "waiting"  # for a worker, or for its first run
    DEFERRED = "deferred"  # until it is retried after a transient failure
    INTERRUPTED = "interrupted"  # until another run resumes it
    RUNNING = "running"
    UNDOING = "undoing"
    HELD = "held"
    FAILED = "failed"
    DISCARDED = "discarded"
    COMPLETE = "complete"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"


class PacificaState(StrEnum):
    """The two states that Pacifica's clients know."""

    OK = "OK"
    FAILED = "FAILED"


UNFINISHED = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.UNDOING})
DONE = frozenset({JobState.COMPLETE, JobState.DUPLICATE})


@dataclass(frozen=True, slots=True)
class Override:
    """The state that an administrator set with ``ingest job``: Pacifica's clients see it in place of the job's own.

    For a running job it is a request that its holder carries out: FAILED rolls the job back, OK requeues it. Where it
    ``discards``, the job is rolled back to be discarded.
    """

    state: PacificaState
    task: str
    task_percent: float
    exception: str
    discards: bool = False


@dataclass(frozen=True, slots=True)
class Fence:
    """A run's hold on a job: the ``number`` grows with every run, and the store refuses the writes of older ones."""

    job_id: int
    number: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """The file ids of a job: ``count`` from ``first_file_id`` on, of which the first ``stored`` are known to be durable
    in the archive."""

    first_file_id: int
    count: int
    stored: int

    @property
    def ids(self) -> range:
        """The ids, in document order."""
        return range(self.first_file_id, self.first_file_id + self.count)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job as the store holds it.

    ``source`` is the path of the bundle, document or folder, and ``fingerprint`` its identity on disk; a ``spooled``
    file is removed when the job is complete, and its ``origin`` is what it was made of, where that is known: the path
    of a folder, or a few words. ``digest``, ``files`` and ``bytes`` are the document's, once it was read. ``task``,
    ``task_percent`` and ``exception`` say where the job is or failed, and why. ``attempts`` counts its runs, from 0
    again after they were used up; those that only found that the job must wait are counted by ``waits`` instead, since
    the last that was an attempt. ``retry_at`` is the time in seconds since 1970 before which
    the job is not run, else 0; ``created``, ``updated`` and ``began``, that of its last run, are times of UTC
    as text. ``holder`` is the process that runs it, whose ``heartbeat`` it counts up. ``undo_to`` is the state that
    rolling back leads to, and ``successor`` the job that has the content of a duplicate or superseded one.
    """

    job_id: int
    kind: JobKind
    source: str
    fingerprint: str
    user: str
    spooled: bool
    origin: str
    state: JobState
    task: str
    task_percent: float
    exception: str
    created: str
    updated: str
    began: str
    digest: str | None
    files: int
    bytes: int
    attempts: int
    waits: int
    retry_at: float
    fence_number: int
    holder: Process | None
    heartbeat: int
    undo_to: JobState | None
    successor: int | None
    override: Override | None
    reservation: Reservation | None

    @property
    def name(self) -> str:
        """What a person knows the job by: its origin, else its source."""
        return self.origin or self.source

    @property
    def is_shared(self) -> bool:
        """Whether what it is of lies in the spool that several hosts share, and its source is a URL."""
        return self.spooled and self.source.startswith("s3://")

    def with_name(self, reason: str) -> str:
        """The reason, in which what lies in the spool is called by its name."""
        return reason.replace(self.source, self.name) if self.spooled else reason

    @property
    def status(self) -> JobStatus:
        """The job's state in the word that people see; whether its holder is alive is not looked at."""
        if self.state is not JobState.QUEUED:
            return JobStatus(self.state)
        if self.is_deferred:
            return JobStatus.DEFERRED
        return JobStatus.INTERRUPTED if self.is_interrupted else JobStatus.WAITING

    @property
    def fence(self) -> Fence:
        """The fence that the run which holds the job names in its writes."""
        return Fence(self.job_id, self.fence_number)

    @property
    def is_done(self) -> bool:
        """Whether the catalogue has the content: under this job's id, or its successor's."""
        return self.state in DONE

    @property
    def has_failed(self) -> bool:
        """Whether the job failed, is held, or was discarded or superseded."""
        return self.state not in UNFINISHED and not self.is_done

    @property
    def is_deferred(self) -> bool:
        """Whether the job waits to be retried after a transient failure."""
        return self.state in (JobState.QUEUED, JobState.UNDOING) and self.holder is None and self.retry_at > 0

    @property
    def will_be_tried_again(self) -> bool:
        """Whether the job is deferred to be run again: not if it has failed, and is to be rolled back."""
        return self.is_deferred and self.state is JobState.QUEUED

    @property
    def is_interrupted(self) -> bool:
        """Whether a run was interrupted and left the job for another to resume; not where a person requeued it."""
        was_run = self.state is JobState.QUEUED and self.attempts > 0 and not self.is_deferred
        return was_run and self.override is None and not self.exception

    @property
    def duplicate_of(self) -> int | None:
        """The job that recorded the same document before."""
        return self.successor if self.state is JobState.DUPLICATE else None

    @property
    def stored(self) -> int:
        """How many files are known to be durable in the archive."""
        return self.reservation.stored if self.reservation is not None else self.files if self.is_done else 0

    @property
    def created_at(self) -> float:
        """When the job was submitted, in seconds since 1970."""
        return datetime.fromisoformat(self.created).replace(tzinfo=UTC).timestamp()

    @property
    def retried_at(self) -> str:
        """When a deferred job is due, in UTC; empty where it is not deferred."""
        return f"{datetime.fromtimestamp(self.retry_at, UTC):%Y-%m-%d %H:%M:%S}" if self.is_deferred else ""

    def as_state(self) -> dict[str, Any]:
        """The object that Pacifica's ``get_state`` answers with: eight keys, the percent a string, times UTC.

        An administrator's override hides the job's own state. FAILED says that nobody works on the job, or that
        it is being rolled back: clients wait until they are told so, or until ``ingest metadata`` is at 100. Its
        exception says more than the store has: when a deferred job is tried again, and which job a duplicate is of.

        ``complete`` says that the job has come to its end, in success or in failure, as the released service has it.
        It is false while a job is deferred, though FAILED is shown: pacifica-cli and pacifica-uploader never look at
        it, and a script that waits for it is not to send again what will yet be stored.
        """
        shown = self.override or self._own_state()
        is_recorded = shown.state is PacificaState.OK and shown.task == INGEST_METADATA and shown.task_percent == 100
        is_over = shown.state is PacificaState.FAILED and self.state not in UNFINISHED
        return {
            "job_id": self.job_id,
            "state": str(shown.state),
            "task": shown.task,
            "task_percent": f"{shown.task_percent:.5f}",
            "complete": is_recorded or is_over,
            "updated": self.updated,
            "created": self.created,
            "exception": shown.exception,
        }

    def _own_state(self) -> Override:
        if JobState.DUPLICATE in (self.state, self.undo_to):
            return Override(PacificaState.OK, INGEST_METADATA, 100, self._known_before())
        failed = self.state is JobState.UNDOING or self.has_failed or self.is_deferred
        state = PacificaState.FAILED if failed else PacificaState.OK
        return Override(state, self.task, self.task_percent, "\n".join(filter(None, [self.exception, self._outlook()])))

    def _known_before(self) -> str:
        """That the catalogue has the document of a duplicate already, though some of it may yet be rolled back."""
        if self.kind is JobKind.MOVE:
            return f"the same document was ingested before as job {self.successor}; its sources are left where they are"
        if self.kind is JobKind.FOLDER:
            return f"all that is in the folder was ingested before, the last of it as job {self.successor}"
        return f"the same bundle was ingested before as job {self.successor}"

    def _outlook(self) -> str:
        """What comes of a job that will be tried again."""
        if not self.will_be_tried_again:
            return ""
        is_due = self.retry_at <= time.time()
        when = f"{self.retried_at} UTC{', or as soon as a worker is free' if is_due else ''}"
        return f"it will be tried again at {when}; do not send it again"

"""The interface of the job store, which any number of processes share."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ..settings import PostgresUrl, Settings
from ..settings.options import DATABASE
from .activity import Activity
from .attendance import Attendance
from .filter import ALL, JobFilter, JobOrder
from .flow import Flow
from .group_commit import Shared
from .history import Line
from .imported import ImportedJob, Taken
from .job import Fence, Job, JobKind, JobState, JobStatus, Override
from .outbox import Outbox
from .places import Place
from .process import Process
from .reasons import Reason


class JobStore(Protocol):
    """Keeps jobs. Every change is one of `transitions`, made in one statement that names the states it may start from.

    A change by a run names its fence: it raises LeaseLost where the job has another holder by now, and nothing is
    changed. WrongState says that the job's state does not let it happen, JobNotFound that there is no such job,
    ResourceUnavailable that the store cannot be used now, and StoreError that it is damaged. One instance belongs to
    one thread at a time.

    A change that is announced, as the site's notifications say, is put into the ``outbox`` in the same statement's
    transaction: neither is there without the other.
    """

    outbox: Outbox
    # None where only processes of one machine can use the store.
    attendance: Attendance | None

    def __enter__(self) -> Self:
        """Return the store, which is closed at the end of the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""

    def another(self, *, busy: float | None = None) -> "JobStore":
        """A store of the same jobs, for another thread. One that is ``busy`` with others for so many seconds waits no
        longer for a job that somebody else is changing, and for no connection that others have."""

    def together(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """Make the changes in a block one: all are made at its end, or, where it raises an error, none.

        Where they need not be ``durable``, a loss of power may take them.
        """

    # What is asked

    def get(self, job_id: int) -> Job:
        """The job. Raises JobNotFound."""

    def select(
        self,
        wanted: JobFilter = ALL,
        *,
        order: JobOrder = JobOrder.JOB,
        descending: bool = True,
        limit: int | None = None,
        before: int | None = None,
    ) -> list[Job]:
        """The first jobs that are ``wanted``, at most ``limit`` of them; those that are alike in order of their ids.

        With ``before``, only jobs with ids below it: in order of their ids, a page goes on where the last one ended.
        """

    def ids(
        self,
        wanted: JobFilter,
        *,
        order: JobOrder = JobOrder.JOB,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[int]:
        """The ids of the jobs that `select` finds: of very many there is room in memory for these."""

    def several(self, job_ids: Sequence[int]) -> list[Job]:
        """Those of the jobs that there are, in the order of the ids."""

    def tally(self, wanted: JobFilter = ALL) -> dict[JobStatus, int]:
        """How many of the jobs that are ``wanted`` have each status."""

    def of_source(self, source: Path) -> Job | None:
        """The newest job of the file at this path."""

    def of_sources(self, sources: Sequence[str]) -> dict[str, Job]:
        """The newest job of the file at each of these paths that has one."""

    def find(self, kind: JobKind, source: str, fingerprint: str) -> Job | None:
        """The newest job of this very file that is done, or that a run may yet finish."""

    def completed(self, kind: JobKind, source: str) -> list[Job]:
        """The jobs of what stands at this path, as it is or was, that are complete or duplicates, oldest first."""

    def request(self, job_id: int) -> str:
        """What was asked for with the folder of a job; empty for others."""

    def last_request(self, user: str) -> str:
        """What the user asked for with the folder that was submitted last; empty where there was none."""

    def replaced(self, job: Job) -> list[Job]:
        """The jobs of the same path whose place this one takes: those of other files that stood there, if they are
        unfinished or held, and those that are being rolled back."""

    def in_states(self, states: Collection[JobState]) -> list[Job]:
        """The jobs in these states, oldest first."""

    def is_dead(self, job: Job) -> bool:
        """Whether the job's holder is dead, as far as this process knows."""

    def sources(self, job_id: int) -> list[str] | None:
        """Where the files of a move lay, in document order, while its ids are reserved; None for a bundle."""

    def mounts(self, job_id: int) -> list[Path]:
        """Where the file systems were mounted that the job's bundle or document, and the sources of a move, lay on."""

    def archive(self) -> str | None:
        """The identity of the archive that holds the jobs' files; empty where it had none yet when they were stored,
        None where none were."""

    def has_reserved(self, file_id: int) -> bool:
        """Whether a job has reserved the file's id."""

    def recorded(self, since: int = 0) -> Iterator[int]:
        """The ids of the jobs that are complete, from ``since`` on, lowest first."""

    def places(self, job_ids: Sequence[int]) -> dict[int, Place]:
        """Where those of the jobs that there are stand in the queues of several hosts; of none where one host has the
        store."""

    def queued(self) -> dict[str, int]:
        """How many jobs wait in each of the queues of several hosts in which any does; none where one host has the
        store."""

    def volume(self, since: int = 0) -> tuple[int, int]:
        """How many files, and bytes, the jobs have together that are complete, from ``since`` on."""

    def stages(self, job_id: int) -> dict[str, float]:
        """How many seconds the job spent in each stage that it has left."""

    def history(self, job_id: int) -> list[Line]:
        """What was told of the job, oldest first, as far as it is kept: not what the job itself says."""

    def stage_seconds(self) -> dict[str, float]:
        """How many seconds all jobs together spent in each stage, those too that were pruned since."""

    def tallies(self) -> dict[str, tuple[int, int, int]]:
        """How many jobs, files and bytes are waiting, running, complete, failed and discarded, or superseded."""

    def failures(self) -> list[tuple[str, str, int]]:
        """The stages and reasons (the first lines of their errors) of failed jobs, and how many; most first."""

    def reasons(self, most: int | None = None) -> list[Reason]:
        """Why jobs failed or are held, that of most jobs first; at most so many reasons.

        Reasons that differ only in what belongs to one job are one. One for which all jobs gave the same words is told
        in these, of others what they have in common.
        """

    def count_reasons(self) -> int:
        """How many reasons there are."""

    def by_day(self) -> dict[str, Activity]:
        """What was done on each day on which anything was, the first one first: the day of a job's last change."""

    def by_user(self) -> dict[str, Activity]:
        """What was done for each user, most bytes first."""

    def flow(self, since: datetime, step: timedelta) -> Flow:
        """How many jobs came and went in each ``step`` from ``since`` on, in UTC, until now."""

    def count(self) -> int:
        """How many jobs there are."""

    def count_unfinished(self) -> int:
        """How many jobs wait or run."""

    def settled_before(self, moment: datetime, *, after: int = 0, limit: int | None = None) -> list[Job]:
        """The first jobs with ids above ``after`` that were settled before ``moment``, in UTC, and that no other job
        refers to; lowest id first, at most ``limit`` of them."""

    def imported(self, job_id: int) -> ImportedJob | None:
        """The job of the service that was here before, where one of this id was imported."""

    def check_integrity(self) -> str:
        """Check that the store can be written, and return what is wrong with it; empty where nothing is."""

    # What anyone may do

    def submit(
        self,
        job_id: int,
        *,
        kind: JobKind,
        source: str,
        fingerprint: str,
        user: str,
        holder: Process | None,
        spooled: bool = False,
        mounts: Collection[Path] = (),
        origin: str = "",
        request: str = "",
    ) -> Job:
        """Add a new job, which is queued, or held by ``holder`` from the start. The ``origin`` of a
        ``spooled`` file is what it was made of; the ``request`` is that of a folder's job."""

    def lease(self, job_id: int) -> Job:
        """Become the holder of a job that is queued, or whose holder is dead. Raises JobBusy while it has another."""

    def lease_next(self) -> Job | None:
        """Become the holder of the next job in the queue; None where none is waiting.

        Jobs with the fewest attempts come first, then the oldest, so that a job that kills its workers does not block
        the others; of those that were deferred the one that was due first. A job whose attempts are used up is settled.
        """

    def retry(self, job_id: int) -> Job:
        """Queue a job that failed or is held again; one that is unfinished, or done, is left as it is."""

    def hasten(self, job_id: int) -> Job:
        """Have a deferred job wait no longer: it is run as soon as a worker is free. Raises WrongState."""

    def prioritize(self, job_id: int, priority: int) -> Job:
        """Give an unfinished job another priority. Raises WrongState, and SettingsError where one host has the
        store, which knows no priorities."""

    def end(
        self, job_id: int, to: JobState, *, holder: Process | None, override: Override | None = None, reason: str = ""
    ) -> Job:
        """Settle a job that nobody works on in the state ``to``: at once where nothing is reserved, else by undoing it.

        A job that is undoing is held by ``holder``, which must roll it back, or waits in the queue. The job keeps the
        reason for an earlier failure; else it gets that of the ``override``, or this one.
        Raises JobBusy while its holder lives.
        """

    def override(self, job_id: int, override: Override) -> Job:
        """Override the job's state by hand; a holder carries it out."""

    def cancel(self, job_id: int, override: Override) -> Job:
        """Override the state of a job that is running: its holder carries it out. Raises WrongState."""

    def forget(self, job_ids: Sequence[int]) -> list[int]:
        """Remove those of the jobs that are still settled, and return their ids."""

    def note_archive(self, identity: str) -> None:
        """Note the identity of the archive that holds the jobs' files, durably; in place of an earlier one."""

    def take_in(self, jobs: Sequence[ImportedJob]) -> Taken:
        """Keep jobs of the service that was here before, lowest id first, in place of what is kept of them.

        An id under which the store has a job of its own stays that job's.
        """

    # What a holder may do

    def held(self, fence: Fence) -> Job:
        """The job, or LeaseLost where this run no longer holds it."""

    def heartbeat(self, fence: Fence, task_percent: float) -> Override | None:
        """Record that the run is alive and its progress; return an administrator's override, if there is one."""

    def enter(self, fence: Fence, task: str) -> None:
        """Note the stage that the run enters."""

    def record_stage_time(self, fence: Fence, task: str, seconds: float) -> None:
        """Note how long a stage took."""

    def tell(self, fence: Fence, texts: Sequence[str]) -> None:
        """Keep what the run has told: warnings, and what else a person may like to know of the job."""

    def identify(self, fence: Fence, digest: str, files: int, total_bytes: int) -> Job | None:
        """Note what the job's document is, and find the other job of the same document that matters, if there is one.

        That is one that is complete, or running, or has reserved ids, in this order.
        """

    def admit(self, fence: Fence, project: str, most: int) -> bool:
        """Note the project of the job; whether fewer than ``most`` others of it are at work, on all hosts.

        Where the job is not admitted, the run defers it. A store of one host admits every job: its workers are few.
        """

    def reserve(self, fence: Fence, ids: range, sources: list[str] | None, mounts: Collection[Path] = ()) -> Job:
        """Note the ids reserved for the job's files, durably; ``sources`` are where those of a move lie, on the file
        systems at ``mounts``."""

    def checkpoint(self, fence: Fence, stored: int) -> None:
        """Note that the first ``stored`` files are durable in the archive."""

    def supersede(self, fence: Fence, other: Job) -> Job:
        """Make what ``other``, of the same document, has reserved and stored this job's.

        Returns this job, with a fence above those of both. Raises WrongState where ``other`` has changed since.
        """

    def requeue(self, fence: Fence) -> None:
        """Release the job, for another run to resume it."""

    def defer(self, fence: Fence, task: str, reason: str, seconds: float, *, is_attempt: bool = True) -> None:
        """Release the job, to be retried in so many seconds. Its ``waits`` count the runs that were no attempts."""

    def exhaust(self, fence: Fence, task: str, reason: str) -> None:
        """Settle a job whose attempts are used up: held where ids are reserved, else failed."""

    def undo(self, fence: Fence, to: JobState, task: str, reason: str, *, successor: int | None = None) -> Job:
        """Settle the job in the state ``to``: at once where nothing is reserved, else once it is rolled back.

        Durable on return, and from then on no run counts on what is stored.
        """

    def rolled_back(self, fence: Fence) -> Job:
        """Note that the job is rolled back, durably: it is settled in the state that `undo` named."""

    def hold(self, fence: Fence, note: str) -> Job:
        """Note what could not be rolled back: ``note`` is added below the reason for rolling back."""

    def record(self, fence: Fence) -> Job:
        """Note that the catalogue has recorded the job: it is complete."""


def open_store(settings: Settings, *, new: bool = True, shared: Shared | None = None) -> JobStore:
    """The site's job store; a ``new`` one is made where there is none yet. Threads write to a ``shared`` one together.

    Raises SettingsError where there is none and none may be made, ResourceUnavailable where it cannot be used now, and
    StoreError.
    """
    if isinstance(settings.database, PostgresUrl):
        from .postgres import PostgresJobStore
        from .postgres_connections import pool_of

        pool = pool_of(settings.database, shared)
        return PostgresJobStore(pool, settings.timings, settings.notifications, cluster=settings.cluster, new=new)
    from .neighbours import introduce, is_to_be_made
    from .sqlite import SqliteJobStore

    new = is_to_be_made(settings, DATABASE, new=new, shared=shared)
    store = SqliteJobStore(settings.database, settings.timings, settings.notifications, new=new, shared=shared)
    introduce(settings, DATABASE, shared)
    return store


def is_current(settings: Settings) -> bool:
    """Whether the site's job store is there, and as this version of the program leaves it. Nothing is changed.

    Raises ResourceUnavailable where it cannot be read now, and StoreError.
    """
    if isinstance(settings.database, PostgresUrl):
        from . import postgres_connections, postgres_database, postgres_migrations

        pool = postgres_connections.pool_of(settings.database)
        return postgres_database.version_of(pool, "job store") == len(postgres_migrations.MIGRATIONS)
    from .sqlite_database import version_of
    from .sqlite_migrations import MIGRATIONS

    return version_of(settings.database, "job store") == len(MIGRATIONS)

"""Jobs and their store: one SQLite database that any number of processes share. All SQL about jobs is here."""

import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .database import open_database, reading, writing
from .errors import JobBusy, JobNotFound, JobNotRecorded, JobStopped, JobTakenOver, StoreError

# A worker says every BEAT_SECONDS that it lives; one that was silent for STALE_SECONDS is taken for dead.
BEAT_SECONDS = 1.0
STALE_SECONDS = 30.0
# How often a job of the queue is run that services fail, or whose runs are cut off, before it counts as failed.
MAX_RUNS = 20
FIRST_REST_SECONDS = 10.0
LONGEST_REST_SECONDS = 600.0

MIGRATIONS = (
    """
    CREATE TABLE jobs (
        job_id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        source TEXT NOT NULL,
        stamp TEXT NOT NULL,
        user TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'OK',
        task TEXT NOT NULL DEFAULT 'UPLOADING',
        task_percent REAL NOT NULL DEFAULT 0,
        exception TEXT NOT NULL DEFAULT '',
        created TEXT NOT NULL,
        updated TEXT NOT NULL,
        digest TEXT,
        first_file_id INTEGER,
        stored INTEGER NOT NULL DEFAULT 0,
        recorded INTEGER NOT NULL DEFAULT 0,
        resumable INTEGER NOT NULL DEFAULT 1,
        duplicate_of INTEGER,
        worker TEXT,
        beat REAL NOT NULL DEFAULT 0);
    CREATE INDEX jobs_source ON jobs(source);
    CREATE INDEX jobs_digest ON jobs(digest)
    """,
    "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    """
    ALTER TABLE jobs ADD COLUMN not_before REAL NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN spooled INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN files INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN entered REAL NOT NULL DEFAULT 0;
    CREATE TABLE stages (
        job_id INTEGER NOT NULL,
        task TEXT NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (job_id, task)) WITHOUT ROWID;
    CREATE INDEX jobs_queue ON jobs(attempts, created, job_id) WHERE state = 'OK' AND resumable AND NOT recorded
    """,
)


class JobKind(StrEnum):
    """What a job is made of."""

    BUNDLE = "bundle"
    MOVE = "move"


class JobState(StrEnum):
    """The states that Pacifica's clients know."""

    OK = "OK"  # waiting, running or complete
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job as it stands in the store.

    ``source`` is the bundle's or document's path and ``stamp`` its identity on disk; ``spooled`` says that it is ours,
    to be removed when the job is complete; ``files`` and ``bytes`` are what the document lists, once it was read;
    ``stored`` counts the files, in document order, that are durably in the archive under ids from ``first_file_id`` on;
    ``recorded`` says that the catalogue holds the transaction; ``resumable`` that another run may go on with it;
    ``attempts`` counts the runs that were begun; the queue does not give it out ``not_before``; ``entered`` is when
    the stage at hand was entered, else 0. Both are seconds since 1970, the other times are UTC.
    """

    job_id: int
    kind: JobKind
    source: str
    stamp: str
    user: str
    state: JobState
    task: str
    task_percent: float
    exception: str
    created: str
    updated: str
    digest: str | None
    first_file_id: int | None
    stored: int
    recorded: bool
    resumable: bool
    duplicate_of: int | None
    worker: str | None
    beat: float
    attempts: int
    not_before: float
    spooled: bool
    files: int
    bytes: int
    entered: float

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> "Job":
        """A job from its row."""
        columns = dict(zip(row.keys(), row, strict=True))
        flags = {name: bool(columns[name]) for name in ("recorded", "resumable", "spooled")}
        kinds = {"kind": JobKind(columns["kind"]), "state": JobState(columns["state"])}
        return cls(**{**columns, **flags, **kinds})

    @property
    def complete(self) -> bool:
        """Whether clients may take the job for done."""
        return self.state is JobState.OK and self.task == "ingest metadata" and self.task_percent == 100

    def as_state(self) -> dict[str, Any]:
        """The object that Pacifica's ``get_state`` answers with: eight keys, the percent a string, times UTC."""
        return {
            "job_id": self.job_id,
            "state": str(self.state),
            "task": self.task,
            "task_percent": f"{self.task_percent:.5f}",
            "complete": self.complete,
            "updated": self.updated,
            "created": self.created,
            "exception": self.exception,
        }


class JobStore:
    """The database of jobs at ``path``. One instance belongs to one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = open_database(path, MIGRATIONS, "job store")
        self._database.conn.row_factory = sqlite3.Row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def get(self, job_id: int) -> Job:
        """The job, or JobNotFound."""
        row = self._one("SELECT * FROM jobs WHERE job_id = ?", job_id)
        if row is None:
            raise JobNotFound(f"there is no job {job_id} in {self.path}")
        return Job.from_row(row)

    def newest(self, count: int) -> list[Job]:
        """The ``count`` jobs begun last, newest first."""
        with reading(self._database) as connection:
            rows = connection.execute("SELECT * FROM jobs ORDER BY created DESC, job_id DESC LIMIT ?", [count])
            return [Job.from_row(row) for row in rows]

    def stages(self, job_id: int) -> dict[str, float]:
        """How many seconds the job spent in each stage that it has left."""
        rows = self._database.conn.execute("SELECT task, seconds FROM stages WHERE job_id = ?", [job_id])
        return dict(tuple(row) for row in rows)

    def stage_seconds(self) -> dict[str, float]:
        """How many seconds all jobs together spent in each stage."""
        return dict(
            tuple(row) for row in self._database.conn.execute("SELECT task, SUM(seconds) FROM stages GROUP BY 1")
        )

    def tallies(self) -> dict[str, tuple[int, int, int]]:
        """How many jobs, files and bytes are waiting, running, complete and failed."""
        rows = self._database.conn.execute(
            "SELECT CASE WHEN state = 'FAILED' THEN 'failed' WHEN recorded OR duplicate_of THEN 'complete'"
            " WHEN worker IS NULL THEN 'waiting' ELSE 'running' END, COUNT(*), SUM(files), SUM(bytes)"
            " FROM jobs GROUP BY 1"
        )
        counted = {name: (count, files, size) for name, count, files, size in map(tuple, rows)}
        return {name: counted.get(name, (0, 0, 0)) for name in ("waiting", "running", "complete", "failed")}

    def failures(self) -> list[tuple[str, str, int]]:
        """The stages and reasons (the first lines of their errors) of failed jobs, and how many; most first."""
        rows = self._database.conn.execute(
            "SELECT task, substr(exception, 1, instr(exception || char(10), char(10)) - 1) AS reason, COUNT(*)"
            " FROM jobs WHERE state = 'FAILED' GROUP BY task, reason ORDER BY COUNT(*) DESC, task, reason"
        )
        return [(str(task), str(reason), int(count)) for task, reason, count in rows]

    def settled_before(self, moment: datetime) -> list[Job]:
        """The jobs that came to their end before ``moment``, a time of UTC, and that nothing can be gone on with."""
        rows = self._database.conn.execute(
            "SELECT * FROM jobs WHERE updated < ?"
            " AND (recorded OR worker IS NULL AND NOT resumable AND first_file_id IS NULL) ORDER BY job_id",
            [_text_of(moment)],
        )
        return [Job.from_row(row) for row in rows]

    def forget(self, job_ids: Iterable[int]) -> None:
        """Remove the rows of jobs."""
        ids = [(job_id,) for job_id in job_ids]
        with writing(self._database) as connection:
            connection.executemany("DELETE FROM stages WHERE job_id = ?", ids)
            connection.executemany("DELETE FROM jobs WHERE job_id = ?", ids)

    def of_source(self, source: Path) -> Job | None:
        """The newest job of the file at this path, if there is one."""
        row = self._one("SELECT * FROM jobs WHERE source = ? ORDER BY job_id DESC LIMIT 1", str(source))
        return Job.from_row(row) if row is not None else None

    def recorded(self, since: int = 0) -> Iterator[int]:
        """The ids of the jobs that the catalogue holds, from ``since`` on, lowest first."""
        rows = self._database.conn.execute(
            "SELECT job_id FROM jobs WHERE recorded AND job_id >= ? ORDER BY job_id", [since]
        )
        return (int(row[0]) for row in rows)

    def has_reserved(self, file_id: int) -> bool:
        """Whether a job that is not recorded has reserved the file's id."""
        row = self._one(
            "SELECT 1 FROM jobs WHERE NOT recorded AND first_file_id <= ? AND ? < first_file_id + max(files, 1)",
            file_id,
            file_id,
        )
        return row is not None

    def count_waiting(self) -> int:
        """How many jobs wait or run."""
        row = self._one("SELECT COUNT(*) FROM jobs WHERE state = 'OK' AND resumable AND NOT recorded")
        return int(row[0]) if row is not None else 0

    def count(self) -> int:
        """How many jobs there are."""
        with reading(self._database):
            return self._database.table("jobs").count

    def examine(self) -> str:
        """What SQLite finds wrong with the database, having seen that it can be written; empty where nothing is."""
        with writing(self._database) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
        return "" if found == ["ok"] else "; ".join(found)

    def failed(self) -> list[Job]:
        """The jobs that failed, oldest first."""
        with reading(self._database) as connection:
            rows = connection.execute(
                "SELECT * FROM jobs WHERE state = 'FAILED' AND NOT recorded ORDER BY created, job_id"
            )
            return [Job.from_row(row) for row in rows]

    def find(self, kind: JobKind, source: str, stamp: str) -> Job | None:
        """The newest job of this very file that is recorded, or that another run may go on with."""
        row = self._one(
            "SELECT * FROM jobs WHERE source = ? AND stamp = ? AND kind = ? AND (resumable OR recorded)"
            " ORDER BY job_id DESC LIMIT 1",
            source,
            stamp,
            kind,
        )
        return Job.from_row(row) if row is not None else None

    def submit(
        self,
        job_id: int,
        *,
        kind: JobKind,
        source: str,
        stamp: str,
        user: str,
        queued: bool,
        spooled: bool = False,
    ) -> Job:
        """Enter a new job: ``queued`` for whoever comes first, else as this process's own."""
        now = _now()
        worker, beat = (None, 0.0) if queued else (worker_name(), time.time())
        try:
            with writing(self._database) as connection:
                connection.execute(
                    "INSERT INTO jobs (job_id, kind, source, stamp, user, created, updated, worker, beat, spooled)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (job_id, kind, source, stamp, user, now, now, worker, beat, spooled),
                )
        except sqlite3.IntegrityError as error:
            raise StoreError(f"{self.path} holds a job {job_id} already; are its ids from another id store?") from error
        return self.get(job_id)

    def claim(self, job_id: int) -> Job:
        """Make the job this process's own, or raise JobBusy while another process has it."""
        with writing(self._database, durable=False) as connection:
            job = self.get(job_id)
            if job.worker is not None and job.worker != worker_name() and is_alive(job):
                raise JobBusy(f"job {job_id} is being worked on by {job.worker}")
            _take(connection, job_id)
        return self.get(job_id)

    def claim_next(self) -> Job | None:
        """Claim the job whose turn it is; None where none waits.

        Those that were run least come first, then the oldest: a job that ends its workers holds up no other. One whose
        runs were cut off MAX_RUNS times is settled as failed.
        """
        if next(self._waiting(), None) is None:
            return None
        with writing(self._database, durable=False) as connection:
            job = next(self._waiting(), None)
            if job is not None and job.attempts >= MAX_RUNS:
                why = f"{job.attempts} runs were cut off; 'ingest retry {job.job_id}' runs it again"
                connection.execute(
                    "UPDATE jobs SET state = 'FAILED', worker = NULL, exception = ?, updated = ? WHERE job_id = ?",
                    (why, _now(), job.job_id),
                )
                return None
            if job is not None:
                _take(connection, job.job_id)
        return None if job is None else self.get(job.job_id)

    def _waiting(self) -> Iterator[Job]:
        rows = self._database.conn.execute(
            "SELECT * FROM jobs WHERE state = 'OK' AND resumable AND NOT recorded AND not_before <= ?"
            " ORDER BY attempts, created, job_id",
            (time.time(),),
        )
        return (job for job in map(Job.from_row, rows) if not is_alive(job))

    def beat(self, job_id: int, task_percent: float) -> None:
        """Say that this process lives and how far it is. Raises JobStopped where the job is no longer its own."""
        self._update_own(job_id, "beat = ?, task_percent = ?", time.time(), task_percent)

    def enter(self, job_id: int, task: str) -> None:
        """Note the stage that the job enters."""
        self._leave_stage(job_id, "task = ?, task_percent = 0", task, entered=time.time(), durable=False)

    def plan(self, job_id: int, files: int, total_bytes: int) -> None:
        """Note what the job's document lists."""
        self._update_own(job_id, "files = ?, bytes = ?", files, total_bytes)

    def reserve(self, job_id: int, first_file_id: int) -> None:
        """Note the ids reserved for the job's files."""
        self._update_own(job_id, "first_file_id = ?, stored = 0", first_file_id, durable=True)

    def checkpoint(self, job_id: int, stored: int) -> None:
        """Note how many files are durable."""
        # A number that is lost costs time; the 0 comes before files are taken back, and must not.
        self._update_own(job_id, "stored = ?", stored, durable=stored == 0)

    def complete(self, job_id: int, *, duplicate_of: int | None = None) -> None:
        """Settle the job: the catalogue holds it, or (``duplicate_of``) it holds another job of the same bundle."""
        self._leave_stage(
            job_id,
            "task = 'ingest metadata', task_percent = 100, recorded = ?, resumable = 0, duplicate_of = ?,"
            " worker = NULL",
            duplicate_of is None,
            duplicate_of,
        )

    def fail(self, job_id: int, task: str, exception: str, *, resumable: bool) -> None:
        """Settle the job as failed in a stage."""
        self._leave_stage(
            job_id,
            "state = 'FAILED', task = ?, task_percent = 0, exception = ?, resumable = ?, worker = NULL",
            task,
            exception,
            resumable,
        )

    def put_off(self, job: Job, task: str, exception: str) -> None:
        """Give the job back to the queue after a failure that may pass, to rest twice as long each time."""
        rest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0 ** (job.attempts - 1))
        self._leave_stage(
            job.job_id,
            "task = ?, task_percent = 0, exception = ?, not_before = ?, worker = NULL",
            task,
            exception,
            time.time() + rest,
        )

    def recorded_after_all(self, job_id: int) -> None:
        """Note that the catalogue holds a job that an administrator settled while it was recorded there."""
        with writing(self._database) as connection:
            connection.execute(
                "UPDATE jobs SET recorded = 1, resumable = 0, updated = ? WHERE job_id = ?", (_now(), job_id)
            )

    def release(self, job_id: int) -> None:
        """Give up the claim and leave the job as it stands, for another run to go on with."""
        self._leave_stage(job_id, "worker = NULL")

    def taken_back(self, job_id: int) -> None:
        """Note that the archive holds nothing of the job any more; said also of a job that was stopped.

        One that is still claimed stays resumable until it is settled: a kill must not leave it neither.
        """
        with writing(self._database) as connection:
            connection.execute(
                "UPDATE jobs SET first_file_id = NULL, stored = 0, resumable = worker IS NOT NULL, updated = ?"
                " WHERE job_id = ?",
                (_now(), job_id),
            )

    def set_state(self, job_id: int, state: JobState, task: str, task_percent: float, exception: str) -> Job:
        """An administrator's word. A process that works on the job stops as soon as it notices.

        Raises JobNotRecorded rather than call complete what the catalogue does not hold.
        """
        with writing(self._database) as connection:
            job = self.get(job_id)
            wished = replace(job, state=state, task=task, task_percent=task_percent)
            if wished.complete and not (job.recorded or job.duplicate_of):
                raise JobNotRecorded(f"job {job_id} cannot be called complete: the catalogue does not hold it")
            connection.execute(
                "UPDATE jobs SET state = ?, task = ?, task_percent = ?, exception = ?, worker = NULL, updated = ?"
                " WHERE job_id = ?",
                (state, task, task_percent, exception, _now(), job_id),
            )
        return self.get(job_id)

    def identify(self, job_id: int, digest: str) -> Job | None:
        """Note the document's digest. The other job of the same document that matters, if there is one.

        That is one that is recorded, or is being worked on, or has reserved ids, in this order.
        """
        with writing(self._database, durable=False):
            row = self._one(
                "SELECT * FROM jobs WHERE digest = ? AND job_id <> ? AND"
                " (recorded OR worker IS NOT NULL OR first_file_id IS NOT NULL)"
                " ORDER BY recorded DESC, worker IS NULL, job_id LIMIT 1",
                digest,
                job_id,
            )
            self._set_own(job_id, "digest = ?", digest)
        return Job.from_row(row) if row is not None else None

    def inherit(self, job_id: int, other: Job) -> Job:
        """Go on with the files that ``other``, a dead job of the same document, has stored; ``other`` is closed."""
        with writing(self._database) as connection:
            self._set_own(job_id, "first_file_id = ?, stored = ?", other.first_file_id, other.stored)
            connection.execute(
                "UPDATE jobs SET state = 'FAILED', exception = ?, first_file_id = NULL, stored = 0, resumable = 0,"
                " worker = NULL, updated = ? WHERE job_id = ?",
                (f"continued as job {job_id}", _now(), other.job_id),
            )
        return self.get(job_id)

    def _one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        with reading(self._database) as connection:
            row: sqlite3.Row | None = connection.execute(sql, values).fetchone()
        return row

    def _update_own(self, job_id: int, assignments: str, *values: Any, durable: bool = False) -> None:
        with writing(self._database, durable=durable):
            self._set_own(job_id, assignments, *values)

    def _leave_stage(
        self, job_id: int, assignments: str, *values: Any, entered: float = 0.0, durable: bool = True
    ) -> None:
        with writing(self._database, durable=durable) as connection:
            connection.execute(
                "INSERT INTO stages SELECT job_id, task, ? - entered FROM jobs"
                " WHERE job_id = ? AND worker = ? AND entered > 0"
                " ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds",
                (time.time(), job_id, worker_name()),
            )
            self._set_own(job_id, f"entered = ?, {assignments}", entered, *values)

    def _set_own(self, job_id: int, assignments: str, *values: Any) -> None:
        changed = self._database.conn.execute(
            f"UPDATE jobs SET {assignments}, updated = ? WHERE job_id = ? AND worker = ?",
            (*values, _now(), job_id, worker_name()),
        )
        if changed.rowcount == 0:
            found = self._one("SELECT worker FROM jobs WHERE job_id = ?", job_id)
            if found is not None and found["worker"] is not None:
                raise JobTakenOver(f"job {job_id} was taken over by {found['worker']}, since this process was silent")
            raise JobStopped(f"job {job_id} was settled by an administrator while it ran")


def _take(connection: sqlite3.Connection, job_id: int) -> None:
    # The percent too: with OK, the 100 of a job that an administrator failed would say complete.
    connection.execute(
        "UPDATE jobs SET worker = ?, beat = ?, state = 'OK', task_percent = 0, exception = '', resumable = 1,"
        " attempts = attempts + 1, not_before = 0, entered = 0, updated = ? WHERE job_id = ?",
        (worker_name(), time.time(), _now(), job_id),
    )


def worker_name() -> str:
    """This process, as ``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_alive(job: Job) -> bool:
    """Whether the process that claimed the job still lives, as far as can be seen from here."""
    if job.worker is None or time.time() - job.beat > STALE_SECONDS:
        return False
    host, _, pid = job.worker.rpartition(":")
    return host != socket.gethostname() or _process_exists(int(pid))


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now() -> str:
    return _text_of(datetime.now(UTC))


def _text_of(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")

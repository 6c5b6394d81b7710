"""The job store in one SQLite database: how jobs are submitted, leased, changed and removed."""

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ..errors import JobBusy, StoreError, WrongState
from ..text import counted, one_line, story
from .database import writing
from .history import befell, keep
from .imported import ImportedJob, Taken
from .job import UNFINISHED, Fence, Job, JobKind, JobState, Override, PacificaState
from .outbox import announce, kind_of
from .process import Life, Process, this_process
from .sqlite_queries import MOST_ASKED, SETTLED, SqliteQueries
from .sqlite_queue import SqliteQueue
from .sqlite_rows import SELECT, imported_job_of, listed, now_text, override_text
from .stages import INGEST_METADATA
from .transitions import TRANSITIONS, Event

# A document may have been ingested again and again; of its jobs at work there are few.
MOST_OTHERS = 100
BY_HAND = "failed by an administrator"


class SqliteJobStore(SqliteQueries, SqliteQueue):
    """The store in the database at ``path``; what it promises is said in `store.JobStore`. Raises StoreError."""

    def another(self) -> "SqliteJobStore":
        """A connection of its own to the same database."""
        return SqliteJobStore(self.path, self._timings, self._notifications, new=False, shared=self._shared)

    @contextmanager
    def together(self, *, durable: bool = True) -> Iterator[None]:
        """Make the changes in a block one."""
        with writing(self._database, durable=durable):
            yield

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
        mounts: Iterable[Path] = (),
        origin: str = "",
        request: str = "",
    ) -> Job:
        """Add a new job."""
        now, run = now_text(), holder is not None
        row = {
            "job_id": job_id,
            "kind": kind,
            "source": source,
            "fingerprint": fingerprint,
            "user": user,
            "spooled": spooled,
            "origin": origin,
            "state": JobState.RUNNING if run else JobState.QUEUED,
            "created": now,
            "updated": now,
            "began": now if run else "",
            "fence": int(run),
            "attempts": int(run),
            "holder": holder.to_text() if holder is not None else None,
        }
        try:
            with writing(self._database) as connection:
                if self.imported(job_id) is not None:
                    raise self._already_holds(job_id)
                connection.execute(
                    f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
                )
                _note_mounts(connection, job_id, mounts)
                if request:
                    connection.execute("INSERT INTO requests VALUES (?, ?)", (job_id, request))
        except sqlite3.IntegrityError as error:
            raise self._already_holds(job_id) from error
        return self.get(job_id)

    def lease(self, job_id: int) -> Job:
        """Become the holder of a job."""
        self._require_dead(self.get(job_id))
        with writing(self._database, durable=False) as connection:
            job = self._free(job_id)
            return self._become_holder(connection, job)

    def lease_next(self) -> Job | None:
        """Become the holder of the next job in the queue."""
        while next(self._due(), None) is not None:
            with writing(self._database, durable=False) as connection:
                job = next(self._due(), None)
                if job is None:
                    return None
                if job.attempts < self._timings.runs or job.state is JobState.UNDOING:
                    return self._become_holder(connection, job)
                runs = counted(job.attempts, "time")
                why = f"run {runs} without finishing; 'ingest retry {job.job_id}' runs it again"
                self._exhaust(connection, job, job.task, job.exception or why)
        return None

    def retry(self, job_id: int) -> Job:
        """Queue a job that failed or is held again."""
        with writing(self._database) as connection:
            job = self.get(job_id)
            if job.state in TRANSITIONS[Event.RETRY].sources:
                attempts = 0 if job.attempts >= self._timings.attempts else job.attempts
                changes = {"attempts": attempts, "waits": 0, "retry_at": 0, "holder": None, "said": None}
                settled = {"undo_to": None, "successor": None}
                self._change(connection, Event.RETRY, job, {**changes, **settled}, to=JobState.QUEUED)
            elif job.state not in UNFINISHED and not job.is_done:
                raise WrongState(f"{_cannot(job, Event.RETRY)}; ingest its bundle as a new job")
        return self.get(job_id)

    def hasten(self, job_id: int) -> Job:
        """Have a deferred job wait no longer."""
        with writing(self._database) as connection:
            self._change(connection, Event.HASTEN, self.get(job_id), {"retry_at": 0})
        return self.get(job_id)

    def end(
        self, job_id: int, to: JobState, *, holder: Process | None, override: Override | None = None, reason: str = ""
    ) -> Job:
        """Settle a job that nobody works on."""
        self._require_dead(self.get(job_id))
        with writing(self._database) as connection:
            job = self._free(job_id)
            changes = {
                "said": override_text(override),
                "exception": job.exception or (reason if override is None else override.exception or BY_HAND),
                "holder": None,
                "retry_at": 0,
                "fence": job.fence_number + 1,
                "successor": job.successor if to is JobState.FAILED else None,
            }
            if job.reservation is None:
                event = Event.ABANDON if job.state is JobState.RUNNING else Event.DISCARD
                self._change(connection, event, job, changes, to=to)
            else:
                changes |= {"holder": holder.to_text() if holder is not None else None, "heartbeat": 0}
                self._end_by_undoing(connection, job, to, changes)
            return self.get(job_id)

    def override(self, job_id: int, override: Override) -> Job:
        """Override the job's state by hand; a holder carries it out."""
        return self._wish(Event.OVERRIDE, job_id, override)

    def cancel(self, job_id: int, override: Override) -> Job:
        """Override the state of a job that is running."""
        return self._wish(Event.CANCEL, job_id, override)

    def forget(self, job_ids: Sequence[int]) -> list[int]:
        """Remove those of the jobs that are still at their end."""
        gone: list[int] = []
        with writing(self._database) as connection:
            for first in range(0, len(job_ids), MOST_ASKED):
                asked = job_ids[first : first + MOST_ASKED]
                where = f"job_id IN ({', '.join('?' * len(asked))}) AND state IN ({listed(SETTLED)})"
                found = [row[0] for row in connection.execute(f"SELECT job_id FROM jobs WHERE {where}", asked)]
                for table in ("jobs", "stages", "mounts", "requests"):
                    marks = ", ".join("?" * len(found))
                    connection.execute(f"DELETE FROM {table} WHERE job_id IN ({marks})", found)
                gone += found
        return gone

    def note_archive(self, identity: str) -> None:
        """Note the identity of the archive."""
        with writing(self._database) as connection:
            connection.execute("DELETE FROM archive")
            connection.execute("INSERT INTO archive VALUES (?)", [identity])

    def take_in(self, jobs: Sequence[ImportedJob]) -> Taken:
        """Keep jobs of the service that was here before."""
        if not jobs:
            return Taken(0, 0, [])
        between = (jobs[0].job_id, jobs[-1].job_id)
        with writing(self._database) as connection:
            own = {
                row[0] for row in connection.execute("SELECT job_id FROM jobs WHERE job_id BETWEEN ? AND ?", between)
            }
            rows = connection.execute("SELECT * FROM imported WHERE job_id BETWEEN ? AND ?", between)
            known = {row["job_id"]: imported_job_of(row) for row in rows}
            wanted = [job for job in jobs if job.job_id not in own and known.get(job.job_id) != job]
            connection.executemany(
                "INSERT OR REPLACE INTO imported VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(astuple, wanted)
            )
        new = sum(job.job_id not in known for job in wanted)
        return Taken(new, len(wanted) - new, [job.job_id for job in jobs if job.job_id in own])

    def heartbeat(self, fence: Fence, task_percent: float) -> Override | None:
        """Record that the run is alive and its progress."""
        with writing(self._database, durable=False) as connection:
            number = self.held(fence).heartbeat + 1
            self._change(connection, Event.PROGRESS, fence, {"heartbeat": number, "task_percent": task_percent})
        # Asked by the fence once more: the process may have been frozen since, and another run have the job.
        return self.held(fence).override

    def enter(self, fence: Fence, task: str) -> None:
        """Note the stage that the run enters."""
        with writing(self._database, durable=False) as connection:
            self._change(connection, Event.PROGRESS, fence, {"task": task, "task_percent": 0})

    def record_stage_time(self, fence: Fence, task: str, seconds: float) -> None:
        """Note how long a stage took."""
        with writing(self._database, durable=False) as connection:
            noted = connection.execute(
                "INSERT INTO stages SELECT job_id, ?, ? FROM jobs WHERE job_id = ? AND fence = ?"
                " ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds",
                (task, seconds, fence.job_id, fence.number),
            )
            if noted.rowcount == 0:
                self.held(fence)

    def tell(self, fence: Fence, texts: Sequence[str]) -> None:
        """Keep what the run has told."""
        with writing(self._database, durable=False) as connection:
            self.held(fence)
            keep(connection, fence.job_id, texts)

    def identify(self, fence: Fence, digest: str, files: int, total_bytes: int) -> Job | None:
        """Note what the job's document is, and find the other job of the same document that matters."""
        with writing(self._database, durable=False) as connection:
            others = self._all(
                f"{SELECT} WHERE digest = ? AND jobs.job_id <> ? AND (state IN ('complete', 'running')"
                " OR first_file_id IS NOT NULL AND state <> 'undoing')"
                " ORDER BY state = 'complete' DESC, jobs.job_id LIMIT ?",
                digest,
                fence.job_id,
                MOST_OTHERS,
            )
            known = self.held(fence).digest == digest
            changes = {"digest": digest, "files": files, "bytes": total_bytes}
            self._change(connection, Event.PROGRESS, fence, changes)
            if known:
                self._complete_reservation(connection, fence)

        def matters(other: Job) -> int:
            is_living = other.state is JobState.RUNNING and not self._liveness.is_dead(other)
            return 2 if other.state is JobState.COMPLETE else 1 if is_living else 0

        # Of those that are alike, the oldest.
        return max(others, key=matters, default=None)

    def reserve(self, fence: Fence, ids: range, sources: list[str] | None, mounts: Iterable[Path] = ()) -> Job:
        """Note the ids reserved for the job's files, durably."""
        packed = None if sources is None else zlib.compress(json.dumps(sources).encode(), 1)
        with writing(self._database) as connection:
            self._change(connection, Event.PROGRESS, fence, {})
            connection.execute(
                "INSERT INTO reservations VALUES (?, ?, ?, 0, ?)", (fence.job_id, ids.start, len(ids), packed)
            )
            _note_mounts(connection, fence.job_id, mounts)
            return self.held(fence)

    def checkpoint(self, fence: Fence, stored: int) -> None:
        """Note that the first ``stored`` files are durable in the archive."""
        # A number that a loss of power takes costs time, nothing else.
        with writing(self._database, durable=False) as connection:
            self._change(connection, Event.PROGRESS, fence, {})
            connection.execute("UPDATE reservations SET stored = ? WHERE job_id = ?", (stored, fence.job_id))

    def supersede(self, fence: Fence, other: Job) -> Job:
        """Make what ``other`` has reserved and stored this job's."""
        # The archive tells runs apart by their fences: among those of one reservation this must be the largest.
        number = max(fence.number, other.fence_number) + 1
        with writing(self._database) as connection:
            self._change(connection, Event.PROGRESS, fence, {"fence": number})
            found = self.get(other.job_id)
            if found.fence != other.fence:
                raise _wrong(found, Event.SUPERSEDE)
            self._change(
                connection,
                Event.SUPERSEDE,
                other,
                {
                    "fence": number,
                    "holder": None,
                    "successor": fence.job_id,
                    "exception": f"superseded by job {fence.job_id}, which has the same document",
                    "undo_to": None,
                    "said": None,
                },
                to=JobState.SUPERSEDED,
            )
            connection.execute("UPDATE reservations SET job_id = ? WHERE job_id = ?", (fence.job_id, other.job_id))
            _note_mounts(connection, fence.job_id, self.mounts(other.job_id))
            self._complete_reservation(connection, fence)
            return self.held(Fence(fence.job_id, number))

    def requeue(self, fence: Fence) -> None:
        """Release the job, for another run to resume it."""
        self._let_go(fence, Event.REQUEUE, {})

    def defer(self, fence: Fence, task: str, reason: str, seconds: float, *, is_attempt: bool = True) -> None:
        """Release the job, to be retried in so many seconds."""
        job = self.held(fence)
        counts = {"waits": 0} if is_attempt else {"attempts": max(0, job.attempts - 1), "waits": job.waits + 1}
        changes = {"task": task, "task_percent": 0, "exception": reason, "retry_at": time.time() + seconds}
        self._let_go(fence, Event.DEFER, {**changes, **counts})

    def exhaust(self, fence: Fence, task: str, reason: str) -> None:
        """Settle a job whose attempts are used up."""
        with writing(self._database) as connection:
            self._exhaust(connection, self.held(fence), task, reason)

    def undo(self, fence: Fence, to: JobState, task: str, reason: str, *, successor: int | None = None) -> Job:
        """The job is to end in the state ``to``."""
        with writing(self._database) as connection:
            job = self.held(fence)
            done = to is JobState.DUPLICATE
            changes: dict[str, Any] = {
                "task": INGEST_METADATA if done else task,
                "task_percent": 100 if done else 0,
                "exception": reason,
                "successor": successor,
                "said": _lasting(job.override),
            }
            if job.reservation is None:
                self._change(connection, Event.ABANDON, fence, {**changes, "holder": None}, to=to)
            else:
                self._change(connection, Event.UNDO, fence, {**changes, "undo_to": to}, to=JobState.UNDOING)
                connection.execute("UPDATE reservations SET stored = 0 WHERE job_id = ?", [fence.job_id])
            return self.held(fence)

    def rolled_back(self, fence: Fence) -> Job:
        """The archive holds nothing of the job."""
        with writing(self._database) as connection:
            job = self.held(fence)
            to = job.undo_to
            if to is None:
                raise _wrong(job, Event.ROLLED_BACK)
            self._change(connection, Event.ROLLED_BACK, fence, {"holder": None, "undo_to": None}, to=to)
            connection.execute("DELETE FROM reservations WHERE job_id = ?", [fence.job_id])
        return self.get(fence.job_id)

    def hold(self, fence: Fence, note: str) -> Job:
        """Something could not be rolled back."""
        with writing(self._database) as connection:
            job = self.held(fence)
            reason = "\n".join(filter(None, [job.exception, one_line(note)]))
            changes = {
                "said": _lasting(job.override),
                "holder": None,
                "undo_to": None,
                "exception": reason,
                "task_percent": 0,
                "successor": None,
            }
            self._change(connection, Event.HOLD, fence, changes, to=JobState.HELD)
        return self.get(fence.job_id)

    def record(self, fence: Fence) -> Job:
        """The catalogue has the job."""
        # A wish that came too late is dropped: what is complete is not to be sent again.
        changes = {"task": INGEST_METADATA, "task_percent": 100, "exception": "", "said": None}
        with writing(self._database) as connection:
            done = {**changes, "holder": None, "undo_to": None, "successor": None}
            self._change(connection, Event.RECORDED, fence, done, to=JobState.COMPLETE)
            connection.execute("DELETE FROM reservations WHERE job_id = ?", [fence.job_id])
        return self.get(fence.job_id)

    def _wish(self, event: Event, job_id: int, override: Override) -> Job:
        with writing(self._database) as connection:
            self._change(connection, event, self.get(job_id), {"said": override_text(override)})
        return self.get(job_id)

    def _already_holds(self, job_id: int) -> StoreError:
        return StoreError(f"{self.path} already holds a job {job_id}; do its ids come from another id store?")

    def _free(self, job_id: int) -> Job:
        """A job that nobody holds, or JobBusy."""
        job = self.get(job_id)
        if not self._liveness.is_dead(job):
            raise _busy(job)
        return job

    def _require_dead(self, job: Job) -> None:
        # Outside of a transaction, since this may wait for a heartbeat.
        if job.holder is not None and not self._liveness.is_dead_for_sure(job, self.get):
            raise _busy(self.get(job.job_id))

    def _become_holder(self, connection: sqlite3.Connection, job: Job) -> Job:
        """Make this process the holder."""
        changes: dict[str, Any] = {
            "fence": job.fence_number + 1,
            "attempts": job.attempts + 1,
            "began": now_text(),
            "holder": this_process().to_text(),
            "heartbeat": 0,
            "retry_at": 0,
        }
        if job.state is not JobState.UNDOING:
            changes |= {"task_percent": 0, "exception": ""}
        if not _is_to_fail(job):
            changes["said"] = None
        if job.state is JobState.QUEUED:
            self._change(connection, Event.LEASE, job, changes, to=JobState.RUNNING)
        else:
            self._change(connection, Event.LEASE_AGAIN, job, changes)
        return self.get(job.job_id)

    @staticmethod
    def _complete_reservation(connection: sqlite3.Connection, fence: Fence) -> None:
        # The first versions of the store did not note how many ids they reserved: of the same document it is its files.
        connection.execute(
            "UPDATE reservations SET count = max(count, (SELECT files FROM jobs WHERE job_id = ?)) WHERE job_id = ?",
            (fence.job_id, fence.job_id),
        )

    def _exhaust(self, connection: sqlite3.Connection, job: Job, task: str, reason: str) -> None:
        to = JobState.HELD if job.reservation is not None else JobState.FAILED
        changes = {"task": task, "task_percent": 0, "exception": reason, "holder": None, "retry_at": 0}
        changes["said"] = _lasting(job.override)
        self._change(connection, Event.EXHAUST, job, {**changes, "fence": job.fence_number + 1}, to=to)

    def _end_by_undoing(
        self, connection: sqlite3.Connection, job: Job, to: JobState, changes: Mapping[str, Any]
    ) -> None:
        if job.state is JobState.UNDOING:
            # It comes to the end that it was to come to already, unless it is discarded.
            end = job.undo_to if job.undo_to is not None and to is JobState.FAILED else to
            self._change(connection, Event.LEASE_AGAIN, job, {**changes, "undo_to": end})
        else:
            event = Event.UNDO if job.state is JobState.RUNNING else Event.DISCARD
            self._change(connection, event, job, {**changes, "undo_to": to}, to=JobState.UNDOING)
        connection.execute("UPDATE reservations SET stored = 0 WHERE job_id = ?", [job.job_id])

    def _let_go(self, fence: Fence, event: Event, changes: Mapping[str, Any]) -> None:
        with writing(self._database) as connection:
            job = self.held(fence)
            to = JobState.UNDOING if job.state is JobState.UNDOING else JobState.QUEUED
            # A wish that came too late for this run is the next one's.
            said = override_text(job.override) if _is_to_fail(job) else None
            self._change(connection, event, fence, {**changes, "holder": None, "said": said}, to=to)

    def _change(
        self,
        connection: sqlite3.Connection,
        event: Event,
        of: Job | Fence,
        changes: Mapping[str, Any],
        *,
        to: JobState | None = None,
    ) -> None:
        """One transition, in one statement that names the job, its fence, and the states that it may start from."""
        way = TRANSITIONS[event]
        assert to in way.targets if way.targets else to is None, f"{event} does not lead to {to}"
        fence = of if isinstance(of, Fence) else of.fence
        assigned = {**changes, "updated": now_text(), **({"state": to} if to is not None else {})}
        if "exception" in assigned:
            assigned["exception"] = story(assigned["exception"])
        changed = connection.execute(
            f"UPDATE jobs SET {', '.join(f'{column} = ?' for column in assigned)}"
            f" WHERE job_id = ? AND fence = ? AND state IN ({listed(way.sources)})",
            (*assigned.values(), fence.job_id, fence.number),
        )
        if changed.rowcount == 0:
            raise _wrong(self.held(fence), event)
        if (news := befell(event, to, assigned)) is not None:
            keep(connection, fence.job_id, [news])
        kind = kind_of(event, to)
        if kind in self._notifications.kinds:
            announce(connection, self.get(fence.job_id), kind, self._notifications.receivers)


def _note_mounts(connection: sqlite3.Connection, job_id: int, mounts: Iterable[Path]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO mounts VALUES (?, ?)", [(job_id, os.fsencode(mount)) for mount in mounts]
    )


def _is_to_fail(job: Job) -> bool:
    return job.override is not None and job.override.state is PacificaState.FAILED


def _lasting(override: Override | None) -> str | None:
    """What is kept of an administrator's override where a job fails: not that it is OK."""
    return override_text(override) if override is not None and override.state is PacificaState.FAILED else None


def _busy(job: Job) -> JobBusy:
    holder = job.holder
    stopped = ", which is stopped" if holder is not None and holder.life() is Life.STOPPED else ""
    return JobBusy(f"job {job.job_id} is being worked on by {holder}{stopped}")


def _wrong(job: Job, event: Event) -> WrongState:
    return WrongState(_cannot(job, event))


def _cannot(job: Job, event: Event) -> str:
    state = "being rolled back" if job.state is JobState.UNDOING else job.state
    return f"job {job.job_id} cannot be {TRANSITIONS[event].request}: it is {state}"

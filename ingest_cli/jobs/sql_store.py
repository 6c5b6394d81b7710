"""The job store in a database: how jobs are submitted, leased, settled and removed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ..errors import JobBusy, SettingsError, StoreError, WrongState
from ..text import counted
from .contention import again
from .database import Connection, writing
from .imported import ImportedJob, Taken
from .job import UNFINISHED, Fence, Job, JobKind, JobState, Override
from .process import Life, Process, this_process
from .sql_changes import cannot, is_to_fail, note_mounts
from .sql_queries import MOST_ASKED, SETTLED
from .sql_rows import IMPORTED, imported_job_of, listed, now_text, override_text
from .sql_runs import SqlRuns
from .transitions import TRANSITIONS, Event

BY_HAND = "failed by an administrator"
NO_PRIORITIES = "a priority needs a job store on PostgreSQL: that of one host runs the oldest job first"


class SqlJobStore(SqlRuns):
    """The store in an open database; what it promises is said in `store.JobStore`. Raises StoreError."""

    @contextmanager
    def together(self, *, durable: bool = True) -> Iterator[None]:
        """Make the changes in a block one."""
        with writing(self._database, durable=durable):
            yield

    @again
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
            **self._placed(kind, source),
        }
        with writing(self._database) as connection:
            columns = ", ".join(f'"{column}"' for column in row)
            entered = connection.execute(
                f"INSERT INTO jobs ({columns}) VALUES ({', '.join('?' * len(row))}) ON CONFLICT DO NOTHING",
                tuple(row.values()),
            )
            if entered.rowcount == 0 or self.imported(job_id) is not None:
                raise self._already_holds(job_id)
            note_mounts(connection, job_id, mounts)
            if request:
                connection.execute("INSERT INTO requests (job_id, request) VALUES (?, ?)", (job_id, request))
            if run:
                self._note_held(Fence(job_id, 1))
            self._tidy(connection, job_id)
        return self.get(job_id)

    @again
    def lease(self, job_id: int) -> Job:
        """Become the holder of a job."""
        with self._freed(job_id, durable=False) as (connection, job):
            return self._become_holder(connection, job)

    @again
    def lease_next(self) -> Job | None:
        """Become the holder of the next job in the queue."""
        while (due := next(self._due(), None)) is not None:
            self._hear(due)
            with writing(self._database, durable=False) as connection:
                job = next(filter(self._is_ours, self._due()), None)
                if job is None:
                    return None
                if (leased := self._begin(connection, job)) is not None:
                    return leased
        return None

    @again
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
                raise WrongState(f"{cannot(job, Event.RETRY)}; ingest its bundle as a new job")
        return self.get(job_id)

    @again
    def hasten(self, job_id: int) -> Job:
        """Have a deferred job wait no longer."""
        with writing(self._database) as connection:
            self._change(connection, Event.HASTEN, self.get(job_id), {"retry_at": 0})
        return self.get(job_id)

    def prioritize(self, job_id: int, priority: int) -> Job:  # noqa: ARG002 - whoever shares its jobs knows of any
        """Refuse to."""
        raise SettingsError(NO_PRIORITIES)

    @again
    def end(
        self, job_id: int, to: JobState, *, holder: Process | None, override: Override | None = None, reason: str = ""
    ) -> Job:
        """Settle a job that nobody works on."""
        with self._freed(job_id) as (connection, job):
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
            ended = self.get(job_id)
            if ended.holder is not None:
                self._note_held(ended.fence)
            return ended

    @again
    def override(self, job_id: int, override: Override) -> Job:
        """Override the job's state by hand; a holder carries it out."""
        return self._wish(Event.OVERRIDE, job_id, override)

    @again
    def cancel(self, job_id: int, override: Override) -> Job:
        """Override the state of a job that is running."""
        return self._wish(Event.CANCEL, job_id, override)

    @again
    def forget(self, job_ids: Sequence[int]) -> list[int]:
        """Remove those of the jobs that are still at their end."""
        gone: list[int] = []
        with writing(self._database) as connection:
            for first in range(0, len(job_ids), MOST_ASKED):
                asked = job_ids[first : first + MOST_ASKED]
                where = f"job_id IN ({', '.join('?' * len(asked))}) AND state IN ({listed(SETTLED)})"
                gone_now = connection.execute(f"DELETE FROM jobs WHERE {where} RETURNING job_id", asked).fetchall()
                found = sorted(row[0] for row in gone_now)
                for table in ("stages", "mounts", "requests") if found else ():
                    marks = ", ".join("?" * len(found))
                    connection.execute(f"DELETE FROM {table} WHERE job_id IN ({marks})", found)
                gone += found
        return gone

    def note_archive(self, identity: str) -> None:
        """Note the identity of the archive."""
        with writing(self._database) as connection:
            self._database.exclude("archive")
            connection.execute("DELETE FROM archive")
            connection.execute("INSERT INTO archive (identity) VALUES (?)", [identity])

    def take_in(self, jobs: Sequence[ImportedJob]) -> Taken:
        """Keep jobs of the service that was here before."""
        if not jobs:
            return Taken(0, 0, [])
        between = (jobs[0].job_id, jobs[-1].job_id)
        with writing(self._database) as connection:
            self._database.exclude("imported")
            own = {row[0] for row in self._rows("SELECT job_id FROM jobs WHERE job_id BETWEEN ? AND ?", *between)}
            rows = self._rows(f"SELECT {', '.join(IMPORTED)} FROM imported WHERE job_id BETWEEN ? AND ?", *between)
            known = {row["job_id"]: imported_job_of(row) for row in rows}
            wanted = [job for job in jobs if job.job_id not in own and known.get(job.job_id) != job]
            replaced = ", ".join(f"{column} = excluded.{column}" for column in IMPORTED[1:])
            connection.executemany(
                f"INSERT INTO imported ({', '.join(IMPORTED)}) VALUES ({', '.join('?' * len(IMPORTED))})"
                f" ON CONFLICT (job_id) DO UPDATE SET {replaced}",
                map(astuple, wanted),
            )
        new = sum(job.job_id not in known for job in wanted)
        return Taken(new, len(wanted) - new, [job.job_id for job in jobs if job.job_id in own])

    def _placed(self, kind: JobKind, source: str) -> dict[str, Any]:  # noqa: ARG002 - on one host it matters to nobody
        """What the row of a new job says of where it can be run."""
        return {}

    def _found_anew(self) -> dict[str, Any]:
        """The columns of what each run finds out for itself."""
        return {}

    def _begin(self, connection: Connection, job: Job) -> Job | None:
        """Become the holder of a job whose turn it is; where its attempts are used up it is settled instead."""
        if job.attempts < self._timings.runs or job.state is JobState.UNDOING:
            return self._become_holder(connection, job)
        runs = counted(job.attempts, "time")
        why = f"run {runs} without finishing; 'ingest retry {job.job_id}' runs it again"
        self._exhaust(connection, job, job.task, job.exception or why)
        return None

    def _wish(self, event: Event, job_id: int, override: Override) -> Job:
        with writing(self._database) as connection:
            self._change(connection, event, self.get(job_id), {"said": override_text(override)})
        return self.get(job_id)

    def _already_holds(self, job_id: int) -> StoreError:
        return StoreError(f"{self._database.name} already holds a job {job_id}; do its ids come from another id store?")

    def _tidy(self, connection: Connection, job_id: int) -> None:
        """Put in order what jobs have left, now and then, as the job is submitted."""

    def _note_held(self, fence: Fence) -> None:
        """This process is the holder by that fence, if the transaction is committed."""

    def _hear(self, job: Job) -> None:
        """Have the job's holder say that it lives, if it could not before, where nothing but its silence is known."""

    def _is_ours(self, job: Job) -> bool:
        """Whether the job is as it was, and nobody else can change it before the transaction ends."""
        is_locked = self._database.try_lock("jobs", "job_id", job.job_id)
        return is_locked and self.get(job.job_id) == job and self._liveness.is_dead(job)

    @contextmanager
    def _freed(self, job_id: int, *, durable: bool = True) -> Iterator[tuple[Connection, Job]]:
        """A transaction in which a job is had that nobody holds. Raises JobBusy."""
        while True:
            before = self.get(job_id)
            self._require_dead(before)
            self._hear(before)
            with writing(self._database, durable=durable) as connection:
                job = self.get(job_id)
                if self._liveness.is_dead(job):
                    yield connection, job
                    return
                if (job.fence, job.heartbeat) != (before.fence, before.heartbeat):
                    raise _busy(job)
                # While this was waited for, its holder could not say that it lives: it is waited for once more.

    def _require_dead(self, job: Job) -> None:
        # Outside of a transaction, since this may wait for a heartbeat.
        if job.holder is not None and not self._liveness.is_dead_for_sure(job, self.get):
            raise _busy(self.get(job.job_id))

    def _become_holder(self, connection: Connection, job: Job) -> Job:
        """Make this process the holder."""
        changes: dict[str, Any] = {
            "fence": job.fence_number + 1,
            "attempts": job.attempts + 1,
            "began": now_text(),
            "holder": this_process().to_text(),
            "heartbeat": 0,
            "retry_at": 0,
            **self._found_anew(),
        }
        if job.state is not JobState.UNDOING:
            changes |= {"task_percent": 0, "exception": ""}
        if not is_to_fail(job):
            changes["said"] = None
        if job.state is JobState.QUEUED:
            self._change(connection, Event.LEASE, job, changes, to=JobState.RUNNING)
        else:
            self._change(connection, Event.LEASE_AGAIN, job, changes)
        leased = self.get(job.job_id)
        self._note_held(leased.fence)
        return leased

    def _end_by_undoing(self, connection: Connection, job: Job, to: JobState, changes: Mapping[str, Any]) -> None:
        if job.state is JobState.UNDOING:
            # It comes to the end that it was to come to already, unless it is discarded.
            end = job.undo_to if job.undo_to is not None and to is JobState.FAILED else to
            self._change(connection, Event.LEASE_AGAIN, job, {**changes, "undo_to": end})
        else:
            event = Event.UNDO if job.state is JobState.RUNNING else Event.DISCARD
            self._change(connection, event, job, {**changes, "undo_to": to}, to=JobState.UNDOING)
        connection.execute("UPDATE reservations SET stored = 0 WHERE job_id = ?", [job.job_id])


def _busy(job: Job) -> JobBusy:
    holder = job.holder
    stopped = ", which is stopped" if holder is not None and holder.life() is Life.STOPPED else ""
    return JobBusy(f"job {job.job_id} is being worked on by {holder}{stopped}")

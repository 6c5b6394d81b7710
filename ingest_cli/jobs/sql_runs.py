"""What a run may do to its job in the store, by the fence that it holds."""

import json
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..text import one_line
from .contention import again
from .database import Connection, writing
from .history import keep
from .job import Fence, Job, JobState, Override
from .sql_changes import SqlChanges, is_to_fail, lasting, note_mounts, wrong
from .sql_rows import SELECT, override_text
from .stages import INGEST_METADATA
from .transitions import Event

# A document may have been ingested again and again; of its jobs at work there are few.
MOST_OTHERS = 100


class SqlRuns(SqlChanges):
    """What a run may do to the job that it holds."""

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
                "INSERT INTO stages (job_id, task, seconds)"
                " SELECT job_id, ?, ? FROM jobs WHERE job_id = ? AND fence = ?"
                " ON CONFLICT (job_id, task) DO UPDATE SET seconds = stages.seconds + excluded.seconds",
                (task, seconds, fence.job_id, fence.number),
            )
            if noted.rowcount == 0:
                self.held(fence)

    def tell(self, fence: Fence, texts: Sequence[str]) -> None:
        """Keep what the run has told."""
        with writing(self._database, durable=False) as connection:
            self.held(fence)
            keep(connection, fence.job_id, texts)

    @again
    def identify(self, fence: Fence, digest: str, files: int, total_bytes: int) -> Job | None:
        """Note what the job's document is, and find the other job of the same document that matters."""
        with writing(self._database, durable=False) as connection:
            self._database.exclude("digest", digest)
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

    def admit(self, fence: Fence, project: str, most: int) -> bool:  # noqa: ARG002 - the workers of a host are few
        """Admit it."""
        return True

    @again
    def reserve(self, fence: Fence, ids: range, sources: list[str] | None, mounts: Collection[Path] = ()) -> Job:
        """Note the ids reserved for the job's files, durably."""
        packed = None if sources is None else zlib.compress(json.dumps(sources).encode(), 1)
        with writing(self._database) as connection:
            self._change(connection, Event.PROGRESS, fence, {})
            connection.execute(
                "INSERT INTO reservations (job_id, first_file_id, count, stored, sources) VALUES (?, ?, ?, 0, ?)",
                (fence.job_id, ids.start, len(ids), packed),
            )
            note_mounts(connection, fence.job_id, mounts)
            return self.held(fence)

    def checkpoint(self, fence: Fence, stored: int) -> None:
        """Note that the first ``stored`` files are durable in the archive."""
        # A number that a loss of power takes costs time, nothing else.
        with writing(self._database, durable=False) as connection:
            self._change(connection, Event.PROGRESS, fence, {})
            connection.execute("UPDATE reservations SET stored = ? WHERE job_id = ?", (stored, fence.job_id))

    @again
    def supersede(self, fence: Fence, other: Job) -> Job:
        """Make what ``other`` has reserved and stored this job's."""
        # The archive tells runs apart by their fences: among those of one reservation this must be the largest.
        number = max(fence.number, other.fence_number) + 1
        with writing(self._database) as connection:
            self._database.lock("jobs", "job_id", [fence.job_id, other.job_id])
            self._change(connection, Event.PROGRESS, fence, {"fence": number})
            found = self.get(other.job_id)
            if found.fence != other.fence:
                raise wrong(found, Event.SUPERSEDE)
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
            note_mounts(connection, fence.job_id, self.mounts(other.job_id))
            self._complete_reservation(connection, fence)
            return self.held(Fence(fence.job_id, number))

    @again
    def requeue(self, fence: Fence) -> None:
        """Release the job, for another run to resume it."""
        self._let_go(fence, Event.REQUEUE, {})

    @again
    def defer(self, fence: Fence, task: str, reason: str, seconds: float, *, is_attempt: bool = True) -> None:
        """Release the job, to be retried in so many seconds."""
        job = self.held(fence)
        counts = {"waits": 0} if is_attempt else {"attempts": max(0, job.attempts - 1), "waits": job.waits + 1}
        changes = {"task": task, "task_percent": 0, "exception": reason, "retry_at": time.time() + seconds}
        self._let_go(fence, Event.DEFER, {**changes, **counts})

    @again
    def exhaust(self, fence: Fence, task: str, reason: str) -> None:
        """Settle a job whose attempts are used up."""
        with writing(self._database) as connection:
            self._exhaust(connection, self.held(fence), task, reason)

    @again
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
                "said": lasting(job.override),
            }
            if job.reservation is None:
                self._change(connection, Event.ABANDON, fence, {**changes, "holder": None}, to=to)
            else:
                self._change(connection, Event.UNDO, fence, {**changes, "undo_to": to}, to=JobState.UNDOING)
                connection.execute("UPDATE reservations SET stored = 0 WHERE job_id = ?", [fence.job_id])
            return self.held(fence)

    @again
    def rolled_back(self, fence: Fence) -> Job:
        """The archive holds nothing of the job."""
        with writing(self._database) as connection:
            job = self.held(fence)
            to = job.undo_to
            if to is None:
                raise wrong(job, Event.ROLLED_BACK)
            self._change(connection, Event.ROLLED_BACK, fence, {"holder": None, "undo_to": None}, to=to)
            connection.execute("DELETE FROM reservations WHERE job_id = ?", [fence.job_id])
        return self.get(fence.job_id)

    @again
    def hold(self, fence: Fence, note: str) -> Job:
        """Something could not be rolled back."""
        with writing(self._database) as connection:
            job = self.held(fence)
            reason = "\n".join(filter(None, [job.exception, one_line(note)]))
            changes = {
                "said": lasting(job.override),
                "holder": None,
                "undo_to": None,
                "exception": reason,
                "task_percent": 0,
                "successor": None,
            }
            self._change(connection, Event.HOLD, fence, changes, to=JobState.HELD)
        return self.get(fence.job_id)

    @again
    def record(self, fence: Fence) -> Job:
        """The catalogue has the job."""
        # A wish that came too late is dropped: what is complete is not to be sent again.
        changes = {"task": INGEST_METADATA, "task_percent": 100, "exception": "", "said": None}
        with writing(self._database) as connection:
            done = {**changes, "holder": None, "undo_to": None, "successor": None}
            self._change(connection, Event.RECORDED, fence, done, to=JobState.COMPLETE)
            connection.execute("DELETE FROM reservations WHERE job_id = ?", [fence.job_id])
        return self.get(fence.job_id)

    @staticmethod
    def _complete_reservation(connection: Connection, fence: Fence) -> None:
        # The first versions of the store did not note how many ids they reserved: of the same document it is its files.
        connection.execute(
            "UPDATE reservations SET count = (SELECT files FROM jobs WHERE job_id = ?)"
            " WHERE job_id = ? AND count < (SELECT files FROM jobs WHERE job_id = ?)",
            (fence.job_id, fence.job_id, fence.job_id),
        )

    def _let_go(self, fence: Fence, event: Event, changes: Mapping[str, Any]) -> None:
        with writing(self._database) as connection:
            job = self.held(fence)
            to = JobState.UNDOING if job.state is JobState.UNDOING else JobState.QUEUED
            # A wish that came too late for this run is the next one's.
            said = override_text(job.override) if is_to_fail(job) else None
            self._change(connection, event, fence, {**changes, "holder": None, "said": said}, to=to)

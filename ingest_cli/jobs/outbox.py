"""The outbox: events that wait to be sent, each for one receiver, and those that were.

An event is written in the transaction in which its job changes, and leaves the outbox only once its receiver has it:
it is sent at least once. Whoever sends one has a lease on it, which it renews, and which ends with the process.
"""

import heapq
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import itemgetter
from typing import Any

from ..settings import EventKind, ReceiverKind
from ..text import story
from .database import Connection, Database, Row, reading, writing
from .fields import job_fields
from .job import Job, JobState
from .process import Life, Process, this_process
from .sql_rows import ALL_ROWS, now_text, time_text
from .transitions import Event

# A lease that nobody was seen to renew for so long is nobody's; whoever has one renews it more often.
LEASE_SECONDS, RENEWAL_SECONDS = 300.0, 60.0
# The longest time to an attempt: a clock that was wrong must not have an event wait for ever.
LONGEST_WAIT_SECONDS = 3600.0
# By their names: what a newer version adds is nothing to a process that is at work meanwhile.
COLUMNS = (
    "number, job_id, run, kind, receiver, data, created, updated, status, attempts, retry_at, since, is_outage,"
    " is_hastened, reason, fence, holder"
)
MOST_SEEN = 1000
MOST_KEPT = 10_000
# Now and then, since it looks at all of them.
TIDIED_EVERY = 100


class NoticeStatus(StrEnum):
    """What has become of an event."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given up"


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """An event for one ``receiver``.

    ``run`` is the fence that the job had: with ``job_id`` and ``kind`` it names the event, for every receiver. ``data``
    is the job as Pacifica's clients saw it then. It came to be at ``created`` and changed at ``updated``, in UTC; it
    waits ``since`` so many seconds after 1970, and is not sent before ``retry_at``. ``reason`` is why the last attempt
    failed, and ``fence`` the number of the lease. One that ``is_hastened`` failed while the receiver seemed to be away,
    which took another one since.
    """

    number: int
    job_id: int
    run: int
    kind: EventKind
    receiver: ReceiverKind
    data: dict[str, Any]
    created: str
    updated: str
    status: NoticeStatus
    attempts: int
    retry_at: float
    since: float
    reason: str
    fence: int
    is_hastened: bool


def kind_of(event: Event, to: JobState | None) -> EventKind | None:
    """The kind of event that announces a transition; None where none does."""
    if event is Event.DEFER:
        return "deferred"
    if to is JobState.COMPLETE:
        return "ingest"
    return "failed" if to in (JobState.FAILED, JobState.HELD) else None


def announce(connection: Connection, job: Job, kind: EventKind, receivers: Collection[ReceiverKind]) -> None:
    """Put the event into the outbox, in a transaction of the caller's.

    A job that waits only to be rolled back is not deferred: what becomes of it is announced in the end.
    """
    if kind == "deferred" and not job.will_be_tried_again:
        return
    now, data = now_text(), json.dumps(job_fields(job))
    connection.executemany(
        "INSERT INTO outbox (job_id, run, kind, receiver, data, created, updated, since)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(job.job_id, job.fence_number, kind, receiver, data, now, now, time.time()) for receiver in receivers],
    )


class Outbox:
    """The outbox of the job store in ``database``, which ``is_local`` where only this machine can use it."""

    def __init__(self, database: Database, *, is_local: bool) -> None:
        self._database, self._is_local = database, is_local
        # What was seen of the leases of others, and since when, on this process's own clock.
        self._seen: dict[int, tuple[tuple[int, str], float]] = {}

    # For whoever sends

    def lease_next(self, receivers: Collection[ReceiverKind]) -> Notice | None:
        """Take the lease of the next event that is due for one of these ``receivers``; None where none is.

        An event waits for the earlier ones of its job.
        """
        if next(self._due(receivers), None) is None:
            return None
        with writing(self._database, durable=False) as connection:
            for row in self._due(receivers):
                # Another process may have been quicker.
                taken = connection.execute(
                    "UPDATE outbox SET fence = fence + 1, attempts = attempts + 1, holder = ?"
                    " WHERE number = ? AND fence = ? AND status = 'waiting'",
                    (this_process().to_text(), row["number"], row["fence"]),
                )
                if taken.rowcount:
                    return self._one(row["number"])
        return None

    def renew(self, notice: Notice) -> bool:
        """Say that it is still being sent; whether the lease has not been lost."""
        with writing(self._database, durable=False) as connection:
            renewed = connection.execute(
                "UPDATE outbox SET updated = ? WHERE number = ? AND fence = ? AND status = 'waiting'",
                (now_text(), notice.number, notice.fence),
            )
            return renewed.rowcount > 0

    def sent(self, notice: Notice) -> None:
        """The receiver has it; what it did not get while it was away, it is to get soon."""
        self._end(notice, NoticeStatus.SENT, "")
        if notice.number % TIDIED_EVERY == 0:
            self._tidy(notice.number - MOST_KEPT)
        with writing(self._database, durable=False) as connection:
            connection.execute(
                "UPDATE outbox INDEXED BY outbox_outage SET retry_at = 0, is_outage = false, is_hastened = true"
                " WHERE status = 'waiting' AND is_outage AND receiver = ?",
                [notice.receiver],
            )

    def has_outage(self, receiver: ReceiverKind) -> bool:
        """Whether it is known already that the receiver is away."""
        outage = "FROM outbox INDEXED BY outbox_outage WHERE status = 'waiting' AND is_outage AND receiver = ?"
        query = f"SELECT 1 {outage} LIMIT 1"
        return next(self._rows(query, receiver), None) is not None

    def retry(self, notice: Notice, reason: str, seconds: float, *, is_outage: bool) -> None:
        """It is to be sent again in so many seconds; sooner where ``is_outage`` and the receiver is back."""
        retry_at = time.time() + min(seconds, LONGEST_WAIT_SECONDS)
        self._let_go(notice, {"retry_at": retry_at, "is_outage": is_outage, "reason": story(reason)})

    def give_up(self, notice: Notice, reason: str) -> None:
        """It is not sent any more, unless someone asks for it."""
        self._end(notice, NoticeStatus.GIVEN_UP, reason)

    def release(self, notice: Notice) -> None:
        """It was not sent, and this was no attempt."""
        self._let_go(notice, {"attempts": max(0, notice.attempts - 1)})

    # For people

    def newest(
        self, count: int, *, job_id: int | None = None, statuses: Collection[NoticeStatus] = tuple(NoticeStatus)
    ) -> list[Notice]:
        """The newest ``count`` events, of one job or of all, the newest last."""
        # If it were the column itself, all of these statuses would be sorted.
        where = f"status || '' IN ({_listed(statuses)}) AND {'true' if job_id is None else 'job_id = ?'}"
        of_job = [] if job_id is None else [job_id]
        rows = self._rows(f"SELECT {COLUMNS} FROM outbox WHERE {where} ORDER BY number DESC LIMIT ?", *of_job, count)
        return list(map(_notice_of, rows))[::-1]

    def tallies(self, receiver: ReceiverKind | None = None) -> dict[NoticeStatus, int]:
        """How many events for a receiver, or for all, there are of each status."""
        where, values = _of(receiver)
        query = f"SELECT status, COUNT(*) FROM outbox WHERE {where} GROUP BY 1"
        found = dict(tuple(row) for row in self._rows(query, *values))
        return {status: found.get(status, 0) for status in NoticeStatus}

    def waiting(self, receiver: ReceiverKind | None = None) -> tuple[int, str | None]:
        """How many events wait for a receiver, or for all, and since when the oldest of them does, in UTC."""
        where, values = _of(receiver)
        query = f"SELECT COUNT(*), MIN(created) FROM outbox WHERE status = 'waiting' AND {where}"
        number, oldest = next(self._rows(query, *values))
        return int(number), oldest

    def oldest_waiting(self) -> str | None:
        """Since when the oldest event that waits does so, in UTC."""
        return self.waiting()[1]

    def resend(self, numbers: Collection[int]) -> list[int]:
        """Have these events sent, again or soon; those that there are."""
        found = []
        with writing(self._database) as connection:
            for number in numbers:
                # Who is sending it now has lost its lease: what becomes of that attempt does not count.
                again = connection.execute(
                    "UPDATE outbox SET status = 'waiting', attempts = 0, retry_at = 0, is_outage = false,"
                    " is_hastened = false, reason = '', since = ?, updated = ?, fence = fence + 1, holder = NULL"
                    " WHERE number = ?",
                    (time.time(), now_text(), number),
                )
                found += [number] * again.rowcount
        return found

    def announce(self, job: Job, receivers: Collection[ReceiverKind]) -> None:
        """Have the event of a recorded job sent that was not announced when it was recorded."""
        with writing(self._database) as connection:
            announce(connection, job, "ingest", receivers)

    def removable(self, moment: datetime, *, after: int = 0, limit: int | None = None) -> list[int]:
        """The first events with numbers above ``after`` that were sent or given up before ``moment``, in UTC."""
        query = (
            "SELECT number FROM outbox WHERE number > ? AND status <> 'waiting' AND updated < ? ORDER BY number LIMIT ?"
        )
        rows = self._rows(query, after, time_text(moment), ALL_ROWS if limit is None else limit)
        return [int(row["number"]) for row in rows]

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove those of the events that do not wait."""
        with writing(self._database) as connection:
            connection.executemany(
                "DELETE FROM outbox WHERE number = ? AND status <> 'waiting'", [(number,) for number in numbers]
            )

    def _due(self, receivers: Collection[ReceiverKind]) -> Iterator[Row]:
        """What waits for a sender, in order."""
        if not receivers:
            return iter(())
        now = time.time()
        waiting = (
            f"SELECT {COLUMNS} FROM outbox AS this INDEXED BY outbox_due"
            f" WHERE status = 'waiting' AND receiver IN ({_listed(receivers)})"
            " AND NOT EXISTS (SELECT 1 FROM outbox AS earlier WHERE earlier.job_id = this.job_id"
            " AND earlier.number < this.number AND earlier.receiver = this.receiver AND earlier.status = 'waiting')"
        )
        # However many wait, the first of each kind is found at once.
        fresh = self._rows(f"{waiting} AND retry_at = 0 ORDER BY number")
        rested = self._rows(f"{waiting} AND retry_at > 0 AND retry_at <= ? ORDER BY retry_at", now)
        misdated = self._rows(f"{waiting} AND retry_at > ? ORDER BY retry_at", now + LONGEST_WAIT_SECONDS)
        return filter(self._is_free, heapq.merge(fresh, rested, misdated, key=itemgetter("number")))

    def _is_free(self, row: Row) -> bool:
        """Whether nobody is sending the event."""
        if row["holder"] is None:
            return True
        holder = Process.from_text(row["holder"])
        life = holder.life()
        if life is Life.GONE or (self._is_local and not holder.is_of_this_boot):
            return True
        # Only of itself a process knows that it would renew it: it may have failed to give it back.
        if life is not Life.OUT_OF_SIGHT and holder != this_process():
            return False
        # Of others' clocks nothing is known: what counts is how long it was seen here.
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        now, lease = time.monotonic(), (row["fence"], row["updated"])
        seen, since = self._seen.get(row["number"], (None, now))
        if seen != lease:
            since = now
        self._seen[row["number"]] = (lease, since)
        return now - max(since, self._database.missed_at) > LEASE_SECONDS

    def _let_go(self, notice: Notice, changes: dict[str, object]) -> None:
        # Where another one has the lease by now, it is the other's to say what became of the event.
        assigned = {**changes, "holder": None, "updated": now_text()}
        self._seen.pop(notice.number, None)
        with writing(self._database, durable=False) as connection:
            connection.execute(
                f"UPDATE outbox SET {', '.join(f'{column} = ?' for column in assigned)}"
                " WHERE number = ? AND fence = ? AND status = 'waiting'",
                (*assigned.values(), notice.number, notice.fence),
            )

    def _end(self, notice: Notice, status: NoticeStatus, reason: str) -> None:
        self._let_go(notice, {"status": status, "reason": story(reason), "retry_at": 0})

    def _tidy(self, before: int) -> None:
        """Remove what was sent so long ago that nobody asks for it."""
        with writing(self._database, durable=False) as connection:
            connection.execute("DELETE FROM outbox WHERE status = 'sent' AND number <= ?", [before])

    def _one(self, number: int) -> Notice:
        return _notice_of(next(self._rows(f"SELECT {COLUMNS} FROM outbox WHERE number = ?", number)))

    def _rows(self, sql: str, *values: Any) -> Iterator[Row]:
        with reading(self._database) as connection:
            # Whoever leaves rows behind would have a cursor closed later than the database.
            yield from iter(connection.execute(sql, values).fetchone, None)


def _notice_of(row: Row) -> Notice:
    columns = dict(zip(row.keys(), row, strict=True))
    del columns["holder"], columns["is_outage"]
    return Notice(
        **{
            **columns,
            "data": json.loads(columns["data"]),
            "status": NoticeStatus(columns["status"]),
            "is_hastened": bool(columns["is_hastened"]),
        }
    )


def _of(receiver: ReceiverKind | None) -> tuple[str, list[str]]:
    """The condition that an event is for this receiver, if one is given, and its values."""
    return ("receiver = ?", [receiver]) if receiver is not None else ("true", [])


def _listed(words: Collection[str]) -> str:
    """Words of the program's own as SQL lists them between parentheses."""
    return ", ".join(f"'{word}'" for word in sorted(words))

"""The outbox: an event is there exactly where its job's change is, and one at a time sends it, in order."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_cli.errors import LeaseLost
from ingest_cli.jobs import outbox
from ingest_cli.jobs.job import Fence, Job, JobKind, JobState
from ingest_cli.jobs.outbox import Notice, NoticeStatus
from ingest_cli.jobs.process import Process
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.settings import EVENT_KINDS, Endpoint, Notifications, Timings

from ..support.holders import DEAD, ELSEWHERE, HERE
from ..support.store_changes import BY_FENCE

TOLD = Notifications(url=Endpoint(url="http://x"), command=("tell",), kinds=frozenset(EVENT_KINDS))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteJobStore]:
    with SqliteJobStore(tmp_path / "jobs.sqlite3", Timings(runs=2), TOLD) as store:
        yield store


def running(store: SqliteJobStore, job_id: int = 1) -> Job:
    return store.submit(job_id, kind=JobKind.BUNDLE, source=f"/{job_id}", fingerprint="1:2:3", user="u", holder=HERE)


def recorded(store: SqliteJobStore, job_id: int = 1) -> Job:
    return store.record(running(store, job_id).fence)


def kinds(store: SqliteJobStore) -> list[tuple[int, str]]:
    return [(notice.job_id, notice.kind) for notice in store.outbox.newest(100) if notice.receiver == "url"]


def held_by(monkeypatch: pytest.MonkeyPatch, process: Process) -> None:
    """Whoever takes a lease now is this process."""
    monkeypatch.setattr(outbox, "this_process", lambda: process)


def test_which_changes_are_announced(store: SqliteJobStore) -> None:
    """The same for the url and for the command."""
    for number, name in enumerate(BY_FENCE, 1):
        job = running(store, number)
        if name in ("checkpoint", "rolled_back", "hold"):
            store.reserve(job.fence, range(10 * number, 10 * number + 1), None)
        if name in ("rolled_back", "hold"):
            store.undo(job.fence, JobState.FAILED, "ingest files", "why")
        BY_FENCE[name][1](store, job.fence)
    names = list(BY_FENCE)
    assert {names[job_id - 1]: kind for job_id, kind in kinds(store)} == {
        "defer": "deferred",
        "exhaust": "failed",
        "undo": "failed",
        "rolled_back": "failed",
        "hold": "failed",
        "record": "ingest",
    }
    assert len(store.outbox.newest(100)) == 12
    failed = next(notice for notice in store.outbox.newest(100) if notice.kind == "failed")
    assert (failed.data["state"], failed.data["source"]) == ("FAILED", f"/{failed.job_id}")


def test_a_duplicate_and_a_discarded_job_are_not_announced(store: SqliteJobStore) -> None:
    store.undo(running(store).fence, JobState.DUPLICATE, "ingest files", "", successor=7)
    store.requeue(running(store, 2).fence)
    store.end(2, JobState.DISCARDED, holder=HERE)
    assert store.outbox.newest(100) == []


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.DUPLICATE])
def test_a_job_that_is_rolled_back_later_is_not_announced_as_deferred(store: SqliteJobStore, end: JobState) -> None:
    job = running(store)
    store.reserve(job.fence, range(10, 11), None)
    job = store.undo(job.fence, end, "ingest files", "why", successor=7 if end is JobState.DUPLICATE else None)
    store.defer(job.fence, "ingest files", "rolled back later", 0.0)
    assert store.outbox.newest(100) == []
    store.rolled_back(store.lease(1).fence)
    assert kinds(store) == ([(1, "failed")] if end is JobState.FAILED else [])


def test_a_run_that_lost_its_lease_announces_nothing(store: SqliteJobStore) -> None:
    job = running(store)
    for name in ("defer", "undo", "record", "hold", "exhaust"):
        with pytest.raises(LeaseLost):
            BY_FENCE[name][1](store, Fence(job.job_id, job.fence_number - 1))
    assert store.outbox.newest(100) == []


def test_who_asks_for_no_events_gets_none(tmp_path: Path) -> None:
    only_failed = replace(TOLD, kinds=frozenset(["failed"]))
    for number, told in enumerate((Notifications(), only_failed, replace(TOLD, kinds=frozenset()))):
        with SqliteJobStore(tmp_path / f"{number}.sqlite3", Timings(), told) as store:
            recorded(store)
            assert store.another().outbox.newest(100) == []


def test_one_event_has_one_sender(store: SqliteJobStore, tmp_path: Path) -> None:
    recorded(store)
    with SqliteJobStore(tmp_path / "jobs.sqlite3", Timings()) as another:
        first = store.outbox.lease_next(["url"])
        assert first is not None
        assert another.outbox.lease_next(["url"]) is None
        assert another.outbox.lease_next([]) is None
        other = another.outbox.lease_next(["url", "command"])
        assert other is not None
        assert (first.receiver, other.receiver) == ("url", "command")
        store.outbox.sent(first)
        assert another.outbox.lease_next(["url", "command"]) is None


@pytest.mark.parametrize(
    ("holder", "waits"), [(DEAD, False), (replace(HERE, boot="earlier"), False), (ELSEWHERE, True)]
)
def test_the_events_of_a_dead_sender_are_taken_over(
    store: SqliteJobStore, monkeypatch: pytest.MonkeyPatch, holder: Process, waits: bool
) -> None:
    recorded(store)
    held_by(monkeypatch, holder)
    lost = store.outbox.lease_next(["url"])
    held_by(monkeypatch, HERE)
    again = store.outbox.lease_next(["url"])
    if waits:  # until it was seen to hold still for long
        assert again is None
        monkeypatch.setattr(outbox, "LEASE_SECONDS", 0.01)
        time.sleep(0.02)
        again = store.outbox.lease_next(["url"])
    assert lost is not None
    assert again is not None
    assert (again.number, again.fence, again.attempts) == (lost.number, lost.fence + 1, 2)
    store.outbox.sent(lost)
    store.outbox.give_up(lost, "no")
    assert status_of(store, again) == (NoticeStatus.WAITING, ""), "who lost the lease has nothing to say"
    store.outbox.sent(again)
    assert status_of(store, again) == (NoticeStatus.SENT, "")


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on it is so many seconds later."""
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + seconds)


@pytest.mark.parametrize("holder", [ELSEWHERE, HERE])
def test_the_events_of_a_sender_that_renews_its_lease_are_its_own(
    store: SqliteJobStore, monkeypatch: pytest.MonkeyPatch, holder: Process
) -> None:
    recorded(store)
    held_by(monkeypatch, holder)
    notice = store.outbox.lease_next(["url"])
    assert notice is not None
    held_by(monkeypatch, HERE)
    with store.another() as viewer:
        for _ in range(5):
            assert viewer.outbox.lease_next(["url"]) is None
            assert store.outbox.renew(notice)
            later(monkeypatch, 0.6 * outbox.LEASE_SECONDS)
        assert viewer.outbox.lease_next(["url"]) is None
        later(monkeypatch, 1.1 * outbox.LEASE_SECONDS)
        assert viewer.outbox.lease_next(["url"]) is not None
    assert not store.outbox.renew(notice), "it is another's"


def status_of(store: SqliteJobStore, notice: Notice) -> tuple[NoticeStatus, str]:
    (found,) = [found for found in store.outbox.newest(100) if found.number == notice.number]
    return found.status, found.reason


def test_the_events_of_a_job_are_sent_in_order(store: SqliteJobStore) -> None:
    job = running(store)
    store.defer(job.fence, "ingest files", "why", 0.0)
    recorded(store, 2)
    store.record(store.lease(1).fence)
    first = store.outbox.lease_next(["url"])
    second = store.outbox.lease_next(["url"])
    assert first is not None
    assert second is not None
    assert [(notice.job_id, notice.kind) for notice in (first, second)] == [(1, "deferred"), (2, "ingest")]
    assert store.outbox.lease_next(["url"]) is None
    store.outbox.retry(first, "no", 60.0, is_outage=False)
    assert store.outbox.lease_next(["url"]) is None, "job 1's next one waits for the first"
    store.outbox.resend([first.number])
    first = store.outbox.lease_next(["url"])
    assert first is not None
    store.outbox.give_up(first, "no")
    last = store.outbox.lease_next(["url"])
    assert last is not None
    assert (last.job_id, last.kind) == (1, "ingest")


def test_what_was_missed_in_an_outage_is_due_once_one_is_sent(store: SqliteJobStore) -> None:
    for job_id in (1, 2, 3):
        recorded(store, job_id)
    missed, refused, sent = (store.outbox.lease_next(["url"]) for _ in range(3))
    assert missed is not None
    assert refused is not None
    assert sent is not None
    store.outbox.retry(missed, "away", 60.0, is_outage=True)
    store.outbox.retry(refused, "refused", 60.0, is_outage=False)
    store.outbox.sent(sent)
    due = store.outbox.lease_next(["url"])
    assert due is not None
    assert (due.job_id, due.is_hastened) == (missed.job_id, True)
    assert store.outbox.lease_next(["url"]) is None


def test_a_clock_that_was_wrong_has_no_event_wait_for_ever(
    store: SqliteJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(store)
    notice = store.outbox.lease_next(["url"])
    assert notice is not None
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 10**9)
        store.outbox.retry(notice, "no", 60.0, is_outage=False)
    assert store.outbox.lease_next(["url"]) is not None


def test_what_is_sent_again_while_it_is_sent_is_sent_again(store: SqliteJobStore) -> None:
    recorded(store)
    notice = store.outbox.lease_next(["url"])
    assert notice is not None
    assert store.outbox.resend([notice.number, 99]) == [notice.number]
    store.outbox.sent(notice)
    again = store.outbox.lease_next(["url"])
    assert again is not None
    assert again.attempts == 1


def test_of_those_sent_the_newest_are_kept(store: SqliteJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_KEPT", 10)
    monkeypatch.setattr(outbox, "TIDIED_EVERY", 5)
    for job_id in range(1, 31):
        recorded(store, job_id)
    waiting = store.outbox.lease_next(["url"])
    while (notice := store.outbox.lease_next(["url", "command"])) is not None:
        store.outbox.sent(notice)
    tallies = store.outbox.tallies()
    assert 10 <= tallies[NoticeStatus.SENT] < 20
    assert waiting is not None
    assert status_of(store, waiting) == (NoticeStatus.WAITING, "")


def test_a_long_reason_is_kept_short(store: SqliteJobStore) -> None:
    recorded(store)
    notice = store.outbox.lease_next(["url"])
    assert notice is not None
    store.outbox.retry(notice, "x\x1b[2J" * 100_000, 0.0, is_outage=False)
    assert len(status_of(store, notice)[1]) < 10_000
    assert "\x1b" not in status_of(store, notice)[1]

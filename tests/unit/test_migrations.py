"""A store of each older version is brought up to date, and an older program leaves one of today alone."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import StoreError
from ingest_cli.jobs.job import JobKind, JobState, Reservation
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.sqlite_database import open_database
from ingest_cli.jobs.sqlite_migrations import MIGRATIONS
from ingest_cli.settings import Timings

from ..support.old_stores import old_store
from ..support.recount import recounted, told

VERSIONS = range(1, len(MIGRATIONS))
IN_A_CENTURY = 4_000_000_000.0
LAST_STAGE = {"task": "ingest metadata", "task_percent": 100.0}
BEFORE = "the same bundle was ingested before as job 1"


@dataclass(frozen=True)
class OldRow:
    """What is set in a row of an old store, and what becomes of it. ``since`` is the version that began to write it."""

    row: dict[str, Any]
    state: JobState
    pacifica: str
    exception: str = ""
    complete: bool = False
    reservation: Reservation | None = None
    job: dict[str, Any] = field(default_factory=dict)
    since: int = 1


ROWS = {
    "complete": OldRow(
        {**LAST_STAGE, "recorded": 1, "resumable": 0, "first_file_id": 10, "stored": 3, "files": 3, "digest": "d"},
        JobState.COMPLETE,
        "OK",
        complete=True,
        job={"files": 3, "stored": 3, "digest": "d", "override": None},
    ),
    "complete, failed by an administrator": OldRow(
        {
            "state": "FAILED",
            "task": "ingest files",
            "exception": "by hand",
            "recorded": 1,
            "resumable": 0,
            "first_file_id": 10,
            "stored": 3,
        },
        JobState.COMPLETE,
        "FAILED",
        complete=True,
        exception="by hand",
        job={"exception": "", "task": "ingest metadata", "is_done": True},
    ),
    "duplicate": OldRow(
        {**LAST_STAGE, "resumable": 0, "duplicate_of": 1},
        JobState.DUPLICATE,
        "OK",
        exception=BEFORE,
        complete=True,
        job={"duplicate_of": 1, "is_done": True},
    ),
    "duplicate that kept its files": OldRow(
        {**LAST_STAGE, "resumable": 0, "duplicate_of": 1, "first_file_id": 10, "stored": 3, "files": 3},
        JobState.UNDOING,
        "OK",
        exception=BEFORE,
        complete=True,
        reservation=Reservation(10, 3, 3),
        job={"undo_to": JobState.DUPLICATE, "successor": 1, "holder": None},
    ),
    "duplicate, failed by an administrator": OldRow(
        {"state": "FAILED", "task": "ingest files", "exception": "by hand", "resumable": 0, "duplicate_of": 1},
        JobState.DUPLICATE,
        "FAILED",
        complete=True,
        exception="by hand",
        job={"duplicate_of": 1},
    ),
    "superseded": OldRow(
        {"state": "FAILED", "exception": "continued as job 12", "resumable": 0},
        JobState.SUPERSEDED,
        "FAILED",
        complete=True,
        exception="continued as job 12",
        job={"successor": 12, "duplicate_of": None, "is_done": False},
    ),
    "discarded": OldRow(
        {"state": "FAILED", "exception": "discarded: the archive holds nothing of it", "resumable": 0},
        JobState.DISCARDED,
        "FAILED",
        complete=True,
        exception="discarded: the archive holds nothing of it",
    ),
    "failed": OldRow(
        {"state": "FAILED", "task": "Policy Validation", "exception": "refused", "resumable": 0},
        JobState.FAILED,
        "FAILED",
        complete=True,
        exception="refused",
        job={"task": "Policy Validation"},
    ),
    "failed for now": OldRow(
        {"state": "FAILED", "task": "Policy Validation", "exception": "down", "resumable": 1},
        JobState.FAILED,
        "FAILED",
        complete=True,
        exception="down",
    ),
    "failed, with files stored": OldRow(
        {
            "state": "FAILED",
            "task": "ingest files",
            "exception": "down",
            "first_file_id": 20,
            "stored": 1,
            "files": 3,
            "digest": "d",
        },
        JobState.HELD,
        "FAILED",
        complete=True,
        exception="down",
        reservation=Reservation(20, 3, 1),
    ),
    "not discarded yet, with files stored": OldRow(
        {
            "state": "FAILED",
            "task": "ingest files",
            "exception": "it could not be discarded: the disk is away",
            "first_file_id": 20,
            "stored": 0,
            "files": 3,
        },
        JobState.HELD,
        "FAILED",
        complete=True,
        exception="it could not be discarded: the disk is away",
        reservation=Reservation(20, 3, 0),
    ),
    "waiting": OldRow({}, JobState.QUEUED, "OK", job={"task": "UPLOADING", "is_interrupted": False}),
    "interrupted": OldRow(
        {"task": "ingest files", "task_percent": 40.0, "first_file_id": 20, "stored": 1, "files": 3, "attempts": 1},
        JobState.QUEUED,
        "OK",
        reservation=Reservation(20, 3, 1),
    ),
    "put off": OldRow(
        {"task": "Policy Validation", "exception": "down", "not_before": IN_A_CENTURY, "attempts": 2},
        JobState.QUEUED,
        "FAILED",
        exception="down\nit will be tried again at 2096-10-02 07:06:40 UTC; do not send it again",
        job={"is_deferred": True, "attempts": 2, "fence_number": 2, "retry_at": IN_A_CENTURY},
        since=3,
    ),
    "running": OldRow(
        {
            "task": "ingest files",
            "task_percent": 40.0,
            "worker": "node12:4567",
            "beat": IN_A_CENTURY,
            "first_file_id": 20,
            "stored": 1,
            "files": 3,
        },
        JobState.RUNNING,
        "OK",
        reservation=Reservation(20, 3, 1),
        job={"task": "ingest files", "task_percent": 40.0},
    ),
    "called OK by hand": OldRow(
        {"task": "ingest files", "task_percent": 50.0, "resumable": 0},
        JobState.FAILED,
        "OK",
        job={"has_failed": True},
    ),
    "called OK by hand, to be resumed": OldRow(
        {"task": "ingest files", "task_percent": 50.0, "resumable": 1}, JobState.QUEUED, "OK"
    ),
}


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqliteJobStore]:
    version, name = request.param
    path = old_store(tmp_path / "jobs.sqlite3", version, [ROWS[name].row])
    with SqliteJobStore(path, Timings()) as store:
        yield store


EACH = [(version, name) for version in VERSIONS for name, old in ROWS.items() if version >= old.since]


@pytest.mark.parametrize(("opened", "version", "name"), [((v, n), v, n) for v, n in EACH], indirect=["opened"])
def test_each_kind_of_old_row(opened: SqliteJobStore, version: int, name: str) -> None:
    old, job = ROWS[name], opened.get(1)
    assert job.state is old.state
    shown = job.as_state()
    assert (shown["state"], shown["exception"], shown["complete"]) == (old.pacifica, old.exception, old.complete)
    if old.row.get("state", "OK") == old.pacifica and job.state is not JobState.RUNNING:
        assert shown["task"] == old.row.get("task", "UPLOADING"), "Pacifica's clients see what they saw"
        assert shown["task_percent"] == f"{old.row.get('task_percent', 0):.5f}"
    assert (shown["created"], shown["updated"]) == ("2026-01-02 03:04:05.678901", "2026-01-02 03:04:06.678901")
    assert (job.kind, job.source, job.user, job.spooled) == (JobKind.BUNDLE, "/data/1.tar", "u", False)
    assert (job.origin, job.name) == ("", "/data/1.tar")
    assert job.fingerprint == "1234:5678:90", "a reboot may renumber the device"
    if old.reservation is None or version >= 3:
        assert job.reservation == old.reservation
    else:  # only how many were stored was noted then
        stored = old.reservation.stored
        assert job.reservation == Reservation(old.reservation.first_file_id, stored, stored)
    known = {key: value for key, value in old.job.items() if version >= 3 or key not in ("attempts", "fence_number")}
    assert {key: getattr(job, key) for key in known} == known
    assert opened.stages(1) == ({"ingest files": 1.5} if version >= 3 else {})


@pytest.mark.parametrize(("opened", "version"), [((v, "running"), v) for v in VERSIONS], indirect=["opened"])
def test_who_held_a_job_of_an_old_store_is_dead(opened: SqliteJobStore, version: int) -> None:
    job = opened.get(1)
    assert job.holder is not None
    assert (str(job.holder), job.holder.host, job.holder.pid) == ("node12:4567", "node12", 4567)
    assert opened.is_dead(job)
    heir = opened.lease_next()
    assert heir is not None
    assert (heir.job_id, heir.fence_number, heir.holder) == (1, job.fence_number + 1, this_process())


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_of_an_old_store_go_on_as_they_would_have(tmp_path: Path, version: int) -> None:
    names = [name for name, old in ROWS.items() if old.since <= version]
    path = old_store(tmp_path / "jobs.sqlite3", version, [ROWS[name].row for name in names])
    with SqliteJobStore(path, Timings()) as store:
        ran = []
        while (job := store.lease_next()) is not None:
            ran.append(names[job.job_id - 1])
            store.record(job.fence)
        # A rest of a century was made by a clock that was wrong.
        resumed = {"waiting", "interrupted", "running", "called OK by hand, to be resumed"}
        undone = {"duplicate that kept its files"}
        assert set(ran) == resumed | undone | ({"put off"} if version >= 3 else set())
        assert store.check_integrity() == ""
        held = {names[job.job_id - 1] for job in store.in_states([JobState.HELD])}
        assert held == {"failed, with files stored", "not discarded yet, with files stored"}
        for job in store.in_states([JobState.HELD, JobState.FAILED]):
            assert store.retry(job.job_id).state is JobState.QUEUED


def test_a_process_at_work_goes_on_while_a_newer_program_adds_to_the_store(tmp_path: Path) -> None:
    with SqliteJobStore(tmp_path / "jobs.sqlite3", Timings()) as store:
        kept = {"kind": JobKind.BUNDLE, "source": "/a.tar", "fingerprint": "1:2:3", "user": "u"}
        job = store.submit(1, holder=this_process(), **kept)  # type: ignore[arg-type]
        open_database(store.path, [*MIGRATIONS, "ALTER TABLE jobs ADD COLUMN more TEXT"], "job store").close()
        assert store.record(job.fence).state is JobState.COMPLETE


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_of_an_old_store_are_counted(tmp_path: Path, version: int) -> None:
    rows = [old.row for old in ROWS.values() if old.since <= version]
    with SqliteJobStore(old_store(tmp_path / "jobs.sqlite3", version, rows), Timings()) as store:
        assert told(store) == recounted(store.select())
        assert store.stage_seconds() == ({"ingest files": 1.5} if version >= 3 else {})


def test_an_older_program_at_work_keeps_the_counts(tmp_path: Path) -> None:
    path = old_store(tmp_path / "jobs.sqlite3", 10, [ROWS["running"].row, ROWS["failed"].row])
    changes = [
        "UPDATE jobs SET state = 'failed', exception = 'the disk is broken', files = 3 WHERE job_id = 1",
        "UPDATE jobs SET exception = 'file 7 is gone', updated = '2026-02-03 04:05:06.7' WHERE job_id = 1",
        "UPDATE jobs SET state = 'queued' WHERE job_id = 2",
        "UPDATE jobs SET state = 'complete', exception = '', files = 4, bytes = 5 WHERE job_id = 1",
        "INSERT INTO jobs (job_id, kind, source, fingerprint, user, state, created, updated)"
        " SELECT 3, kind, source, fingerprint, 'v', 'failed', created, updated FROM jobs WHERE job_id = 1",
        "INSERT INTO stages VALUES (3, 'ingest files', 1.0) ON CONFLICT DO UPDATE SET seconds = seconds + 1",
        "INSERT INTO stages VALUES (3, 'ingest files', 1.0) ON CONFLICT DO UPDATE SET seconds = seconds + 1",
        "DELETE FROM jobs WHERE job_id = 3",
    ]
    with (
        closing(open_database(path, MIGRATIONS[:10], "job store").conn) as older,
        SqliteJobStore(path, Timings()) as store,
    ):
        for change in changes:
            with older:
                older.execute(change)
            assert told(store) == recounted(store.select()), change
        assert store.stage_seconds() == {"ingest files": 3.5}


def test_an_older_program_refuses_a_store_of_today(tmp_path: Path) -> None:
    with SqliteJobStore(tmp_path / "jobs.sqlite3", Timings()):
        pass
    for version in VERSIONS:
        with pytest.raises(StoreError, match=r"jobs\.sqlite3 was written by a newer version of ingest; please upgrade"):
            open_database(tmp_path / "jobs.sqlite3", MIGRATIONS[:version], "job store")

"""A transaction that was committed, and the connection broke before that was said: nobody may be left with a job that
its holder does not know of."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ingest_cli.errors import ResourceUnavailable
from ingest_cli.jobs.job import Job, JobKind, JobState
from ingest_cli.jobs.postgres import PostgresJobStore
from ingest_cli.jobs.process import Process, this_process
from ingest_cli.jobs.store import JobStore
from ingest_cli.settings import PostgresUrl, Timings

from ..support.postgres import PostgresServer
from ..support.stores import store_at

pytestmark = pytest.mark.cluster


@pytest.fixture
def store(postgres: PostgresUrl) -> Iterator[JobStore]:
    with store_at(postgres.text, Timings()) as store:
        yield store


def lose_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next COMMIT loses its answer."""
    execute: Any = psycopg.Connection.execute

    def lost(self: Any, query: str, *more: Any) -> Any:
        found = execute(self, query, *more)
        if query == "COMMIT":
            monkeypatch.undo()
            self.close()
            raise psycopg.OperationalError("the connection is lost")
        return found

    monkeypatch.setattr(psycopg.Connection, "execute", lost)


def submitted(store: JobStore, holder: Process | None) -> Job:
    return store.submit(1, kind=JobKind.BUNDLE, source="/1", fingerprint="1:2:3", user="u", holder=holder)


def test_a_job_that_is_undone_is_known_to_who_undoes_it(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(store, None)
    held = store.reserve(store.lease(1).fence, range(5, 8), None)
    store.defer(held.fence, "ingest files", "it is away", 0.0)
    lose_the_next(monkeypatch)
    ended = store.end(1, JobState.DISCARDED, holder=this_process())
    assert (ended.state, ended.undo_to, ended.holder) == (JobState.UNDOING, JobState.DISCARDED, this_process())
    assert store.rolled_back(ended.fence).state is JobState.DISCARDED


def test_a_job_that_was_entered_to_be_run_at_once_can_be_run(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.count()
    lose_the_next(monkeypatch)
    with pytest.raises(ResourceUnavailable, match="the connection is lost"):
        submitted(store, this_process())
    assert store.get(1).holder == this_process()
    assert store.lease(1).fence_number == 1


def offered(store: JobStore) -> Job | None:
    assert isinstance(store, PostgresJobStore)
    return store.lease_offered()


def test_a_worker_whose_number_was_not_kept_gets_another(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(store, None)
    execute: Any = psycopg.Connection.execute

    def broken(self: Any, query: str, *more: Any) -> Any:
        if "update_heartbeat" in query:
            self.close()
        return execute(self, query, *more)

    monkeypatch.setattr(psycopg.Connection, "execute", broken)
    with pytest.raises(ResourceUnavailable):
        offered(store)
    monkeypatch.undo()
    job = offered(store)
    assert job is not None
    assert job.holder == this_process()


def test_a_worker_that_the_database_has_forgotten_goes_on(
    store: JobStore, postgres: PostgresUrl, postgres_server: PostgresServer
) -> None:
    """As one that took over without the last transactions, or one that pruned a worker which was frozen for a day."""
    assert offered(store) is None
    submitted(store, None)
    postgres_server.execute("DELETE FROM procrastinate_workers", postgres.text.rpartition("/")[2])
    job = offered(store)
    assert job is not None
    assert job.fence_number == 1

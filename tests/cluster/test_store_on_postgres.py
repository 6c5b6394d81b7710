"""The job store, ids and catalogue in PostgreSQL: many processes at once, and a server that goes away."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from ingest_cli.bundle.metadata import Document
from ingest_cli.errors import CatalogRefused, ExitCode, IngestError, ResourceUnavailable, SettingsError, StoreError
from ingest_cli.jobs.contention import TRIES
from ingest_cli.jobs.heart import Heart
from ingest_cli.jobs.interruption import Interruption
from ingest_cli.jobs.job import Job, JobKind, JobState
from ingest_cli.jobs.lease import Lease
from ingest_cli.jobs.outbox import NoticeStatus
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.jobs.store import JobStore, is_current, open_store
from ingest_cli.jobs.task_queue import TaskQueue
from ingest_cli.services.factory import catalog, unique_id
from ingest_cli.settings import Notifications, PostgresUrl, Settings, Timings, load_settings

from ..support.bundles import document_for, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.holders import DEAD
from ..support.postgres import GUARDED, PASSWORD, PostgresServer, held_catalog
from ..support.recount import recounted, told
from ..support.store_changes import WISH
from ..support.store_worker import FILES
from ..support.stores import store_at
from ..support.waiting import PATIENCE, until

pytestmark = pytest.mark.cluster
WORKERS, JOBS, DOCUMENTS = 8, 300, 100


def variables(url: PostgresUrl) -> dict[str, str]:
    return dict.fromkeys(("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"), url.text)


@pytest.fixture
def settings(postgres: PostgresUrl, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for variable, value in variables(postgres).items():
        monkeypatch.setenv(variable, value)
    return load_settings()


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    with open_store(settings) as store:
        yield store


def submitted(store: JobStore, job_id: int = 1) -> Job:
    return store.submit(job_id, kind=JobKind.BUNDLE, source=f"/{job_id}", fingerprint="1:2:3", user="u", holder=None)


def test_many_processes_share_the_work_and_nothing_is_done_twice(
    postgres: PostgresUrl, store: JobStore, settings: Settings, tmp_path: Path
) -> None:
    with closing(unique_id(settings)) as ids:
        first = ids.reserve("upload_job", JOBS)
    with store.together():
        for job_id in range(first, first + JOBS):
            submitted(store, job_id)
    words = [sys.executable, "-m", "tests.support.store_worker", postgres.text, str(tmp_path), str(DOCUMENTS)]
    workers = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(WORKERS)]
    until(lambda: store.tallies()["complete"][0] > JOBS // 10)
    workers[0].kill()
    until(lambda: store.tallies()["complete"][0] > JOBS // 3)
    workers[1].send_signal(signal.SIGSTOP)
    # It may have a job, for which those of the same document wait.
    until(lambda: store.count_unfinished() <= -(-JOBS // DOCUMENTS))
    workers[1].send_signal(signal.SIGCONT)
    ends = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [-signal.SIGKILL, *[0] * (WORKERS - 1)], ends
    jobs = store.select()
    assert {job.state for job in jobs} <= {JobState.COMPLETE, JobState.DUPLICATE, JobState.SUPERSEDED}
    complete = [job for job in jobs if job.state is JobState.COMPLETE]
    assert len({job.digest for job in complete}) == len(complete) == DOCUMENTS
    stored = sorted(int(path.read_text()) for path in tmp_path.glob("document *"))
    assert all(earlier + FILES <= later for earlier, later in pairwise(stored))
    assert told(store) == recounted(jobs)


def test_a_server_that_was_restarted_is_used_again(postgres_server: PostgresServer, store: JobStore) -> None:
    job = submitted(store)
    postgres_server.restart()
    assert store.get(1) == job
    postgres_server.restart()
    assert store.lease(1).state is JobState.RUNNING


def test_a_server_that_is_away_is_told_and_waited_for(
    postgres_server: PostgresServer, store: JobStore, settings: Settings
) -> None:
    job = submitted(store)
    postgres_server.stop()
    try:
        with closing(unique_id(load_settings(environment={}))):
            for change in (store.get, store.lease, store.retry):
                with pytest.raises(ResourceUnavailable, match=r"cannot (read|write to) postgresql://.* now: "):
                    change(1)
            with pytest.raises(ResourceUnavailable):
                open_store(settings)
    finally:
        postgres_server.start()
    assert store.get(1) == job


def test_a_server_that_is_frozen_is_not_waited_for_in_vain(
    postgres_server: PostgresServer, settings: Settings, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest_cli.jobs import postgres_connections

    job = submitted(store)
    postgres_server.freeze()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(postgres_connections, "UNANSWERED_SECONDS", 0.5)
            patch.setitem(postgres_connections.USUAL, "connect_timeout", "2")
            for change in (store.get, store.lease):
                with pytest.raises(ResourceUnavailable):
                    change(1)
            with pytest.raises(ResourceUnavailable):
                open_store(settings)
    finally:
        postgres_server.thaw()
    assert store.get(1) == job


def test_who_lives_can_say_so_though_all_connections_are_taken(
    store: JobStore,
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ingest_cli.jobs import postgres_connections
    from ingest_cli.jobs.postgres import PostgresJobStore

    submitted(store)
    fence = store.lease(1).fence
    pool = postgres_connections.pool_of(postgres)

    def beat(store: JobStore) -> bool:
        store.heartbeat(fence, 0.0)
        return True

    def connections() -> list[tuple[int]]:
        name = postgres.text.rpartition("/")[2]
        return sorted(postgres_server.execute(f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'"))

    with PostgresJobStore(pool, settings.timings) as threads:
        taken = [pool.take()[0] for _ in range(postgres_connections.MOST)]
        monkeypatch.setattr(postgres_connections, "PATIENCE_SECONDS", 10 * PATIENCE)
        with Heart(0.1).beating(threads, beat):
            until(lambda: store.get(1).heartbeat > 3)
            # One is for that alone: whoever waits does not get it, and no more are made.
            waiting = threading.Thread(target=threads.get, args=[1], daemon=True)
            waiting.start()
            before = connections()
            until(lambda: store.get(1).heartbeat > 10)
            assert waiting.is_alive()
            assert connections() == before
        for connection in taken:
            pool.give_back(connection)
        waiting.join(PATIENCE)


def test_what_was_being_written_as_the_server_died_is_not_there(
    postgres_server: PostgresServer, store: JobStore
) -> None:
    def enter_two() -> None:
        with store.together():
            submitted(store, 1)
            postgres_server.kill()
            postgres_server.start()
            submitted(store, 2)

    with pytest.raises(ResourceUnavailable):
        enter_two()
    assert store.count() == 0
    submitted(store, 1)
    postgres_server.kill()
    postgres_server.start()
    assert store.get(1).state is JobState.QUEUED


@pytest.mark.parametrize("take", ["lease_next", "lease_offered"])
def test_leases_of_which_nobody_heard_are_known_later(
    store: JobStore, monkeypatch: pytest.MonkeyPatch, take: str
) -> None:
    """The transaction was committed, and the connection broke before that was said."""

    lease: Callable[[], Job | None] = getattr(store, take)
    lease()  # which makes itself known

    execute: Any = psycopg.Connection.execute

    def lost(self: Any, query: str, *more: Any) -> Any:
        found = execute(self, query, *more)
        if query == "COMMIT":
            self.close()
            raise psycopg.OperationalError("the connection is lost")
        return found

    def lease_two() -> None:
        with store.together():
            assert [lease(), lease()].count(None) == 0

    submitted(store, 1)
    submitted(store, 2)
    monkeypatch.setattr(psycopg.Connection, "execute", lost)
    with pytest.raises(ResourceUnavailable, match="the connection is lost"):
        lease_two()
    monkeypatch.undo()
    assert {store.get(job_id).holder for job_id in (1, 2)} == {this_process()}
    leased = [lease(), lease(), lease()]
    assert {job.job_id for job in leased if job is not None} == {1, 2}
    assert leased[-1] is None
    assert [store.get(job_id).fence_number for job_id in (1, 2)] == [1, 1]


def test_a_transaction_that_is_silent_does_not_stop_the_others_for_good(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest_cli.jobs import postgres_database

    def be_silent() -> None:
        with store.another() as silent, silent.together():
            silent.hasten(1)
            # It waits for the other one, which the server ends.
            assert store.lease(1).fence_number == 1
            silent.get(1)

    monkeypatch.setattr(postgres_database, "SILENT_SECONDS", 3.0)
    submitted(store)
    with pytest.raises(ResourceUnavailable):
        be_silent()
    assert store.get(1).fence_number == 1


def test_who_waits_for_another_for_too_long_is_told(postgres: PostgresUrl, settings: Settings) -> None:
    from ingest_cli.jobs.postgres import PostgresJobStore
    from ingest_cli.jobs.postgres_connections import PostgresConnections

    pool = PostgresConnections(postgres)
    with PostgresJobStore(pool, Timings(busy=0.2)) as store, PostgresJobStore(pool, Timings(busy=0.2)) as other:
        submitted(store)
        with store.together():
            store.hasten(1)
            with pytest.raises(ResourceUnavailable, match="lock timeout"):
                other.hasten(1)
        assert other.hasten(1).job_id == 1


class Meanwhile:
    """Two who change the store at once: what the second does waits for the first one's transaction."""

    def __init__(self, server: PostgresServer, url: PostgresUrl, settings: Settings, store: JobStore) -> None:
        self._server, self._url, self._settings, self.store = server, url, settings, store

    def __call__(self, first: Callable[[JobStore], object], second: Callable[[JobStore], Any]) -> Any:
        def do_second() -> Any:
            with open_store(self._settings) as another:
                return second(another)

        with ThreadPoolExecutor(1) as executor:
            with self.store.together():
                first(self.store)
                result = executor.submit(do_second)
                until(lambda: result.done() or self._server.waiting_for_locks(self._url))
                assert not result.done(), "it did not wait"
            return result.result()


@pytest.fixture
def meanwhile(postgres_server: PostgresServer, postgres: PostgresUrl, settings: Settings, store: JobStore) -> Meanwhile:
    return Meanwhile(postgres_server, postgres, settings, store)


def held_by_the_dead(store: JobStore, job_id: int = 1) -> Job:
    return store.submit(job_id, kind=JobKind.BUNDLE, source="/b", fingerprint="1:2:3", user="u", holder=DEAD)


def test_a_wish_is_heard_by_who_takes_the_job_at_that_moment(meanwhile: Meanwhile, store: JobStore) -> None:
    held_by_the_dead(store)
    heir = meanwhile(lambda one: one.override(1, WISH), lambda other: other.lease(1))
    assert (heir.fence_number, heir.override) == (2, WISH)


def test_ids_that_are_reserved_at_that_moment_are_not_forgotten(meanwhile: Meanwhile, store: JobStore) -> None:
    job = held_by_the_dead(store)
    ended = meanwhile(
        lambda one: one.reserve(job.fence, range(5, 8), None),
        lambda other: other.end(1, JobState.DISCARDED, holder=this_process()),
    )
    assert (ended.state, ended.undo_to) == (JobState.UNDOING, JobState.DISCARDED)
    assert ended.reservation is not None


def test_of_two_jobs_with_one_document_the_second_sees_the_first(meanwhile: Meanwhile, store: JobStore) -> None:
    first, second = (store.lease(submitted(store, job_id).job_id) for job_id in (1, 2))
    other = meanwhile(
        lambda one: one.identify(first.fence, "digest", 1, 10),
        lambda another: another.identify(second.fence, "digest", 1, 10),
    )
    assert other is not None
    assert other.job_id == first.job_id


def test_two_who_take_from_the_queue_at_once_do_not_wait_for_each_other(settings: Settings, store: JobStore) -> None:
    for job_id in (1, 2):
        submitted(store, job_id)
    with open_store(settings) as another, store.together():
        leased = [store.lease_next(), another.lease_next(), another.lease_next()]
    assert [job.job_id if job is not None else None for job in leased] == [1, 2, None]


def test_events_go_through_the_outbox(postgres: PostgresUrl) -> None:
    """No two senders have the same, and those that waited for their receiver go out when it is back."""
    notifications = Notifications(command=("tell",), kinds=frozenset(["ingest"]))
    with store_at(postgres.text, Timings(), notifications) as store, store.another() as other:
        for job_id in (1, 2, 3):
            job = store.lease(submitted(store, job_id).job_id)
            store.identify(job.fence, f"digest {job_id}", 1, 1)
            store.record(job.fence)
        taken = [store.outbox.lease_next(["command"]), other.outbox.lease_next(["command"])]
        notices = [notice for notice in taken if notice is not None]
        assert [notice.job_id for notice in notices] == [1, 2]
        assert [other.outbox.renew(notice) for notice in notices] == [True, True]
        store.outbox.retry(notices[0], "it is away", 1000.0, is_outage=True)
        assert other.outbox.has_outage("command")
        other.outbox.sent(notices[1])
        assert not store.outbox.has_outage("command")
        again = store.outbox.lease_next(["command"])
        assert again is not None
        assert (again.job_id, again.is_hastened) == (1, True)
        assert not other.outbox.renew(notices[0]), "its lease is another one by now"
        store.outbox.give_up(again, "it refuses")
        assert store.outbox.tallies("command") == store.outbox.tallies() == {"waiting": 1, "sent": 1, "given up": 1}
        assert store.outbox.waiting()[0] == 1
        numbers = [notice.number for notice in store.outbox.newest(9, statuses=[NoticeStatus.GIVEN_UP])]
        assert store.outbox.resend(numbers) == numbers
        soon = datetime.now(UTC) + timedelta(days=1)
        assert store.outbox.removable(soon) == [notices[1].number]
        store.outbox.forget(store.outbox.removable(soon))
        assert [notice.job_id for notice in store.outbox.newest(9)] == [1, 3]


def test_jobs_that_take_each_other_over_at_once_do_not_hang(settings: Settings, store: JobStore) -> None:
    """Each locks two rows: one of them wins, the other is told."""

    def take_over(mine: Job, other: Job) -> object:
        with open_store(settings) as another:
            try:
                return another.supersede(mine.fence, other)
            except IngestError as error:
                return error

    with ThreadPoolExecutor(2) as executor:
        for first in range(1, 30, 2):
            one, other = (store.lease(submitted(store, job_id).job_id) for job_id in (first, first + 1))
            ends = list(executor.map(take_over, (one, other), (other, one)))
            assert sum(isinstance(end, Job) for end in ends) == 1, ends
            states = sorted(store.get(job.job_id).state for job in (one, other))
            assert states == [JobState.RUNNING, JobState.SUPERSEDED]


@pytest.fixture
def crossing(
    postgres_server: PostgresServer, postgres: PostgresUrl, settings: Settings, store: JobStore
) -> Callable[[str, str, Callable[[JobStore], Any]], Any]:
    """Makes a change of the store while somebody else, who has locked ``later`` rows, waits for ``earlier`` ones, which
    the change has locked by then: what comes of the change, of which the server has undone the first attempt."""

    name = postgres.text.rpartition("/")[2]

    def crossed(earlier: str, later: str, change: Callable[[JobStore], Any]) -> Any:
        def make() -> Any:
            with open_store(settings) as another:
                return change(another)

        with psycopg.connect(postgres.text) as other, ThreadPoolExecutor(1) as executor:
            # Who has waited for so long finds out, once, that it has a part in a deadlock: that is to be the change.
            postgres_server.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '3 s'")
            other.execute("SET deadlock_timeout = '10 min'")
            other.execute(f"SELECT FROM {later} FOR UPDATE")
            result = executor.submit(make)
            until(lambda: postgres_server.waiting_for_locks(postgres))
            other.execute(f"SELECT FROM {earlier} FOR UPDATE")
            assert not result.done()
            other.commit()
            return result.result()

    return crossed


Crossing = Callable[[str, str, Callable[[JobStore], Any]], Any]


def test_a_change_that_a_deadlock_has_undone_is_made_again(store: JobStore, crossing: Crossing) -> None:
    one, other = (store.lease(submitted(store, job_id).job_id) for job_id in (1, 2))
    heir = crossing("jobs WHERE job_id = 1", "jobs WHERE job_id = 2", lambda store: store.supersede(one.fence, other))
    assert (heir.job_id, heir.fence_number) == (1, 2)
    assert store.get(2).state is JobState.SUPERSEDED


def test_the_end_of_a_run_that_a_deadlock_has_undone_comes_with_all_that_it_tells(
    store: JobStore, crossing: Crossing
) -> None:
    submitted(store)
    job = store.lease_offered() if isinstance(store, TaskQueue) else None
    assert job is not None

    def end(store: JobStore) -> Job:
        lease = Lease(store, job, Timings(), Interruption())
        lease.enter(INGEST_FILES)
        lease.tell("half of it")
        return lease.record()

    task = "procrastinate_jobs WHERE queueing_lock = 'job 1'"
    assert crossing("jobs WHERE job_id = 1", task, end).state is JobState.COMPLETE
    assert [line.text for line in store.history(1)].count("half of it") == 1
    assert INGEST_FILES in store.stages(1)


@pytest.mark.parametrize("times", [1, 1000])
def test_a_change_that_cannot_be_made_as_if_alone_is_made_again_but_not_for_ever(
    postgres_server: PostgresServer, postgres: PostgresUrl, store: JobStore, times: int
) -> None:
    name = postgres.text.rpartition("/")[2]
    postgres_server.execute(
        "CREATE SEQUENCE refusals; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('refusals') <= {times} THEN RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END IF;"
        " RETURN NEW; END $$; CREATE TRIGGER refused BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION refuse()",
        name,
    )
    submitted(store)
    if times == 1:
        assert store.lease(1).fence_number == 1
        return
    with pytest.raises(ResourceUnavailable, match="not now"):
        store.lease(1)
    assert postgres_server.execute("SELECT last_value FROM refusals", name) == [(TRIES,)]


def test_a_run_that_is_barred_never_records_whoever_comes_first(settings: Settings) -> None:
    document = Document.of(document_for({f"data/{number}": b"" for number in range(3)}))
    with closing(catalog(settings)) as one, closing(catalog(settings)) as other, ThreadPoolExecutor(2) as executor:
        for number in range(1, 20):
            ids = range(4 * number, 4 * number + 3)
            known = executor.submit(other.bar, number, ids, 1)
            recorded = executor.submit(one.record, document, number, ids.start, fence=1)
            is_refused = isinstance(recorded.exception(), CatalogRefused)
            assert known.result() == one.contains(number) == (not is_refused)


def test_tables_of_a_newer_version_are_refused_and_of_none_are_told(
    postgres_server: PostgresServer, postgres: PostgresUrl, settings: Settings
) -> None:
    with pytest.raises(SettingsError, match="there is no job store in postgresql://"):
        open_store(settings, new=False)
    assert not is_current(settings)
    with open_store(settings) as store:
        submitted(store)
    assert is_current(settings)
    database = postgres.text.rpartition("/")[2]
    postgres_server.execute("UPDATE ingest_versions SET version = version + 1", database)
    assert not is_current(settings)
    with pytest.raises(StoreError, match="newer version of ingest; please upgrade"):
        open_store(settings)


def test_processes_that_make_the_tables_at_once_make_them_once(settings: Settings) -> None:
    gate, errors = threading.Barrier(6), []

    def opened() -> None:
        gate.wait()
        try:
            open_store(settings).__exit__(None, None, None)
            unique_id(settings).close()
            catalog(settings).close()
        except IngestError as error:
            errors.append(error)

    threads = [threading.Thread(target=opened) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_password_is_never_told(
    postgres_server: PostgresServer, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = postgres_server.new_database().text.rpartition("/")[2]
    postgres_server.guard()
    right = postgres_server.url(name, user=f"{GUARDED}:{quote(PASSWORD, safe='')}")
    wrong = postgres_server.url(name, user=f"{GUARDED}:s3cret-and-wrong")
    bundle = write_bundle(tmp_path / "b.tar")
    said = []
    for url in (wrong, right):
        for variable, value in variables(url).items():
            monkeypatch.setenv(variable, value)
        for words in (["doctor"], ["-v", bundle], ["--debug", "state"], ["config"], ["config", "--json"]):
            done = command(*words)
            said.append(done.stdout + done.stderr)
            assert "Traceback" not in done.stderr or "--debug" in map(str, words)
    assert "s3c" not in "".join(said)
    assert "password authentication failed" in said[0]
    assert "is complete" in said[6]


def test_a_job_waits_until_a_database_lets_its_run_in_again(
    postgres_server: PostgresServer,
    store: JobStore,
    command: Command,
    starting: Callable[..., Running],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    postgres_server.guard()
    name = postgres_server.new_database().text.rpartition("/")[2]
    catalogue = postgres_server.url(name, user=f"{GUARDED}:{quote(PASSWORD, safe='')}")
    monkeypatch.setenv("METADATA_INGEST_URL", catalogue.text)
    first, second = (write_bundle(tmp_path / f"{number}.tar", {"data/a": b"%d" % number}) for number in range(2))
    assert command("--quiet", first).returncode == 0  # which makes the tables
    with held_catalog(postgres_server.url(name)):
        assert command("--queue", "--quiet", second).returncode == 0
        starting("worker", "--quiet", timings={"first_backoff": 1.0})
        until(lambda: postgres_server.waiting_for_locks(postgres_server.url(name)))
        postgres_server.guard("another")
    until(lambda: "password authentication failed" in store.get(2).exception)
    assert store.get(2).is_deferred
    postgres_server.guard()
    until(lambda: store.get(2).state is JobState.COMPLETE)


@pytest.mark.parametrize(
    ("query", "saying"),
    [
        ("?port=1&host=127.0.0.1", "Connection refused; Is the server running"),
        ("?sslmode=bogus", 'invalid sslmode value: "bogus"'),
    ],
)
def test_what_libpq_says_is_a_sentence_and_what_of_it_passes_is_known(
    postgres_server: PostgresServer, command: Command, monkeypatch: pytest.MonkeyPatch, query: str, saying: str
) -> None:
    monkeypatch.setenv("INGEST_DATABASE_URL", postgres_server.url("postgres", query=query).text)
    done = command("state")
    assert saying in done.stderr
    assert (" now: " in done.stderr) == (done.returncode == ExitCode.UNREACHABLE) == ("refused" in done.stderr)


def test_the_commands_of_a_site_on_postgresql(
    settings: Settings, postgres: PostgresUrl, command: Command, tmp_path: Path
) -> None:
    names = count(1)

    def bundle() -> Path:
        number = next(names)
        return write_bundle(tmp_path / f"{number}.tar", {f"data/{number}.txt": f"text {number}".encode()})

    def ran(*words: object) -> str:
        done = command(*words)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    first = bundle()
    assert "nothing there yet" in ran("doctor")
    ran(first)
    ran(first)
    ran("--queue", bundle(), bundle())
    ran("worker", "--until-empty")
    drop = tmp_path / "drop"
    drop.mkdir()
    dropped = bundle()
    dropped.rename(drop / dropped.name)
    ran("watch", "--once", "--settle", "0", drop)
    assert "state     complete" in ran("state", "4")
    assert ran("ls", "4").endswith("data/4.txt\n")
    assert len(ran("find", "--name", "*.txt").splitlines()) == 4
    ran("verify", "--all")
    ran("prune", "--older-than", "1d", "--yes")
    ran("retry", "--failed")
    ran("restore", "1", "--to", tmp_path / "restored")
    assert '"complete": {"jobs": 4' in ran("stats", "--json")
    assert f"{postgres}: 4 jobs" in ran("doctor")
    done = command("backup", tmp_path / "copies")
    assert done.returncode != 0
    assert "pg_dump" in done.stderr

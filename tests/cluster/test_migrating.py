"""``ingest migrate-store`` to PostgreSQL and back: nothing is lost on the way, and only one of both can be used."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ingest_cli.errors import ExitCode, IngestError, StoreError
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.postgres_connections import pool_of
from ingest_cli.jobs.process import host_name
from ingest_cli.jobs.store import open_store
from ingest_cli.maintenance.moving.places import side_of
from ingest_cli.maintenance.moving.tables import JOBS
from ingest_cli.pipeline.attending import attending
from ingest_cli.settings import PostgresUrl, Settings, load_settings
from ingest_cli.spool.rows import UploadRows

from ..support import tus
from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.history import fill
from ..support.ingeststate import row, write_rows
from ..support.object_stores import ObjectServer
from ..support.postgres import PostgresServer, bouncer_program, bouncing
from ..support.recount import recounted, told
from ..support.serving import Server
from ..support.shown import is_stored
from ..support.site import Site
from ..support.stepping import Order, Stepper
from ..support.waiting import until

pytestmark = pytest.mark.cluster
NAMES = {"INGEST_DB": "jobs.sqlite3", "UNIQUEID_URL": "ids.sqlite3", "METADATA_INGEST_URL": "catalogue.sqlite3"}
VARIABLES = ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL")


@pytest.fixture
def old(site: Site, command: Command, tmp_path: Path) -> Path:
    """The folder of an installation in files that has been in use; its last job stored something, with a log."""
    folder = site.catalog.parent
    folder.mkdir(parents=True)
    fill(folder / "jobs.sqlite3", 100, waiting=3)
    write_rows(tmp_path / "theirs.sqlite3", [row(1016), row(1017)])
    assert command("import-jobs", tmp_path / "theirs.sqlite3").returncode == 0
    assert command("-q", write_bundle(tmp_path / "b.tar")).returncode == 0
    return folder


@pytest.fixture
def pooled(postgres_server: PostgresServer, postgres: PostgresUrl) -> Iterator[PostgresUrl]:
    """A new database, through PgBouncer where that is installed."""
    if bouncer_program() is None:
        yield postgres
    else:
        with bouncing(postgres_server) as port:
            yield postgres_server.url(postgres.text.rpartition("/")[2], port=port)


def in_files(folder: Path) -> dict[str, str]:
    """The variables of an installation whose databases are in this folder."""
    return {
        variable: str(folder / name) if variable == "INGEST_DB" else (folder / name).as_uri()
        for variable, name in NAMES.items()
    }


def on_server(url: PostgresUrl) -> dict[str, str]:
    return dict.fromkeys(VARIABLES, url.text)


def settings_of(variables: dict[str, str]) -> Settings:
    others = {name: value for name, value in os.environ.items() if name not in {*NAMES, *VARIABLES}}
    return load_settings(environment={**others, **variables})


def use(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for variable in {*NAMES, *VARIABLES}:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)


def known(variables: dict[str, str]) -> dict[str, object]:
    """All that the job store tells."""
    with open_store(settings_of(variables), new=False) as store:
        jobs = store.select(limit=10_000)
        counts = told(store)
        assert counts == recounted(jobs)
        more = {job.job_id: (job, store.stages(job.job_id), store.history(job.job_id)) for job in jobs}
        return {**counts, "jobs": more, "seconds": store.stage_seconds(), "imported": store.imported(1016)}


def asked(url: PostgresUrl, query: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url.text) as connection:
        return connection.execute(query).fetchall()


def usable(variables: dict[str, str]) -> bool:
    try:
        with open_store(settings_of(variables), new=False) as store:
            return store.count() > 0
    except IngestError:
        return False


def cut_off(url: str, piece: bytes, length: int) -> None:
    """Send a piece of what was announced, and go away."""
    place = urlsplit(url)
    said = {**tus.PIECE, "Upload-Offset": "0", "Content-Length": str(length), "Host": place.netloc}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.sendall(f"PATCH {place.path} HTTP/1.1\r\n{head}\r\n".encode() + piece)


def test_up_and_back_down(
    old: Path, command: Command, postgres: PostgresUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, server, again = in_files(old), on_server(postgres), in_files(tmp_path / "again")
    before = known(files)
    up = command("migrate-store", f"sqlite:{old / 'jobs.sqlite3'}", postgres.text)
    assert up.returncode == 0, up.stderr
    assert up.stdout.count("the same on both sides") == 3
    assert known(server) == before
    assert not usable(files)
    assert f"has moved to {postgres}: have the configuration name that" in command("state").stderr
    # Each job that waits has its task, for this host, since what it is of is not shared.
    waiting = {job_id for (job_id,) in asked(postgres, "SELECT job_id FROM jobs WHERE state = 'queued'")}
    tasks = asked(
        postgres, "SELECT (args->>'job_id')::bigint, queue_name FROM procrastinate_jobs WHERE status = 'todo'"
    )
    assert dict(tasks) == dict.fromkeys(waiting, f"local:{host_name()}")
    # It is in use there, and what was stored is known.
    use(monkeypatch, server)
    assert command("verify", 1018).returncode == 0
    done = command("-q", "--queue", write_bundle(tmp_path / "c.tar", {"data/c": b"c"}))
    assert done.returncode == 0, done.stderr
    with open_store(settings_of(server)) as store:
        assert store.select(limit=1)[0].job_id == 1019, "ids go on"
        # Back, while a process has it open that does not know.
        before = known(server)
        down = command("migrate-store", postgres.text, f"{tmp_path}/again/")
        assert down.returncode == 0, down.stderr
        with pytest.raises(
            StoreError, match=f"^the job store in {postgres} has moved to {tmp_path}/again/jobs.sqlite3"
        ):
            store.submit(9, kind=JobKind.BUNDLE, source="x", fingerprint="1", user="u", holder=None)
    assert known(again) == before
    assert not usable(server)
    assert f"has moved to {tmp_path}/again/jobs.sqlite3" in command("state").stderr
    use(monkeypatch, again)
    assert command("verify", 1018).returncode == 0


def test_nobody_may_use_it_meanwhile(
    command: Command, postgres: PostgresUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, on_server(postgres))
    assert command("-q", "--queue", write_bundle(tmp_path / "b.tar")).returncode == 0
    down = ["migrate-store", postgres.text, f"{tmp_path}/again/"]
    settings = settings_of(on_server(postgres))
    with attending(settings, "watcher"), open_store(settings) as store:
        assert store.attendance is not None
        until(store.attendance.present)
        refused = command(*down)
    assert refused.returncode == ExitCode.UNREACHABLE
    assert f"a watcher is at work, process {os.getpid()} of {host_name()}: end the workers" in refused.stderr
    # What lies on the disk of another host nobody could run any more.
    monkeypatch.setenv("INGEST_HOST", "another")
    refused = command(*down)
    assert refused.returncode == ExitCode.UNREACHABLE
    assert f"job 1 waits for a worker of {host_name()}, on whose disk its files are: let it end first" in refused.stderr
    assert usable(on_server(postgres))
    assert not (tmp_path / "again").exists()


def test_from_server_to_server_uploads_under_way_and_queues_come_along(
    postgres_server: PostgresServer,
    strict_storage: ObjectServer,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = postgres_server.new_database(), postgres_server.new_database()
    shared = {
        **strict_storage.variables(strict_storage.new_bucket()),
        "INGEST_SHARED_SPOOL": f"s3://{strict_storage.new_bucket()}/spool",
    }
    for name, value in shared.items():
        monkeypatch.setenv(name, value)
    use(monkeypatch, on_server(old))
    content = write_bundle(tmp_path / "b.tar", {"data/a": os.urandom(3 << 20)}).read_bytes()
    with Server(tmp_path) as server:
        url = tus.create(server, len(content))
        cut_off(url, content[: 1 << 20], len(content))
        until(lambda: tus.offset(url) > 0)
    # What waits does so for this host, and comes before others.
    waiting = write_bundle(tmp_path / "waits.tar", {"data/w": b"w"})
    monkeypatch.setenv("INGEST_PRIORITY", "70")
    assert command("-q", "--queue", waiting).returncode == 0
    queued = asked(old, "SELECT queue, priority FROM jobs")
    moved = command("migrate-store", old.text, new.text)
    assert (moved.returncode, moved.stderr) == (0, "")
    assert asked(new, "SELECT queue, priority FROM jobs") == queued
    assert asked(new, "SELECT queue_name, priority FROM procrastinate_jobs WHERE status = 'todo'") == queued
    use(monkeypatch, on_server(new))
    with Server(tmp_path) as server:
        url = f"{server.url}{urlsplit(url).path}"
        arrived = tus.offset(url)
        assert arrived > 0
        answer = tus.append(url, arrived, content[arrived:])
        assert answer.status_code == 204
        assert is_stored(server.settled(int(answer.headers["Ingest-Job-Id"])))


def test_what_lies_in_a_shared_spool_is_not_left_behind_in_silence(
    command: Command, postgres: PostgresUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, on_server(postgres))
    assert command("-q", write_bundle(tmp_path / "b.tar")).returncode == 0
    down = ["migrate-store", postgres.text, f"{tmp_path}/again/"]
    with open_store(settings_of(on_server(postgres))) as store, closing(UploadRows(pool_of(postgres))) as rows:
        rows.add("resumable-1.tar", 3000, "alice", "client", "", "", None)
        source = "s3://bucket/spool/resumable-2.tar"
        store.submit(9, kind=JobKind.BUNDLE, source=source, fingerprint="1", user="u", holder=None, spooled=True)
        refused = command(*down)
        assert refused.returncode == ExitCode.UNREACHABLE
        assert f"job 9 is of {source}, in a spool that only hosts with a database of PostgreSQL share" in refused.stderr
        assert usable(on_server(postgres))
        assert not (tmp_path / "again").exists()
    assert command("discard", 9).returncode == 0
    moved = command(*down)
    assert moved.returncode == 0, moved.stderr
    assert "1 upload under way will be begun anew" in moved.stderr
    assert "resumable-1.tar (by 'alice', 0 bytes of 3.0 kB)" in moved.stderr


def test_nobody_uses_what_is_being_filled(postgres: PostgresUrl, tmp_path: Path) -> None:
    settings = settings_of(on_server(postgres))
    with open_store(settings) as forgotten, closing(side_of(JOBS, postgres, settings)) as side:

        def submit() -> None:
            forgotten.submit(1, kind=JobKind.BUNDLE, source="x", fingerprint="1", user="u", holder=None)

        side.begin("/old/jobs.sqlite3")
        with pytest.raises(StoreError, match=r"is not complete: it is being filled from /old/jobs\.sqlite3; 'ingest"):
            submit()
        side.end()
        submit()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_it_can_be_killed_anywhere(
    old: Path,
    pooled: PostgresUrl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    direction: str,
) -> None:
    files, server, again = in_files(old), on_server(pooled), in_files(tmp_path / "again")
    before = known(files)
    up = ["migrate-store", "-q", files["INGEST_DB"], pooled.text]
    down = ["migrate-store", "-q", pooled.text, again["INGEST_DB"]]
    with Stepper() as stepper:

        def moved(words: list[str], step: int = 0) -> int:
            done = stepper(Order(words=words, folder=str(tmp_path), environment=dict(os.environ), step=step))
            assert done.status == 0 or done.hit, done.stderr
            return done.steps["main"]

        if direction == "down":
            moved(up)
        words, left, new = (up, files, server) if direction == "up" else (down, server, again)
        step = 1
        while moved(words, step) == step:
            assert not (usable(left) and usable(new))
            step += max(7, step // 3)
        assert (usable(left), usable(new)) == (False, True)
        assert known(new) == before

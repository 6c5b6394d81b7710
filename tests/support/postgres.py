"""A PostgreSQL server of the tests' own that can be stopped, killed and frozen, and PgBouncer before it.

Needs PostgreSQL's programs and psycopg: `require_postgres` skips where they are missing.
"""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.settings import PostgresUrl

from .databases import as_postgres, new_postgres, postgres_programs
from .loopback import lasting_port

PATIENCE = 60.0
SETTINGS = ("max_connections=300", "shared_buffers=64MB", "log_min_messages=fatal", "log_min_error_statement=fatal")
# Who gives no password is refused.
GUARDED, PASSWORD = "guarded", "s3cr%t/p@ss"
POOLED = """
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
logfile = {folder}/bouncer.log
pidfile = {folder}/bouncer.pid
"""


def require_postgres() -> None:
    """Skip the test where PostgreSQL, or the library to speak to it, is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed")


@contextmanager
def held_catalog(url: PostgresUrl) -> Iterator[None]:
    """Nobody can write to the catalogue there: every job comes to a halt before its end."""
    import psycopg

    with psycopg.connect(url.text) as connection:
        connection.execute("LOCK TABLE Transactions IN EXCLUSIVE MODE")
        yield


class PostgresServer:
    """A server in a folder of its own, with databases that are new to whoever asks."""

    def __init__(self, folder: Path, settings: Sequence[str] = ()) -> None:
        self._folder, self.port = folder, lasting_port()
        words = new_postgres(folder / "data", self.port, fsync=True)
        hba = folder / "data" / "pg_hba.conf"
        hba.write_text(f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
        self._words = [*words, *(word for setting in (*SETTINGS, *settings) for word in ("-c", setting))]
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int:
        """Of the process that begets the others."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log, cwd="/")
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it as a system that shuts down does, whatever its clients are at."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a loss of power does."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Have it, and all that it has begotten, answer nobody until `thaw`."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def new_database(self, template: str = "template0") -> PostgresUrl:
        """A new database, like the one whose name is given, which nobody may be using."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url(self, database: str, *, user: str = "postgres", port: int = 0, query: str = "") -> PostgresUrl:
        """The URL of a database, through a proxy at another ``port``."""
        text = f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}{query}"
        return PostgresUrl(text, text)

    def guard(self, password: str = PASSWORD) -> None:
        """Have the role that is asked for a password be there, with this one, and end its connections."""
        made = f"BEGIN CREATE ROLE {GUARDED} LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN END"
        self.execute(f"DO $$ {made} $$; ALTER ROLE {GUARDED} PASSWORD '{password}'")
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{GUARDED}'")

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What comes of a statement, which is in no transaction."""
        import psycopg

        with closing(psycopg.connect(self.url(database).text, autocommit=True)) as connection:
            found = connection.execute(sql)
            return found.fetchall() if found.description is not None else []

    def rows(self, table: str, url: PostgresUrl) -> list[dict[str, Any]]:
        """All rows of a table; none where there is no such table."""
        name = url.text.rpartition("/")[2]
        columns = self.execute(
            f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table.lower()}'"
            " ORDER BY ordinal_position",
            name,
        )
        if not columns:
            return []
        keys = [key for (key,) in columns]
        found = self.execute(f"SELECT * FROM {table}", name)
        return [dict(zip(keys, row, strict=True)) for row in found]

    def is_in_a_transaction(self, url: PostgresUrl) -> bool:
        """Whether somebody has begun one there, and not ended it."""
        name = url.text.rpartition("/")[2]
        return bool(self.execute(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND xact_start IS NOT NULL"))

    def waiting_for_locks(self, url: PostgresUrl) -> int:
        """How many wait there for what others are changing."""
        name = url.text.rpartition("/")[2]
        waiting = f"wait_event_type = 'Lock' AND datname = '{name}'"
        return len(self.execute(f"SELECT 1 FROM pg_stat_activity WHERE {waiting}"))

    def empty(self, url: PostgresUrl) -> None:
        """Remove every row of a database, but for what says which versions its tables are of."""
        name = url.text.rpartition("/")[2]
        tables = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name)
        deleted = "; ".join(f"DELETE FROM {table}" for (table,) in tables if table != "ingest_versions")
        self.execute(f"SET session_replication_role = replica; {deleted}", name)

    def _wait_until_it_answers(self) -> None:
        import psycopg

        deadline = time.monotonic() + PATIENCE
        while True:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "postgres.log").read_text()
            with suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def bouncer_program() -> str | None:
    """Where PgBouncer is, if it is installed."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def bouncing(server: PostgresServer) -> Iterator[int]:
    """PgBouncer before the server, in transaction pooling, and its port, for as long as the block lasts."""
    program = bouncer_program()
    if program is None:
        pytest.skip("PgBouncer is not installed")
    with outside() as folder:
        port = lasting_port()
        config = folder / "bouncer.ini"
        config.write_text(POOLED.format(server=server.port, port=port, folder=folder))
        words = [*as_postgres(folder), program, "-q", str(config)]
        process = subprocess.Popen(words, cwd="/", stderr=subprocess.DEVNULL)
        yield from _while_it_runs(process, server, port)


def _while_it_runs(process: "subprocess.Popen[bytes]", server: PostgresServer, port: int) -> Iterator[int]:
    import psycopg

    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            with suppress(psycopg.OperationalError):
                psycopg.connect(server.url("postgres", port=port).text).close()
                break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving_postgres() -> Iterator[PostgresServer]:
    """A server, for as long as the block lasts. Skips where it cannot be had."""
    require_postgres()
    with outside() as folder:
        server = PostgresServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def outside() -> Iterator[Path]:
    """A folder that is not among pytest's, which any later session makes inaccessible to other users, such as these
    servers run as."""
    with tempfile.TemporaryDirectory(prefix="ingest-", dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)

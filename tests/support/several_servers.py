"""Servers of several hosts that are one service: they share a database, object storage and an archive."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psycopg
import requests

from ingest_cli.jobs.job import Job
from ingest_cli.jobs.postgres_connections import pool_of
from ingest_cli.jobs.store import open_store
from ingest_cli.services.embedded.mark import MARK_NAME
from ingest_cli.services.s3.bucket import Bucket
from ingest_cli.settings import PostgresUrl, Settings, load_settings
from ingest_cli.spool.rows import UploadRows
from ingest_cli.spool.shared import SharedSpool

from .balancing import Balancer, Loses
from .command import Command
from .loopback import lasting_port
from .object_stores import ObjectServer
from .waiting import PATIENCE, until


class Instance:
    """``ingest serve`` on a host of its own, started anew at the same port after it was killed."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *words: object) -> None:
        folder.mkdir(parents=True)
        self.folder, self.log = folder, folder / "server.log"
        self._environment = {**environment, "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
        self._words, self._port = words, lasting_port()
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.kill()

    def start(self) -> None:
        words = ["serve", "--port", self._port, "--reserve", 0, *self._words]
        with self.log.open("ab") as log:
            begun = self.log.stat().st_size
            self.process = subprocess.Popen(
                Command.line(*words),
                cwd=self.folder,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(r"listening at (\S+)", self.log.read_text()[begun:])) is None:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.url = found[1]

    def kill(self) -> None:
        """End it, and its workers, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGCONT)


class SeveralServers:
    """Two servers behind a load balancer, and eyes into what they share."""

    def __init__(self, instances: list[Instance], balancer: Balancer, settings: Settings, archive: Path) -> None:
        self.instances, self.balancer, self.settings, self.archive = instances, balancer, settings, archive
        assert isinstance(settings.database, PostgresUrl)
        assert settings.shared_spool is not None
        assert settings.s3 is not None
        bucket = Bucket(settings.shared_spool, settings.s3, 4)
        self.spool = SharedSpool(UploadRows(pool_of(settings.database)), bucket)

    @property
    def url(self) -> str:
        """Where clients find the service."""
        return self.balancer.url

    def jobs(self) -> list[Job]:
        with open_store(self.settings, new=False) as store:
            return store.select(descending=False)

    def settled(self, job_id: int) -> Job:
        """The job, when it has come to its end."""
        found: list[Job] = []

        def is_settled() -> bool:
            with open_store(self.settings, new=False) as store:
                found[:] = [store.get(job_id)]
            return found[0].is_done or found[0].has_failed

        until(is_settled)
        return found[0]

    def objects(self) -> set[str]:
        """What lies in the shared spool."""
        return {key for key, _ in self.spool.bucket.keys("", "list")}

    def orphans(self) -> set[str]:
        """What of that nobody knows of, nor ever will."""
        return {key for batch in self.spool.orphans() for key in batch}

    def stored(self) -> list[bytes]:
        """What is in the archive."""
        files = (path for path in self.archive.rglob("*") if path.is_file() and path.name != MARK_NAME)
        return sorted(path.read_bytes() for path in files)

    def age(self, path: str, seconds: float) -> None:
        """Have nobody have touched the upload for so long."""
        assert isinstance(self.settings.database, PostgresUrl)
        with psycopg.connect(self.settings.database.text) as connection:
            connection.execute(
                "UPDATE uploads SET touched = now() - make_interval(secs => %s) WHERE name = %s",
                (seconds, f"resumable-{path.rpartition('/')[2]}.tar"),
            )

    def close(self) -> None:
        self.spool.close()


@contextmanager
def several_servers(
    folder: Path,
    postgres: PostgresUrl,
    storage: ObjectServer,
    loses: Loses = lambda _method, _path, _number: False,
    *,
    workers: int = 1,
) -> Iterator[SeveralServers]:
    """Two servers that share the database and a new bucket, for as long as the block lasts."""
    archive = folder / "archive"
    environment = {
        "INGEST_DATABASE_URL": postgres.text,
        "UNIQUEID_URL": postgres.text,
        "METADATA_INGEST_URL": postgres.text,
        **storage.variables(storage.new_bucket()),
        "ARCHIVEINTERFACE_URL": archive.as_uri(),
        "INGEST_DOWNLOADS": "yes",
    }
    bucket = storage.new_bucket()
    environment["INGEST_SHARED_SPOOL"] = f"s3://{bucket}/spool"
    with ExitStack() as stack:
        instances = [
            stack.enter_context(Instance(folder / name, environment, "--workers", workers)) for name in ("one", "two")
        ]
        balancer = stack.enter_context(Balancer([instance.url for instance in instances], loses))
        settings = load_settings(environment={**environment, "HOME": str(folder)})
        servers = SeveralServers(instances, balancer, settings, archive)
        stack.callback(servers.close)
        yield servers


def state_of(url: str, job_id: int) -> dict[str, Any]:
    """What a server says of a job."""
    answer = requests.get(f"{url}/get_state", params={"job_id": job_id}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    state: dict[str, Any] = answer.json()
    return state

"""No sequence of tus's requests to several servers, and of their deaths, makes them lose, invent or repeat anything."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests

from ingest_cli.jobs.spool import SpoolKind

from ..support.object_stores import ObjectServer
from ..support.postgres import PostgresServer
from ..support.several_servers import SeveralServers, several_servers
from ..support.tus_machine import Known, walk
from ..support.waiting import PATIENCE

pytestmark = pytest.mark.cluster


class TwoServers:
    """Two servers, each of which is asked in turn, and each of which can die."""

    def __init__(self, servers: SeveralServers) -> None:
        self._servers = servers
        self._turns, self._deaths = itertools.count(), itertools.count()

    def restart(self) -> None:
        instance = self._servers.instances[next(self._deaths) % 2]
        instance.kill()
        instance.start()

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
        url = self._servers.instances[next(self._turns) % 2].url
        return requests.request(method, url + path, headers=headers, data=body, timeout=PATIENCE, allow_redirects=False)

    def age(self, path: str) -> None:
        self._servers.age(path, SpoolKind.RESUMABLE.untouched.total_seconds() + 1)

    def check_spool(self, uploads: Sequence[Known]) -> None:
        spool = self._servers.spool
        for upload in uploads:
            name = name_of(upload.path)
            row = spool.rows.find(name)
            assert (row is None) == upload.is_gone
            assert row is None or row.is_used == upload.is_joined
            content = b"".join(bytes(spool.read(piece)) for piece in spool.rows.pieces(name))
            assert content == (b"" if upload.is_gone or upload.is_joined else upload.content)
        assert [batch for batch in spool.orphans() if batch] == []

    def jobs_of(self, path: str) -> list[str]:
        source = self._servers.spool.source_of(name_of(path))
        return [str(job.job_id) for job in self._servers.jobs() if job.source == source]


def name_of(path: str) -> str:
    return f"resumable-{path.rpartition('/')[2]}.tar"


@pytest.fixture
def servers(tmp_path: Path, postgres_server: PostgresServer, strict_storage: ObjectServer) -> Iterator[TwoServers]:
    with several_servers(tmp_path / "hosts", postgres_server.new_database(), strict_storage) as servers:
        yield TwoServers(servers)


def test_some_sequences(servers: TwoServers) -> None:
    walk(servers, examples=3, steps=25)

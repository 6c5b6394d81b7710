"""No sequence of tus's requests, and of deaths of the server, makes it lose, invent or repeat anything."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from ingest_cli.jobs.spool import SpoolKind, record_of

from ..support.serving import PATIENCE, Server
from ..support.site import Site
from ..support.tus import file_of
from ..support.tus_machine import Known, walk


class OneServer:
    """A server that can die, and its site."""

    def __init__(self, folder: Path, site: Site, stack: ExitStack) -> None:
        self._folder, self._stack, self._site = folder, stack, site
        self._server = stack.enter_context(Server(folder))

    def restart(self) -> None:
        self._server.kill()
        self._server = self._stack.enter_context(Server(self._folder))

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
        return requests.request(
            method, self._server.url + path, headers=headers, data=body, timeout=PATIENCE, allow_redirects=False
        )

    def age(self, path: str) -> None:
        file = file_of(self._site, path)
        for each in (file, record_of(file)):
            if each.exists():
                os.utime(each, (time.time() - SpoolKind.RESUMABLE.untouched.total_seconds() - 1,) * 2)

    def check_spool(self, uploads: Sequence[Known]) -> None:
        for upload in uploads:
            file = file_of(self._site, upload.path)
            assert record_of(file).exists() != upload.is_gone
            assert file.exists() != (upload.is_gone or upload.is_joined)
            assert not file.exists() or file.read_bytes() == upload.content
        spool = self._site.settings.spool
        files = {path.stem for path in spool.iterdir() if path.suffix == ".tar"}
        jobs = {Path(job.source).stem for job in self._site.jobs()}
        assert files - jobs <= {file_of(self._site, upload.path).stem for upload in uploads}
        assert {path.suffix for path in spool.iterdir()} <= {".tar", ".json"}

    def jobs_of(self, path: str) -> list[str]:
        source = str(file_of(self._site, path))
        return [str(job.job_id) for job in self._site.jobs() if job.source == source]


@pytest.fixture
def server(environment: Path, site: Site) -> Iterator[OneServer]:
    with ExitStack() as stack:
        yield OneServer(environment, site, stack)


def test_some_sequences(server: OneServer) -> None:
    walk(server, examples=3, steps=15)


@pytest.mark.sweep
def test_many_sequences(server: OneServer) -> None:
    walk(server, examples=80, steps=50)

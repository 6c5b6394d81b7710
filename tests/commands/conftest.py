"""What tests of commands stand on."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.settings import ObjectStore

from ..support.bundles import FILES, document_for, transaction, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.object_stores import ObjectServer
from ..support.site import Site
from ..support.site_in_storage import Setting
from ..support.waiting import PATIENCE, until
from ..support.watching import SETTLE, looks_on


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


@pytest.fixture
def watching(command: Command, drop: Path, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a watcher, whose words go to ``log`` and who looks on; it is told to leave at the end of the test."""
    started: list[Running] = []

    def start(*words: object) -> Running:
        line = ("watch", drop, "--settle", SETTLE, "--patience", PATIENCE, *words)
        with (tmp_path / "log").open("ab") as log:
            started.append(command.start(*line, output=log))
        until(lambda: (drop / ".ingest-watch.lock").exists())
        if "--poll" not in words:
            until(lambda: looks_on(started[-1].pid))
        return started[-1]

    yield start
    try:
        for process in started:
            process.terminate()
        for process in started:
            assert process.wait(PATIENCE) in (0, -signal.SIGKILL, ExitCode.INTERRUPTED), (tmp_path / "log").read_text()
    finally:
        for process in started:
            process.kill()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.json"
    path.write_text(json.dumps(transaction()))
    return path


@pytest.fixture
def half_stored(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that is in the archive, but not in the catalogue, which was down."""
    bundle = write_bundle(tmp_path / "b.tar")
    with monkeypatch.context() as patch:
        patch.setenv("METADATA_INGEST_URL", "http://127.0.0.1:9/ingest")
        assert command(bundle).returncode == 4
    return bundle


@pytest.fixture
def stored(site: Site, tmp_path: Path) -> Path:
    """A bundle that is stored; a file of it has a key."""
    records = document_for(FILES)
    for number, record in enumerate(record for record in records if record["destinationTable"] == "Files"):
        record["_id"] = 100 + number
    records.append({"destinationTable": "FileKeyValue", "file_id": 101, "key": "phase", "value": "solid"})
    bundle = write_bundle(tmp_path / "b.tar", FILES, records)
    site.ingest(bundle)
    return bundle


@pytest.fixture(params=["strict", "lax"])
def storage(request: pytest.FixtureRequest) -> ObjectServer:
    server: ObjectServer = request.getfixturevalue(f"{request.param}_storage")
    return server


@pytest.fixture
def in_storage(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Has the site's archive be in storage; where that is."""

    def place(server: ObjectServer, **others: str) -> ObjectStore:
        place = ObjectStore(server.new_bucket(), "archive")
        for name, text in {**server.variables(place.bucket, place.prefix), **others}.items():
            monkeypatch.setenv(name, text)
        return place

    return place

"""The released clients of Pacifica Ingest upload through ``ingest serve``, unchanged."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.serving import Server
from ..support.shown import is_stored
from ..support.site import Site
from .released import Released
from .services import PacificaServices, ask, assert_stored

pytestmark = pytest.mark.pacifica

UPLOADER = """
import sys, time
from pathlib import Path
from threading import Thread
from os import pipe, fdopen
from pacifica.uploader import Uploader
from pacifica.uploader.bundler import Bundler
from pacifica.uploader.metadata import MetaData, MetaObj

records = {"submitter": 10, "project": "1234a", "instrument": 54, "_id": 4711}
document = MetaData([MetaObj(destinationTable=f"Transactions.{key}", value=value) for key, value in records.items()])
members = [
    {"name": f"data/{path.name}", "fileobj": path.open("rb"), "size": path.stat().st_size, "mtime": 0}
    for path in sorted(Path(sys.argv[1]).iterdir())
]
uploader = Uploader(upload_url=sys.argv[2] + "/upload", status_url=sys.argv[2] + "/get_state")
reading, writing = pipe()

def bundle():
    with fdopen(writing, "wb") as writer:
        Bundler(document, members).stream(writer)

Thread(target=bundle).start()
with fdopen(reading, "rb") as reader:
    job_id = uploader.upload(reader)
status = uploader.getstate(job_id)
while status["state"] == "OK" and not (
    status["task"] == "ingest metadata" and int(float(status["task_percent"])) == 100
):
    time.sleep(0.1)
    status = uploader.getstate(job_id)
assert status["state"] == "OK", status
print(job_id)
"""
FILES = {"one": b"1", "two.bin": bytes(2_000_000), "\u00fcn\u00ef.txt": b"hello", "empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "instrument"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def stored(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files that are stored as job 1, where they may be downloaded, by their names below ``data``."""
    monkeypatch.setenv("INGEST_DOWNLOADS", "yes")
    files = {"top": b"top", "a/b/\u00e9 1%.txt": b"1", "a/two.bin": bytes(3_000_000), "a/empty": b""}
    site.ingest(write_bundle(tmp_path / "b.tar", {f"data/{name}": content for name, content in files.items()}))
    return files


@pytest.mark.parametrize("way", ["by its id", "by its event"])
def test_the_command_line_client_downloads(
    services: PacificaServices, environment: Path, stored: dict[str, bytes], way: str
) -> None:
    target, event = environment / "target", environment / "event.json"
    target.mkdir()
    with Server(environment) as server:
        policy = f"{server.url}/status/transactions/by_id"
        records = requests.get(f"{policy}/1", timeout=60).json()["files"].values()
        event.write_text(json.dumps({"data": list(records)}))
        words = {"by its id": ["--transaction-id", "1"], "by its event": ["--cloudevent", str(event)]}[way]
        endpoints = {"DOWNLOAD_URL": server.url, "DOWNLOAD_POLICY_URL": policy}
        run(services, "pacifica-cli", "download", "--destination", str(target), *words, **endpoints)
    found = {path.relative_to(target / "data"): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == {Path(name): content for name, content in stored.items()}


def test_the_command_line_client_downloads_over_the_real_services(
    pacifica: PacificaServices, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_DOWNLOADS", "yes")
    files = {"data/top": os.urandom(9), "data/a/large": os.urandom(3_000_000)}
    target = environment / "target"
    target.mkdir()
    with Server(environment) as server:
        state = server.settled(server.upload(write_bundle(tmp_path / "b.tar", files))["job_id"])
        assert state["complete"], state
        endpoints = {
            "DOWNLOAD_URL": server.url,
            "DOWNLOAD_POLICY_URL": f"{pacifica.url('policy')}/status/transactions/by_id",
        }
        words = ["--destination", str(target), "--transaction-id", str(state["job_id"])]
        run(pacifica, "pacifica-cli", "download", *words, **endpoints)
    found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == files


def run(services: PacificaServices, *words: str, **environment: str) -> str:
    own = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "LANG": "C.UTF-8", **environment}
    done = subprocess.run(
        [services.program(words[0]), *words[1:]], env=own, capture_output=True, text=True, timeout=30, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_uploader_over_embedded_services(
    services: PacificaServices, environment: Path, site: Site, folder: Path
) -> None:
    with Server(environment) as server:
        job_id = int(run(services, "python", "-c", UPLOADER, str(folder), server.url))
    assert site.job(job_id).is_done
    assert site.contents() == {f"data/{name}": content for name, content in FILES.items()}


def test_the_uploader_over_the_real_services(pacifica: PacificaServices, environment: Path, folder: Path) -> None:
    with Server(environment) as server:
        job_id = int(run(pacifica, "python", "-c", UPLOADER, str(folder), server.url))
    assert_stored(pacifica, job_id, {f"data/{name}": content for name, content in FILES.items()})


def shown(said: str) -> dict[str, Any]:
    """The job's state, which pacifica-cli shows when it has waited."""
    state: dict[str, Any] = json.loads(said[said.index("\n{\n") :])
    return state


def test_pacifica_cli_as_its_documentation_configures_it(
    pacifica: PacificaServices, released: Released, environment: Path, folder: Path
) -> None:
    with Server(environment) as server:
        job_id = shown(released.upload(server, folder / "one"))["job_id"]
    assert_stored(pacifica, job_id, {f"data/Project ID 1234a{folder}/one": FILES["one"]})
    (pair,) = ask(pacifica, f"/trans_key_value?transaction={job_id}")
    assert ask(pacifica, f"/keys?_id={pair['key']}")[0]["key"] == "User of Record"
    assert ask(pacifica, f"/values?_id={pair['value']}")[0]["value"] == "10"


def test_pacifica_cli_uploads_files_and_folders(released: Released, environment: Path, folder: Path) -> None:
    with Server(environment) as server:
        for given in ([folder], [folder / "two.bin"], ["--tar-in-tar", folder], ["--follow-links", folder]):
            state = shown(released.upload(server, *given))
            assert is_stored(state)
            assert state["exception"] == "" or given[0] == "--follow-links", state


def test_pacifica_cli_does_not_wait_if_it_is_told_not_to(released: Released, environment: Path, folder: Path) -> None:
    with Server(environment) as server:
        found = re.search(r"Not Waiting Job ID \((\d+)\)", released.upload(server, "--nowait", folder))
        assert found is not None
        assert is_stored(server.settled(int(found[1])))


@pytest.mark.parametrize("packed", [[], ["--local-compress", "bzip2"], ["--local-compress", "gzip"]])
def test_what_pacifica_cli_saved_is_known(
    released: Released, environment: Path, folder: Path, command: Command, packed: list[str]
) -> None:
    saved = environment / "saved.tar"
    with Server(environment) as server:
        state = shown(released.upload(server, "--local-save", saved, *packed, folder))
        assert is_stored(state)
        again = shown(released.upload(server, "--local-retry", saved))
        assert is_stored(again)
        assert again["exception"] == f"the same bundle was ingested before as job {state['job_id']}"
    done = command(saved)
    assert done.stdout == f"job {state['job_id']}: {saved} was ingested before\n", done.stderr


def test_what_pacifica_cli_saved_without_uploading_is_uploaded_later(
    released: Released, environment: Path, folder: Path
) -> None:
    saved = environment / "saved.tar"
    with Server(environment) as server:
        released.upload(server, "--local-save", saved, "--do-not-upload", folder)
        state = shown(released.upload(server, "--local-retry", saved))
        assert is_stored(state)
        assert state["exception"] == ""


def test_pacifica_cli_is_told_within_seconds_that_the_archive_is_down(
    released: Released, pacifica: PacificaServices, environment: Path, folder: Path, command: Command
) -> None:
    pacifica.stop("archiveinterface")
    try:
        with Server(environment) as server:
            begun = time.monotonic()
            state = shown(released.upload(server, folder))
            took = time.monotonic() - begun
            assert (state["state"], state["task"], state["complete"]) == ("FAILED", "ingest files", False)
            assert state["exception"].startswith("the archive at ")
            assert state["exception"].endswith("; do not send it again")
            assert took < 30
            pacifica.start("archiveinterface")
            assert command("retry", state["job_id"]).returncode == 0
            assert is_stored(server.settled(state["job_id"]))
    finally:
        if not pacifica.is_running("archiveinterface"):
            pacifica.start("archiveinterface")

"""The suites of the released ingest service and of its clients, unchanged, against ``ingest serve``.

Each runs as its own CI runs it, in its folder of tests. The ingest service's asks port 8066, whatever it is told, and
finds the server there as a client behind a proxy does. Each has a job store of its own, so that no document is known.
"""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ..support.command import Command
from ..support.serving import Server
from ..support.shown import is_stored
from .services import PacificaServices

pytestmark = pytest.mark.pacifica

BUNDLES = {
    "good": "good-md.json",
    "bad-project": "bad-project-md.json",
    "bad-mimetype": "bad-mimetype-md.json",
    "bad-hashsum": "bad-hashsum-md.json",
    "bad-json": "bad-json-md.notjson",
}
PATIENCE = 180


class Suites:
    """The tests of the released packages, with an environment of their own to run in."""

    def __init__(self, home: Path, services: PacificaServices, folder: Path) -> None:
        self._home, self._services, self.folder = home, services, folder

    def tests_of(self, package: str) -> Path:
        """A copy of a package's tests, where they may write."""
        tests = self.folder / package / "tests"
        shutil.copytree(self._home / package / "tests", tests)
        return tests

    def run(self, server: Server, tests: Path, *names: str, **environment: str) -> None:
        """Run these files of the suite, or all; none may fail, nor be skipped."""
        done = subprocess.run(
            [str(self._home / "venv/bin/python"), "-m", "pytest", "-p", "no:cacheprovider", "-v", *names],
            env={**self.environment(server), **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=tests,
        )
        said = done.stdout + done.stderr + server.log.read_text()
        assert done.returncode == 0, said
        assert "skipped" not in done.stdout, said

    def upload(self, server: Server, *words: object) -> str:
        """Upload by pacifica-cli, with the configuration that its documentation prints; what it says."""
        config = self._home / "pacifica-cli-0.5.2/docs/_static/uploader.json"
        chosen = ["--logon", "dmlb2001", "--project", "1234a", "--instrument", "54"]
        environment = {
            **self.environment(server),
            "UPLOAD_URL": f"{server.url}/upload",
            "UPLOAD_STATUS_URL": f"{server.url}/get_state",
            "UPLOAD_POLICY_URL": f"{self._services.url('policy')}/uploader",
            "UPLOAD_VALIDATION_URL": f"{self._services.url('policy')}/ingest",
        }
        done = subprocess.run(
            [str(self._home / "venv/bin/pacifica-cli"), "upload", f"--config={config}", *chosen, *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd="/",
        )
        assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()
        return done.stdout

    def environment(self, server: Server) -> dict[str, str]:
        """Where the services are, as the released clients are told of it."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.folder),
            "INGEST_CONFIG": "/nonexistent",
            "INGEST_UPLOAD_URL": f"{server.url}/upload",
            "INGEST_STATUS_URL": f"{server.url}/get_state",
            "POLICY_UPLOADER_URL": f"{self._services.url('policy')}/uploader",
            "POLICY_INGEST_URL": f"{self._services.url('policy')}/ingest",
        }


@pytest.fixture
def suites(pacifica: PacificaServices, environment: Path) -> Suites:
    home = Path(os.environ["INGEST_TEST_PACIFICA"]) / "suites"
    if not (home / "complete").exists():
        pytest.skip("the suites of the released services are not installed; see .ci/pacifica")
    return Suites(home, pacifica, environment)


@pytest.fixture
def ingest_tests(suites: Suites) -> Path:
    """The released service's tests, with the bundles and the file to move that its CI makes beforehand."""
    tests = suites.tests_of("pacifica-ingest-0.4.1")
    data = tests / "test_data"
    for name, metadata in BUNDLES.items():
        shutil.copy(data / "metadata-files" / metadata, data / "metadata.txt")
        subprocess.run(["tar", "-cf", f"{name}.tar", "metadata.txt", "data"], cwd=data, check=True)
    source = suites.folder / "foo.txt"
    source.write_text("foo\n")
    document = data / "move-md.json"
    document.write_text(document.read_text().replace("/tmp/foo.txt", str(source)))
    return tests


@pytest.mark.parametrize("name", ["upload", "utils", "move"])
def test_the_suite_of_the_released_ingest_service(
    suites: Suites, environment: Path, ingest_tests: Path, name: str
) -> None:
    with Server(environment, "--move-from", "/") as server:
        suites.run(server, ingest_tests, f"{name}_test.py", http_proxy=server.url)


@pytest.mark.parametrize(("name", "service"), [("badpolicy", "policy"), ("badai", "archiveinterface")])
def test_the_suite_of_the_released_ingest_service_while_a_service_is_down(
    suites: Suites,
    pacifica: PacificaServices,
    environment: Path,
    ingest_tests: Path,
    name: str,
    service: str,
) -> None:
    pacifica.stop(service)
    try:
        with Server(environment, "--move-from", "/") as server:
            suites.run(server, ingest_tests, f"upload_{name}_test.py", http_proxy=server.url)
    finally:
        pacifica.start(service)


def test_the_suite_of_the_released_uploader(suites: Suites, environment: Path) -> None:
    with Server(environment) as server:
        suites.run(server, suites.tests_of("pacifica-uploader-0.3.1"))


@pytest.fixture
def readings(environment: Path) -> Path:
    """A folder of files for pacifica-cli."""
    folder = environment / "readings"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.dat").write_bytes(os.urandom(700_000))
    return folder


def shown(said: str) -> dict[str, Any]:
    """The job's state, which pacifica-cli shows when it has waited."""
    state: dict[str, Any] = json.loads(said[said.index("\n{\n") :])
    return state


def test_pacifica_cli_uploads_files_and_folders(suites: Suites, environment: Path, readings: Path) -> None:
    with Server(environment) as server:
        for given in ([readings], [readings / "0.dat"], ["--tar-in-tar", readings], ["--follow-links", readings]):
            state = shown(suites.upload(server, *given))
            assert is_stored(state)
            assert state["exception"] == "" or given[0] == "--follow-links", state


def test_pacifica_cli_does_not_wait_if_it_is_told_not_to(suites: Suites, environment: Path, readings: Path) -> None:
    with Server(environment) as server:
        found = re.search(r"Not Waiting Job ID \((\d+)\)", suites.upload(server, "--nowait", readings))
        assert found is not None
        assert is_stored(server.settled(int(found[1])))


@pytest.mark.parametrize("packed", [[], ["--local-compress", "bzip2"], ["--local-compress", "gzip"]])
def test_what_pacifica_cli_saved_is_known(
    suites: Suites, environment: Path, readings: Path, command: Command, packed: list[str]
) -> None:
    saved = environment / "saved.tar"
    with Server(environment) as server:
        state = shown(suites.upload(server, "--local-save", saved, *packed, readings))
        assert is_stored(state)
        again = shown(suites.upload(server, "--local-retry", saved))
        assert is_stored(again)
        assert again["exception"] == f"the same bundle was ingested before as job {state['job_id']}"
    done = command(saved)
    assert done.stdout == f"job {state['job_id']}: {saved} was ingested before\n", done.stderr


def test_what_pacifica_cli_saved_without_uploading_is_uploaded_later(
    suites: Suites, environment: Path, readings: Path
) -> None:
    saved = environment / "saved.tar"
    with Server(environment) as server:
        suites.upload(server, "--local-save", saved, "--do-not-upload", readings)
        state = shown(suites.upload(server, "--local-retry", saved))
        assert is_stored(state)
        assert state["exception"] == ""


def test_pacifica_cli_is_told_within_seconds_that_the_archive_is_down(
    suites: Suites, pacifica: PacificaServices, environment: Path, readings: Path, command: Command
) -> None:
    pacifica.stop("archiveinterface")
    try:
        with Server(environment) as server:
            begun = time.monotonic()
            state = shown(suites.upload(server, readings))
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

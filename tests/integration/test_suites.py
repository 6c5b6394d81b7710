"""The suites of the released ingest service and of its uploader, unchanged, against ``ingest serve``.

Each runs as its own CI runs it, in its folder of tests. The ingest service's asks port 8066, whatever it is told, and
finds the server there as a client behind a proxy does. Each has a job store of its own, so that no document is known.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from ..support.serving import Server
from .released import Released
from .services import PacificaServices

pytestmark = pytest.mark.pacifica

BUNDLES = {
    "good": "good-md.json",
    "bad-project": "bad-project-md.json",
    "bad-mimetype": "bad-mimetype-md.json",
    "bad-hashsum": "bad-hashsum-md.json",
    "bad-json": "bad-json-md.notjson",
}


@pytest.fixture
def ingest_tests(released: Released) -> Path:
    """The released service's tests, with the bundles and the file to move that its CI makes beforehand."""
    tests = released.tests_of("pacifica-ingest-0.4.1")
    data = tests / "test_data"
    for name, metadata in BUNDLES.items():
        shutil.copy(data / "metadata-files" / metadata, data / "metadata.txt")
        subprocess.run(["tar", "-cf", f"{name}.tar", "metadata.txt", "data"], cwd=data, check=True)
    source = released.folder / "foo.txt"
    source.write_text("foo\n")
    document = data / "move-md.json"
    document.write_text(document.read_text().replace("/tmp/foo.txt", str(source)))
    return tests


@pytest.mark.parametrize("name", ["upload", "utils", "move"])
def test_the_suite_of_the_released_ingest_service(
    released: Released, environment: Path, ingest_tests: Path, name: str
) -> None:
    with Server(environment, "--move-from", "/") as server:
        released.run_tests(server, ingest_tests, f"{name}_test.py", http_proxy=server.url)


@pytest.mark.parametrize(("name", "service"), [("badpolicy", "policy"), ("badai", "archiveinterface")])
def test_the_suite_of_the_released_ingest_service_while_a_service_is_down(
    released: Released,
    pacifica: PacificaServices,
    environment: Path,
    ingest_tests: Path,
    name: str,
    service: str,
) -> None:
    pacifica.stop(service)
    try:
        with Server(environment, "--move-from", "/") as server:
            released.run_tests(server, ingest_tests, f"upload_{name}_test.py", http_proxy=server.url)
    finally:
        pacifica.start(service)


def test_the_suite_of_the_released_uploader(released: Released, environment: Path) -> None:
    with Server(environment) as server:
        released.run_tests(server, released.tests_of("pacifica-uploader-0.3.1"))

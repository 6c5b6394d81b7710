"""``ingest upload`` at a Pacifica site: its metadata, asked of the released policy service, and the released server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.bundles import FILES
from ..support.command import Command
from ..support.ingest_double import ReleasedIngest
from ..support.pacifica_cli import bundled_by_pacifica_cli, document_of
from ..support.serving import Server
from ..support.uploader_json import UPLOADER
from ..support.watching import make_folder
from .services import PacificaServices, assert_stored

pytestmark = pytest.mark.pacifica

WORDS = ("--logon", "dmlb2001", "--instrument", 54, "--project", "1234a", "--user-of-record-regex", "10")
NAMES = {f"data/Project ID 1234a/run7/{name.removeprefix('data/')}": content for name, content in FILES.items()}


@pytest.fixture
def config(pacifica: PacificaServices, environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ``uploader.json`` of the site; and a folder to upload."""
    monkeypatch.setenv("INGEST_UPLOAD_POLICY_URL", f"{pacifica.url('policy')}/uploader")
    make_folder(environment / "run7")
    path = environment / "uploader.json"
    path.write_text(json.dumps(UPLOADER))
    return path


@pytest.fixture
def released(pacifica: PacificaServices) -> Iterator[PacificaServices]:
    """The services, with the released server among them."""
    if not pacifica.has_ingest:
        pytest.skip("the released Pacifica Ingest is not installed in the folder of INGEST_TEST_PACIFICA")
    pacifica.start_ingest()
    yield pacifica
    for name in ("ingest", "worker"):
        pacifica.stop(name)


@pytest.mark.parametrize("words", [WORDS, ("--logon", "10", "--instrument-regex", "NMR", "--project-regex", "1234a")])
def test_the_document_is_that_of_pacifica_cli(
    pacifica: PacificaServices, command: Command, config: Path, environment: Path, words: tuple[object, ...]
) -> None:
    words = (*words, "--user-of-record-regex", "10")
    wanted = bundled_by_pacifica_cli(environment, f"{pacifica.url('policy')}/uploader", config, *words, "run7")
    with ReleasedIngest() as server:
        done = command("upload", "--to", server.url, "--uploader-config", config, *words, "run7")
    assert done.returncode == 0, done.stderr
    (environment / "received.tar").write_bytes(server.bundles[0])
    assert document_of(environment / "received.tar") == wanted


def test_a_server_of_ours(pacifica: PacificaServices, command: Command, config: Path, environment: Path) -> None:
    with Server(environment) as server:
        done = command("upload", "--json", "--to", server.url, "--uploader-config", config, *WORDS, "run7")
    assert done.returncode == 0, done.stderr
    assert_stored(pacifica, json.loads(done.stdout)["job_id"], NAMES)


def test_the_released_server(released: PacificaServices, command: Command, config: Path, environment: Path) -> None:
    (environment / "run7" / "more").write_text("fresh")
    url = released.url("ingest")
    done = command("upload", "--json", "--to", f"{url}/upload", "--uploader-config", config, *WORDS, "run7")
    assert done.returncode == 0, done.stderr
    assert_stored(released, json.loads(done.stdout)["job_id"], {**NAMES, "data/Project ID 1234a/run7/more": b"fresh"})
    done = command("upload", "--to", url, "run7", "--submitter", 10, "--project", "none", "--instrument", 54)
    assert done.returncode == 1
    assert "failed at 'Policy Validation'" in done.stderr

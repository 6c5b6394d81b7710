"""``ingest upload`` with the ``uploader.json`` of a site: its metadata is what pacifica-cli makes of the same words."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support import ingest_double
from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.ingest_double import Handler, ReleasedIngest
from ..support.pacifica_cli import bundled_by_pacifica_cli, document_of
from ..support.terminal import Terminal
from ..support.uploader_json import UPLOADER

ALL = ("--logon", "dmlb2001", "--instrument", 54, "--project", "1234a", "--user-of-record", 11)


@pytest.fixture
def server() -> Iterator[ReleasedIngest]:
    with ReleasedIngest() as server:
        yield server


@pytest.fixture
def config(environment: Path, server: ReleasedIngest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, which is where the policy service of the settings is asked what it says; and a folder to upload."""
    monkeypatch.setenv("INGEST_UPLOAD_URL", server.url)
    monkeypatch.setenv("INGEST_UPLOAD_POLICY_URL", f"{server.url}/uploader")
    (environment / "run7" / "sub").mkdir(parents=True)
    (environment / "run7" / "notes.txt").write_text("notes")
    (environment / "run7" / "sub" / "spectrum").write_bytes(bytes(1000))
    return written(environment, UPLOADER)


def written(environment: Path, objects: Any) -> Path:
    path = environment / "uploader.json"
    path.write_text(json.dumps(objects))
    return path


def document(server: ReleasedIngest, folder: Path) -> list[dict[str, Any]]:
    """The document of the bundle that came last."""
    (folder / "received.tar").write_bytes(server.bundles[-1])
    return document_of(folder / "received.tar")


def values(document: list[dict[str, Any]]) -> dict[str, Any]:
    return {record["metaID"]: record["value"] for record in document if "metaID" in record}


SAME = [
    ("--logon", "dmlb2001", "--instrument", 54, "--project", "1234a", "--user-of-record-regex", "Grimm"),
    ("--logon", 10, "--instrument-regex", "Transmo", "--project-regex", "brackets", "--user-of-record-regex", "."),
    ("--logon=grim", "--instrument-regex=^104 ", "--project=1235", "--user-of-record-regex", "^10 - David"),
]


@pytest.mark.sweep
@pytest.mark.parametrize("words", SAME, ids=range(len(SAME)))
@pytest.mark.parametrize("path", ["run7", "run7/sub/spectrum", "run7/notes.txt"])
def test_the_document_is_that_of_pacifica_cli(
    command: Command, server: ReleasedIngest, config: Path, environment: Path, words: tuple[object, ...], path: str
) -> None:
    wanted = bundled_by_pacifica_cli(environment, f"{server.url}/uploader", config, *words, path)
    done = command("upload", "--uploader-config", config, "--pack", *words, path)
    assert done.returncode == 0, done.stderr
    assert document(server, environment) == wanted


@pytest.mark.sweep
def test_whole_paths_too(command: Command, server: ReleasedIngest, config: Path, environment: Path) -> None:
    wanted = bundled_by_pacifica_cli(environment, f"{server.url}/uploader", config, *SAME[0], environment / "run7")
    assert command("upload", "--uploader-config", config, *SAME[0], environment / "run7").returncode == 0
    assert document(server, environment) == wanted


def test_several_paths_together(command: Command, server: ReleasedIngest, config: Path, environment: Path) -> None:
    paths = ("run7/sub", "run7/notes.txt")
    wanted = bundled_by_pacifica_cli(environment, f"{server.url}/uploader", config, *SAME[0], *paths)
    assert command("upload", "--uploader-config", config, "--together", *SAME[0], *paths).returncode == 0
    assert document(server, environment) == wanted


def test_what_pacifica_cli_is_configured_with(
    command: Command, server: ReleasedIngest, config: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("INGEST_UPLOAD_URL", "INGEST_UPLOAD_POLICY_URL"):
        monkeypatch.delenv(variable)
    home = environment / "home" / ".pacifica_cli"
    home.mkdir(parents=True)
    (home / "config.ini").write_text(
        f"[endpoints]\nupload_url = {server.url}/upload\nupload_status_url = {server.url}/get_state\n"
        f"upload_policy_url = {server.url}/uploader\n[authentication]\ntype = basic\nusername = ada\npassword = a%b\n"
    )
    (home / "uploader.json").write_text(config.read_text())
    done = command("upload", "run7", *ALL)
    assert done.returncode == 0, done.stderr
    assert values(document(server, environment))["project"] == "1234a"
    said = {headers["Authorization"] for _, _, headers in server.requests}
    assert said == {"Basic YWRhOmElYg=="}
    assert "--user-of-record" in command("upload", "--help").stdout
    (environment / "token").write_text("secret")
    server.requests.clear()
    assert command("upload", "run7", *ALL, "--token-file", environment / "token").returncode == 0
    assert {headers["Authorization"] for _, _, headers in server.requests} == {"Bearer secret"}


@pytest.mark.sweep
def test_a_value_and_a_key_more(command: Command, server: ReleasedIngest, config: Path, environment: Path) -> None:
    done = command("upload", "--uploader-config", config, "run7", *ALL, "--key", "Sample=H2O")
    assert done.returncode == 0, done.stderr
    found = document(server, environment)
    assert values(found)["user-of-record"] == "11"
    assert {"destinationTable": "TransactionKeyValue", "key": "Sample", "value": "H2O"} in found


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (ALL[:4], "--project is needed (Project ID): one of 1234a, 1235"),
        (("--logon", "dmlb2001"), "--instrument is needed (Instrument ID): one of 54, 104"),
        ((*ALL, "--project", "9"), "--project: '9' is not among what can be chosen: 1234a, 1235"),
        ((*ALL[:4], "--project-regex", "none"), "--project-regex: nothing that can be chosen matches 'none'"),
        ((*ALL[:4], "--project-regex", "("), "--project-regex '(': missing ), unterminated subpattern at position 0"),
        (("--logon", "nobody"), "the policy service at {url}/uploader does not know the user 'nobody'"),
        (("--logon",), "--logon needs a value"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    command: Command, server: ReleasedIngest, config: Path, words: tuple[object, ...], said: str
) -> None:
    done = command("upload", "--uploader-config", config, "run7", *words)
    assert done.stderr == f"ingest: {said.format(url=server.url)}\n"
    assert done.returncode in (1, 2)
    assert server.bundles == []


@pytest.mark.sweep
def test_help_in_spite_of_a_file_that_is_wrong(command: Command, config: Path, environment: Path) -> None:
    written(environment, {})
    assert command("upload", "--uploader-config", config, "--help").returncode == 0
    done = command("upload", "--uploader-config", config, "run7")
    assert (done.returncode, done.stderr) == (2, f"ingest: {config} is not a list of objects\n")


@pytest.mark.sweep
def test_a_policy_service_that_fails(command: Command, server: ReleasedIngest, config: Path) -> None:
    def fail(handler: Handler) -> bool:
        handler.body()
        handler.answer(500, {"message": "no database"})
        return True

    server.guard = fail
    done = command("upload", "--uploader-config", config, "--retry-for", 0, "run7", *ALL)
    assert done.returncode == 4
    assert done.stderr == (
        f"ingest: the policy service at {server.url}/uploader cannot take it now: 500: no database\n"
    )


@pytest.mark.sweep
def test_what_else_can_be_chosen_does_not_matter_to_who_resumes(
    command: Command, server: ReleasedIngest, config: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("upload", "--uploader-config", config, "run7", *ALL)
    server.states = [{"state": "OK", "task": "ingest files"}]
    assert command(*words, "--max-wait", 0).returncode == 4
    monkeypatch.setattr(ingest_double, "INSTRUMENTS", ingest_double.INSTRUMENTS[:1])
    server.states = []
    assert command(*words).returncode == 0
    assert len(server.bundles) == 1


@pytest.mark.sweep
def test_a_variable_that_names_no_file_is_no_trouble_of_bundles(
    command: Command, config: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPLOADER_CONFIG", "none.json")
    assert command("upload", write_bundle(environment / "b.tar")).returncode == 0
    done = command("upload", "run7")
    assert (done.returncode, done.stderr) == (2, "ingest: cannot read none.json: No such file or directory\n")


def test_a_person_is_asked(server: ReleasedIngest, config: Path, environment: Path) -> None:
    line = Command.line("upload", "--uploader-config", config, "run7", *ALL[:2])
    with Terminal(environment, line, environment=dict(os.environ)) as terminal:
        terminal.until(lambda lines: "instrument [54]:" in lines)
        assert terminal.lines[:3] == [
            "Instrument ID:",
            "  54  54 NMR PROBES - Nittany Liquid Probes",
            "  104  104 Nanoscale - Transmogriscope",
        ]
        terminal.type("7\n")
        terminal.until(lambda lines: "'7' is none of them" in lines)
        terminal.type("104\n")
        terminal.until(lambda lines: "project [1234a]:" in lines)
        terminal.type("\n")
        terminal.until(lambda lines: "user-of-record [10]:" in lines)
        terminal.type("11\n")
        assert terminal.end() == 0
    found = values(document(server, environment))
    assert (found["instrument"], found["project"], found["user-of-record"]) == ("104", "1234a", "11")

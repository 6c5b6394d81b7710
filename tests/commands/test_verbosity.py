"""What ``--verbose`` adds, and that nothing is added without it; lines of several processes stay whole."""

import re
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode

from ..support.bundles import FILES, document_for, write_bundle
from ..support.command import TIME, Command, untimed
from ..support.http_faults import answering
from ..support.pacifica_double import PacificaSite

PREFIX = r"ingest\[\d+\] \d\d:\d\d:\d\d: "


@pytest.mark.sweep
@pytest.mark.parametrize(("words", "tries", "requests"), [([], 0, 0), (["-v"], 1, 0), (["-vv"], 1, 1)])
def test_what_is_said_of_a_service(
    command: Command, pacific: PacificaSite, tmp_path: Path, words: list[str], tries: int, requests: int
) -> None:
    pacific.fail("PUT", 2, answering(503, {"message": "too busy"}))
    done = command(*words, write_bundle(tmp_path / "b.tar"))
    assert done.returncode == 0
    again = re.findall(
        rf"^{PREFIX}the archive: attempt 1 of 6 failed \(503: too busy\); retrying in 0\.\d s$", done.stderr, re.M
    )
    sent = re.findall(rf"^{PREFIX}PUT {pacific.url}/2: (\d+) after \d+ ms$", done.stderr, re.M)
    assert len(again) == tries
    assert sent == ["503", "201"] * requests


def test_seconds_and_checkpoints(command: Command, tmp_path: Path) -> None:
    done = command("-v", write_bundle(tmp_path / "b.tar"))
    said = re.findall(rf"^{PREFIX}(.*)$", done.stderr, re.M)
    stages = [re.sub(r"\d+\.\d\d s", "N s", line) for line in said]
    assert stages == [
        "job 1: open tar took N s",
        "job 1: load metadata took N s",
        "job 1: Policy Validation took N s",
        "job 1: checkpoint: 3 files stored",
        "job 1: ingest files took N s",
        "job 1: ingest metadata took N s",
    ]


@pytest.mark.sweep
def test_workers_of_a_crew_say_more_too(command: Command, tmp_path: Path) -> None:
    for number in range(4):
        command("--queue", write_bundle(tmp_path / f"{number}.tar", {f"data/{number}": b"x"}))
    done = command("worker", "-n", 2, "--until-empty", "--verbose")
    assert len(re.findall(rf"^{PREFIX}job \d: ingest metadata took", done.stderr, re.M)) == 4


def test_quiet_and_verbose_is_wrong_usage(command: Command, tmp_path: Path) -> None:
    done = command("-q", "-v", write_bundle(tmp_path / "b.tar"))
    assert (done.returncode, done.stderr) == (ExitCode.USAGE, "ingest: --quiet and --verbose cannot be used together\n")


@pytest.mark.sweep
def test_lines_of_several_processes_are_whole(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"data/{'long' * 40}{number}": b"?" for number in range(20)}
    for number in range(12):
        listed = {**FILES, f"data/{number}": b""}
        command("--queue", write_bundle(tmp_path / f"{number}.tar", {**listed, **files}, document_for(listed)))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    done = command("worker", "-n", 4, "--until-empty", "-v")
    assert all(re.fullmatch(r"job \d+: .* is complete, 4 files", line) for line in untimed(done.stdout))
    assert len(done.stdout.splitlines()) == 12
    warning = r"ingest: warning: 'data/[^']*' is in the bundle but not in the metadata: it is not archived"
    lines = done.stderr.splitlines()
    assert len(lines) > 200
    more = "ingest: warning: and 10 more files in the bundle but not in the metadata"
    assert [line for line in lines if not re.fullmatch(rf"{PREFIX}job \d+: .*|{TIME}(?:{warning}|{more})", line)] == []

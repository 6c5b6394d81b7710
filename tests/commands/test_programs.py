"""What README.md says to programs under "For programs" is what the program writes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from ingest_cli.cli import app
from ingest_cli.errors import ExitCode

from ..support.bundles import FILES, document_for, transaction, write_bundle
from ..support.command import Command
from ..support.site import Site

README = Path(__file__).parents[2] / "README.md"
Table = dict[str, list[str]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def tables() -> tuple[Table, Table, set[str]]:
    """The fields by command, those by event, and the fields that are explained."""
    text = README.read_text("utf-8").partition("## For programs\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    starts = [number for number, row in enumerate(rows) if row[0] in ("Command", "Event", "Field")]
    commands, events, fields = (
        rows[begin + 2 : end] for begin, end in zip(starts, [*starts[1:], len(rows)], strict=True)
    )
    by_command = {name: quoted(row[2]) for row in commands for name in quoted(row[0])}
    by_event = {quoted(row[0])[0]: quoted(row[3]) for row in events}
    return by_command, by_event, {name for row in fields for name in quoted(row[0])}


COMMANDS, EVENTS, EXPLAINED = tables()


@pytest.fixture
def stored(command: Command, tmp_path: Path) -> Path:
    """A job that is complete."""
    bundle = write_bundle(tmp_path / "b.tar")
    assert command("-q", bundle).returncode == 0
    return bundle


def written(command: Command, *words: object, status: int = 0) -> Any:
    done = command(*words, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def events_of(command: Command, *words: object, status: int = 0) -> list[dict[str, Any]]:
    done = command(*words, "--json")
    assert done.returncode == status, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    for event in events:
        assert list(event) == ["event", *EVENTS[event["event"]]]
    return events


def test_every_command_that_has_json_is_listed() -> None:
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    with_json = {
        name
        for name, command in top.commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert {name.partition(" ")[0] for name in COMMANDS} == with_json
    assert set(top.commands) - with_json == {"serve", "help"}, "they write no data to standard output"


def test_every_field_is_explained_and_no_other() -> None:
    listed = [*COMMANDS.values(), *EVENTS.values()]
    assert {field for fields in listed for field in fields} == EXPLAINED


def test_jobs(command: Command, stored: Path, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(transaction()))
    assert list(written(command, "ingest", stored)) == COMMANDS["ingest"]
    assert list(written(command, "move", "m.json")) == COMMANDS["move"]
    assert list(written(command, "retry", 1)) == COMMANDS["retry"]
    assert list(written(command, "state", 1)) == COMMANDS["state JOB_ID"]
    assert [list(state) for state in written(command, "state")] == [COMMANDS["state"]] * 2
    settled = ["--job-id", 1, "--state", "FAILED", "--task", "ingest files", "--task-percent", 0]
    assert list(written(command, "job", *settled)) == COMMANDS["job"]


def test_bundles(command: Command, stored: Path, tmp_path: Path) -> None:
    transaction_options = ["--submitter", 1, "--project", "p", "--instrument", 2]
    packed = written(command, "pack", stored, *transaction_options, "-o", "packed.tar")
    assert packed == {"target": "packed.tar", "files": 1, "bytes": stored.stat().st_size}
    assert list(packed) == COMMANDS["pack"]
    restored = written(command, "restore", 1, "-o", "again.tar")
    assert restored == {"job_id": 1, "target": "again.tar", "files": len(FILES)}
    assert list(restored) == COMMANDS["restore"]
    assert written(command, "restore", 1, "--to", "again")["target"] == "again"


def test_looks_and_housekeeping(command: Command, stored: Path, tmp_path: Path) -> None:
    failed = write_bundle(tmp_path / "failed.tar", metadata=b"{}")
    assert command("-q", failed).returncode == 1
    assert list(written(command, "check", stored)) == COMMANDS["check"]
    assert list(written(command, "stats")) == COMMANDS["stats"]
    assert list(written(command, "prune")) == COMMANDS["prune"]
    assert list(written(command, "backup", "copy")) == COMMANDS["backup"]
    assert list(written(command, "discard", 2)) == COMMANDS["discard"]


@pytest.mark.parametrize(
    "words", [["pack", ".", "--submitter", 1, "--project", "p", "--instrument", 2], ["restore", 1]]
)
def test_standard_output_is_either_a_bundle_or_json(command: Command, stored: Path, words: list[object]) -> None:
    done = command(*words, "-o", "-", "--json")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")


def test_what_is_in_effect(command: Command) -> None:
    assert all(list(row) == COMMANDS["config"] for row in written(command, "config"))
    assert all(list(row) == COMMANDS["doctor"] for row in written(command, "doctor"))


def test_events_of_a_worker(command: Command, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {**FILES, "data/stray": b"?"}, document_for(FILES))
    command("--queue", bundle)
    events = events_of(command, "worker", "--until-empty")
    assert {event["event"] for event in events} == {"stage", "warning", "settled"}
    assert [event["task"] for event in events if event["event"] == "stage"][-1] == "ingest metadata"
    assert events[-1]["complete"]
    assert {(event["job_id"], event["source"]) for event in events} == {(1, str(bundle))}


def test_events_of_a_watch(command: Command, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    write_bundle(tmp_path / "drop" / "b.tar")
    (tmp_path / "drop" / "bad.tar").write_text("no tar")
    events = events_of(command, "watch", "--once", "--settle", 0, "--patience", 0, "drop", status=ExitCode.SOME_FAILED)
    assert {event["event"] for event in events} == {"queued", "stage", "settled"}
    assert [event["job_id"] for event in events if event["event"] == "queued"] == [1, 2]
    assert {event["job_id"]: event["state"] for event in events if event["event"] == "settled"} == {
        1: "OK",
        2: "FAILED",
    }


def test_events_of_a_verification(command: Command, stored: Path, site: Site) -> None:
    assert events_of(command, "verify", 1) == [
        {"event": "verified", "jobs": 1, "files": 3, "bytes": sum(map(len, FILES.values())), "damaged": 0}
    ]
    site.file(1).unlink()
    (site.archive / "stray.part").write_text("")
    events = events_of(command, "verify", "--all", status=ExitCode.FAILED)
    assert [event["event"] for event in events] == ["damage", "damage", "verified"]
    assert [(event["job_id"], event["file_id"]) for event in events[:2]] == [(1, 1), (None, None)]

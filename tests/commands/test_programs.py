"""What ingest-json(5) says to programs is what the program writes: every command, event and field, with its type."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.store import open_store
from ingest_cli.maintenance.receipt import receipt_schema
from ingest_cli.server.openapi import DESCRIPTION
from ingest_cli.settings import load_settings

from ..support.bundles import FILES, OF_FOLDERS, document_for, transaction, write_bundle, write_folder
from ..support.command import Command
from ..support.commands import commands, commands_with
from ..support.ingeststate import row, write_rows
from ..support.serving import Server
from ..support.shown import is_stored
from ..support.site import Site

PAGE = (Path(__file__).parents[2] / "man" / "ingest-json.5").read_text("utf-8")
Table = dict[str, list[str]]
TYPES = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "list": list,
    "object": dict,
    "null": type(None),
}


LISTED = re.compile(r"^\.Li ([a-z_ ,]+) \.$", re.M)


def part(title: str) -> str:
    """A subsection of the page."""
    found = re.search(rf"^\.Ss {title}\n(.*?)(?=^\.S[hs] )", PAGE, re.M | re.S)
    assert found is not None
    return found[1]


def listed(title: str) -> Table:
    """The fields that a subsection gives to each of the names in its list."""
    found = re.findall(r"^\.It (.+)\n((?:(?!\.It |\.El$).*\n)*)", part(title), re.M)
    names = {names: re.sub(r"\b(?:Cm|Li|Ar) ", "", names).split(" , ") for names, _ in found}
    fields = {
        names: [" , ".join([JOB, *LISTED.findall(text)])] if ".Sx A job" in text else LISTED.findall(text)[-1:]
        for names, text in found
    }
    return {name: ", ".join(fields[line]).split(" , ") for line in names for name in names[line] if fields[line]}


def typed(title: str) -> dict[str, set[type]]:
    """The fields that a subsection explains, with the types that they can have."""
    rows = re.findall(r"^\.It Li (\w+) Pq (\w+(?:(?:, | or )\w+)*)$", part(title), re.M)
    assert len(rows) == part(title).count("\n.It ")
    return {name: {TYPES[kind] for kind in re.split(", | or ", kinds)} for name, kinds in rows}


# The second of a job are written where several hosts share the store.
(JOB, PLACE), (FAILURE, *_) = (LISTED.findall(part(title)) for title in ("A job", "Failures"))
COMMANDS, EVENTS, FIELDS = listed("Commands"), listed("Events"), typed("Fields")


def fields_of(written: dict[str, Any], known: dict[str, set[type]] = FIELDS) -> list[str]:
    """The fields of an object, whose types were looked at."""
    for name, value in written.items():
        assert type(value) in known[name], name
    return list(written)


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
        name = event["event"]
        assert fields_of({field: value for field, value in event.items() if field != "event"}) == EVENTS[name]
        assert next(iter(event)) == "event"
    return events


def test_every_command_that_has_json_is_listed() -> None:
    with_json = commands_with("--json")
    with_events = re.search(r"^\.It (.+)\nEvents; see below\.$", part("Commands"), re.M)
    assert with_events is not None
    names = [*COMMANDS, *re.findall(r"Cm ([\w-]+)", with_events[1])]
    assert {name.partition(" ")[0] for name in names} == with_json
    assert set(commands()) - with_json <= {"serve", "help", "cat"}, "they write nothing for programs"


def test_every_field_is_explained_and_no_other() -> None:
    named = [*COMMANDS.values(), *EVENTS.values(), FAILURE.split(" , "), PLACE.split(" , ")]
    assert {field for fields in named for field in fields} == set(FIELDS)
    assert list(FIELDS) == sorted(FIELDS)


def test_jobs(command: Command, stored: Path, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(transaction()))
    assert fields_of(written(command, "ingest", stored)) == COMMANDS["ingest"]
    assert fields_of(written(command, "move", "m.json")) == COMMANDS["move"]
    planned = written(command, "ingest", "--dry-run", write_folder(tmp_path / "run"), *OF_FOLDERS)
    assert fields_of(planned) == COMMANDS["ingest Fl -dry-run"]
    assert fields_of(written(command, "retry", 1)) == COMMANDS["retry"]
    assert fields_of(written(command, "state", 1)) == COMMANDS["state job_id"]
    assert [fields_of(state) for state in written(command, "state")] == [COMMANDS["state"]] * 2
    settled = ["--job-id", 1, "--state", "FAILED", "--task", "ingest files", "--task-percent", 0]
    assert fields_of(written(command, "job", *settled)) == COMMANDS["job"]


def test_every_argument_has_its_object_in_order(command: Command, stored: Path, tmp_path: Path) -> None:
    """Also what did not become a job, what failed, and what was ingested before."""
    bad = write_bundle(tmp_path / "bad.tar", metadata=b"{}")
    failure = FAILURE.split(" , ")
    for words in (("absent.tar", bad, stored), ("--queue", "absent.tar", bad, stored)):
        done = command("--json", *words)
        absent, failed, known = map(json.loads, done.stdout.splitlines())
        assert done.returncode == ExitCode.SOME_FAILED
        assert fields_of(absent) == ["source", *failure]
        assert (absent["source"], absent["exit_code"]) == ("absent.tar", ExitCode.FAILED)
        assert (failed["source"], known["source"]) == (str(bad), str(stored))
        assert fields_of(failed) == [*JOB.split(" , "), *([] if "--queue" in words else failure)]
        assert fields_of(known) == JOB.split(" , ")
    done = command("discard", "--json", 99, 2, 1)
    absent, discarded, known = map(json.loads, done.stdout.splitlines())
    assert (fields_of(absent), fields_of(known)) == (["job_id", *failure], ["job_id", *failure])
    assert discarded["status"] == "discarded"


def test_the_server_tells_of_a_job_in_the_same_fields() -> None:
    _, more, place = DESCRIPTION["components"]["schemas"]["Listed"]["allOf"]
    own = DESCRIPTION["components"]["schemas"]["State"]["properties"]
    assert [*own, *more["properties"]] == JOB.split(" , ")
    assert list(place["properties"]) == PLACE.split(" , ")


def test_bundles(command: Command, stored: Path, tmp_path: Path) -> None:
    transaction_options = ["--submitter", 1, "--project", "p", "--instrument", 2]
    packed = written(command, "pack", stored, *transaction_options, "-o", "packed.tar")
    assert packed == {"target": "packed.tar", "files": 1, "bytes": stored.stat().st_size, "left_out": []}
    assert fields_of(packed) == COMMANDS["pack"]
    assert fields_of(written(command, "find", "--name", "a.txt")) == COMMANDS["find"] == COMMANDS["ls"]
    assert fields_of(written(command, "find", "--file", stored, status=1)) == COMMANDS["find Fl -file"]
    restored = written(command, "restore", 1, "-o", "again.tar")
    assert restored == {"job_id": 1, "target": "again.tar", "files": len(FILES)}
    assert fields_of(restored) == COMMANDS["restore"]
    assert written(command, "restore", 1, "--to", "again")["target"] == "again"


def test_looks_and_housekeeping(command: Command, stored: Path, tmp_path: Path) -> None:
    failed = write_bundle(tmp_path / "failed.tar", metadata=b"{}")
    assert command("-q", failed).returncode == 1
    assert fields_of(written(command, "check", stored)) == COMMANDS["check"]
    assert fields_of(written(command, "stats")) == COMMANDS["stats"]
    with open_store(load_settings()) as store:
        held = store.submit(900, kind=JobKind.BUNDLE, source="x", fingerprint="1", user="u", holder=this_process())
        (this,) = written(command, "hosts")
        store.requeue(held.fence)
    assert fields_of(this) == COMMANDS["hosts"]
    assert fields_of(written(command, "prune")) == COMMANDS["prune"]
    assert fields_of(written(command, "backup", "copy")) == COMMANDS["backup"]
    assert fields_of(written(command, "skip-ids")) == COMMANDS["skip-ids"]
    old = write_rows(tmp_path / "db.sqlite3", [row(7)])
    assert fields_of(written(command, "import-jobs", old)) == COMMANDS["import-jobs"]
    assert fields_of(written(command, "state", 7)) == COMMANDS["state job_id"]
    assert fields_of(written(command, "discard", 2)) == COMMANDS["discard"]
    database = load_settings().database
    assert fields_of(written(command, "migrate-store", database, "moved")) == COMMANDS["migrate-store"]


@pytest.mark.parametrize(
    "words", [["pack", ".", "--submitter", 1, "--project", "p", "--instrument", 2], ["restore", 1]]
)
def test_standard_output_is_either_a_bundle_or_json(command: Command, stored: Path, words: list[object]) -> None:
    done = command(*words, "-o", "-", "--json")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")


def test_what_is_in_effect(command: Command) -> None:
    assert all(fields_of(row) == COMMANDS["config"] for row in written(command, "config"))
    assert all(fields_of(row) == COMMANDS["doctor"] for row in written(command, "doctor"))
    assert all(fields_of(row) == COMMANDS["deploy"] for row in written(command, "deploy", "container"))


def test_events_of_a_worker(command: Command, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {**FILES, "data/stray": b"?"}, document_for(FILES))
    command("--queue", bundle)
    events = events_of(command, "worker", "--until-empty")
    assert {event["event"] for event in events} == {"stage", "warning", "settled"}
    assert [event["task"] for event in events if event["event"] == "stage"][-1] == "ingest metadata"
    assert is_stored(events[-1])
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
        {
            "event": "verified",
            "jobs": 1,
            "files": 3,
            "bytes": sum(map(len, FILES.values())),
            "by_digest": 0,
            "damaged": 0,
        }
    ]
    site.file(1).unlink()
    (site.archive / "stray.part").write_text("")
    events = events_of(command, "verify", "--all", status=ExitCode.FAILED)
    assert [event["event"] for event in events] == ["damage", "damage", "verified"]
    assert [(event["job_id"], event["file_id"]) for event in events[:2]] == [(1, 1), (None, None)]


def test_a_job_that_is_not_there_stops_no_other(command: Command, stored: Path) -> None:
    events = events_of(command, "verify", 99, 1, status=ExitCode.SOME_FAILED)
    assert [(event["event"], event.get("job_id"), event.get("jobs")) for event in events] == [
        ("missing", 99, None),
        ("verified", None, 1),
    ]
    assert [event["event"] for event in events_of(command, "verify", 99, status=ExitCode.FAILED)] == ["missing"]
    done = command("retry", "--json", 99, 1)
    absent, known = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, absent["job_id"], absent["exit_code"]) == (ExitCode.SOME_FAILED, 99, ExitCode.FAILED)
    assert (fields_of(absent), known["status"]) == (["job_id", *FAILURE.split(" , ")], "complete")


def test_a_receipt(command: Command, tmp_path: Path) -> None:
    assert command("-q", "--receipt", "r.json", write_bundle(tmp_path / "b.tar")).returncode == 0
    known = typed("Receipts")
    receipt = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert fields_of(receipt, known) == list(known) == list(receipt_schema()["properties"])
    of_a_file = re.findall(r"^\.Li (\w+)(?: [,;.])?$", part("Receipts").partition("\n.It Li files ")[2], re.M)
    assert list(receipt["files"][0]) == of_a_file


def test_an_explanation_in_a_drop_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "bad.tar").write_text("no tar")
    command("watch", "--once", "--settle", 0, "--patience", 0, "drop")
    known = typed("Explanations in drop folders")
    assert fields_of(json.loads((tmp_path / "drop" / "bad.tar.error.json").read_text("utf-8")), known) == list(known)


def test_the_log_of_the_server(tmp_path: Path) -> None:
    with Server(tmp_path, "--log-format", "json") as server:
        server.upload(write_bundle(tmp_path / "b.tar"))
    known = typed("The server's log")
    lines = [json.loads(line) for line in server.log.read_text("utf-8").splitlines() if line.startswith("{")]
    assert [fields_of(line, known) for line in lines] == [list(known)] * len(lines)
    assert lines

"""``ingest check``: all that is wrong at once, and nothing stored."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.pipeline.check import MAX_PROBLEMS
from ingest_cli.text import MOST_LISTED

from ..support.bundles import FILES, document_for, file_record, member, transaction, write_bundle, write_tar
from ..support.command import Command
from ..support.site import Site


def test_a_sound_bundle(command: Command, site: Site, tmp_path: Path) -> None:
    done = command("check", write_bundle(tmp_path / "b.tar"))
    assert (done.returncode, done.stdout) == (0, "")
    assert ": no problems in 3 files" in done.stderr
    assert not site.archive.exists()
    assert not site.database.exists()


def broken() -> list[dict[str, Any]]:
    """A document with a problem in each of many places."""
    records = document_for(FILES)
    files = [record for record in records if record["destinationTable"] == "Files"]
    files[0]["hashsum"] = "0" * 40
    files[1]["mimetype"] = "nonsense"
    files[2]["size"] = 7
    return [
        *(record for record in records if record["destinationTable"] != "Transactions.project"),
        {**files[0], "name": "gone", "subdir": "data"},
        {**files[0], "name": "../astray"},
        {"destinationTable": "Files", "name": "no size"},
        {"destinationTable": "TransactionKeyValue", "key": "Taxonomic Family", "value": "bacteria"},
        {"destinationTable": "FileKeyValue", "file_id": 9, "key": "k", "value": "v"},
    ]


EXPECTED = (
    "0 'Transactions.project' records",
    "the metadata lists 'data/gone', but it is not in the bundle",
    "'../astray'",
    "metadata record 8",
    "'nonsense' is not a MIME type",
    "'data/empty' is 0 bytes long, but the metadata says 7",
    "'data/a.txt'",
    "the TransactionKeyValue ('Taxonomic Family', 'bacteria') is given twice",
    "refers to file 9, which is not the '_id'",
)


def test_every_problem_is_named_at_once(command: Command, tmp_path: Path) -> None:
    done = command("check", write_bundle(tmp_path / "b.tar", FILES, broken()))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for problem in EXPECTED:
        assert sum(problem in line for line in lines) == 1, (problem, done.stdout)
    assert len(lines) == len(EXPECTED)


def test_a_record_that_is_wrong_is_not_missing_too(command: Command, tmp_path: Path) -> None:
    records = document_for(FILES)
    records[0]["value"] = "nobody"
    done = command("check", write_bundle(tmp_path / "b.tar", FILES, records))
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'b.tar'}: metadata record 0: ['value']: 'nobody' is not of type 'integer'"
    ]


@pytest.mark.sweep
@pytest.mark.parametrize(
    "records",
    [
        [{"destinationTable": "Files", "name": f"no size {number}"} for number in range(100_000)],
        [file_record(f"data/{number}", b"", mimetype="x" * 10_000) for number in range(2000)],
        [file_record(f"data/gone{number}", b"") for number in range(2000)],
    ],
    ids=["documents", "rules", "files"],
)
def test_no_more_problems_are_named_than_anybody_reads(
    command: Command, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    done = command("check", write_bundle(tmp_path / "b.tar", {}, [*transaction(), *records]))
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (1, MAX_PROBLEMS + 1)
    more = re.fullmatch(r".*: and ([\d,]+) more problems", lines[-1])
    assert more is not None
    assert int(more[1].replace(",", "")) >= len(records) - MAX_PROBLEMS
    assert max(map(len, lines)) < 1000


def test_no_more_warnings_are_named_than_anybody_reads(command: Command, tmp_path: Path) -> None:
    files = {f"data/{number}": b"" for number in range(MOST_LISTED + 2345)}
    done = command("check", "--json", write_bundle(tmp_path / "b.tar", files, transaction()))
    warnings = json.loads(done.stdout)["warnings"]
    assert len(warnings) == MOST_LISTED + 1
    assert warnings[-1] == "and 2,345 more files in the bundle but not in the metadata"


def test_a_listed_file_of_another_size_is_not_also_called_unlisted(command: Command, tmp_path: Path) -> None:
    document = [*transaction(), file_record("data/a", b"longer than it is")]
    done = command("check", write_bundle(tmp_path / "b.tar", {"data/a": b"a"}, document))
    assert done.returncode == 1
    assert "'data/a' is 1 byte long, but the metadata says 17" in done.stdout
    assert "not in the metadata" not in done.stderr


def test_very_many_problems_and_warnings_are_counted(command: Command, tmp_path: Path) -> None:
    gone = {f"data/gone{number}": b"" for number in range(1234)}
    there = {f"data/there{number}": b"" for number in range(1234)}
    bundle = write_bundle(tmp_path / "b.tar", there, document_for(gone))
    done = command("check", bundle)
    assert done.returncode == 1
    *problems, last = done.stdout.splitlines()
    assert len(problems) == 1000
    assert last == f"{bundle}: and 234 more problems"
    warnings = [line for line in done.stderr.splitlines() if "warning: " in line]
    assert len(warnings) == 11
    assert warnings[-1].endswith(f"{bundle}: and 1,224 more files in the bundle but not in the metadata")
    assert done.stderr.splitlines()[-1] == f"ingest: {bundle}: 1,234 problems in 1,234 files, 0 bytes"
    found = json.loads(command("check", "--json", bundle).stdout)
    assert (len(found["problems"]), found["more_problems"], len(found["warnings"])) == (1000, 234, 11)


def test_members_that_no_bundle_may_hold_are_all_named(command: Command, tmp_path: Path) -> None:
    document = json.dumps(document_for(FILES)).encode()
    members = [
        member("data/link", b"", type=b"2", linkname="a.txt"),
        member("../astray", b"x"),
        *(member(name, content) for name, content in FILES.items()),
        member("data/a.txt", b"alpha\n"),
        member("metadata.txt", document),
    ]
    done = command("check", write_tar(tmp_path / "b.tar", members))
    assert done.returncode == 1
    assert [part in done.stdout for part in ("a symbolic link", "'../astray'", "twice in the tar")] == [True] * 3
    assert len(done.stdout.splitlines()) == 3


def test_json_for_programs(command: Command, tmp_path: Path) -> None:
    good = write_bundle(tmp_path / "good.tar", {"data/a": b"a"})
    bad = write_bundle(tmp_path / "bad.tar", {"data/b": b"b"}, document_for({"data/c": b"c"}))
    done = command("check", good, bad, "--json")
    assert done.returncode == 3
    first, second = map(json.loads, done.stdout.splitlines())
    found = {"problems": [], "more_problems": 0, "warnings": []}
    assert first == {"source": str(good), "well": True, "files": 1, "bytes": 1, **found}
    assert second["well"] is False
    assert [problem["stage"] for problem in second["problems"]] == ["ingest files"]
    assert len(second["warnings"]) == 1


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, b"\x1f\x8b broken"])
def test_what_is_no_bundle(command: Command, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(content)
    done = command("check", path)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)


def test_the_policy_is_asked(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"maxItems": 1}')
    monkeypatch.setenv("POLICY_INGEST_URL", policy.as_uri())
    done = command("check", write_bundle(tmp_path / "b.tar"))
    assert done.returncode == 1
    assert "policy refuses" in done.stdout


def test_a_policy_that_cannot_be_asked(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICY_INGEST_URL", "http://127.0.0.1:9/ingest")
    assert command("check", write_bundle(tmp_path / "b.tar")).returncode == 4


def test_what_passes_check_is_ingested_and_what_does_not_fails(command: Command, tmp_path: Path) -> None:
    for number, document in enumerate([document_for(FILES), broken()]):
        bundle = write_bundle(tmp_path / f"{number}.tar", FILES, document)
        assert command("check", bundle).returncode == command(bundle).returncode == number


def test_of_many_files_those_that_are_wrong_are_named_in_order(command: Command, tmp_path: Path) -> None:
    files = {f"data/{number:03}": bytes(9 << 20 if number == 5 else 20) for number in range(300)}
    wrong = [f"data/{number:03}" for number in (2, 5, 128, 299)]
    document = document_for(files | dict.fromkeys(wrong, b"another"))
    for record in document:
        if record.get("destinationTable") == "Files":
            record["size"] = len(files[f"data/{record['name']}"])
    done = command("check", write_bundle(tmp_path / "many.tar", files, document))
    assert [line.split("'")[1] for line in done.stdout.splitlines() if "hashes to" in line] == wrong

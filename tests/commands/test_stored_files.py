"""``ingest ls``, ``ingest find``, ``ingest cat``, and the single files of ``ingest restore``."""

import hashlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest_cli import find_copies, read_files, restore_bundle, restore_folder
from ingest_cli.errors import ExitCode, FileNotRecorded
from ingest_cli.jobs.sqlite_database import open_database
from ingest_cli.retrieval.choice import choose_files
from ingest_cli.services.base import StoredFile
from ingest_cli.services.embedded.catalog import MIGRATIONS, EmbeddedCatalog
from ingest_cli.services.query import FileQuery

from ..support.bundles import FILES, file_record, members, transaction, write_bundle
from ..support.command import Command
from ..support.ingeststate import row, write_rows
from ..support.pacifica_double import PacificaSite
from ..support.site import Site
from ..support.terminal import Terminal

WHEN = "2016-11-29T14:09:05"
SHA1 = {path: hashlib.sha1(content).hexdigest() for path, content in FILES.items()}


def rows(done: "subprocess.CompletedProcess[str]", code: int = 0) -> list[list[str]]:
    assert done.returncode == code, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def objects(done: "subprocess.CompletedProcess[str]", code: int = 0) -> list[dict[str, Any]]:
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_files_of_a_job_are_lines_for_programs(command: Command, site: Site, stored: Path) -> None:
    sizes = [[str(len(content)), WHEN, path] for path, content in FILES.items()]
    assert rows(command("ls", 1)) == sizes
    more = [[f"sha1:{SHA1[path]}", str(number), "text/plain"] for number, path in enumerate(FILES, 1)]
    assert rows(command("ls", "-l", 1)) == [[*size, *rest] for size, rest in zip(sizes, more, strict=True)]
    assert objects(command("ls", 1, "--json"))[0] == {
        "job_id": 1,
        "file_id": 1,
        "path": "data/a.txt",
        "size": 6,
        "hashtype": "sha1",
        "hashsum": SHA1["data/a.txt"],
        "mimetype": "text/plain",
        "ctime": WHEN,
        "mtime": WHEN,
    }


def test_a_duplicate_shows_the_job_that_has_the_content(command: Command, site: Site, stored: Path) -> None:
    write_bundle(stored.with_name("copy.tar"), FILES, json.loads(members(stored)["metadata.txt"]))
    assert command("copy.tar").returncode == 0
    done = command("ls", 2, "--json")
    assert {file["job_id"] for file in objects(done)} == {1}
    assert "job 1 has the content of job 2" in done.stderr
    assert command("cat", 2, "a.txt").stdout == "alpha\n"
    assert command("restore", 2, "a.txt", "--to", "out").returncode == 0


@pytest.mark.sweep
def test_of_a_job_of_which_nothing_is_stored_it_is_said_why(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(write_bundle(tmp_path / "failed.tar", metadata=b"{}")).returncode == 1
    assert command("--queue", write_bundle(tmp_path / "waiting.tar", {"data/w": b"w"})).returncode == 0
    assert command("--queue", write_bundle(tmp_path / "away.tar", {"data/x": b"x"})).returncode == 0
    assert command("discard", 3).returncode == 0
    write_rows(tmp_path / "db.sqlite3", [row(1016)])
    assert command("import-jobs", tmp_path / "db.sqlite3").returncode == 0
    reasons = {
        1: "it failed; 'ingest state 1' says why",
        2: "it is waiting, and not complete yet",
        3: "it is discarded; 'ingest state 3' says why",
        99: "there is no such job",
        1016: "Pacifica Ingest ran it, and only its state was imported",
    }
    for job_id, reason in reasons.items():
        done = command("ls", job_id)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"ingest: the catalogue has no record of job {job_id}: {reason}\n"
    for words in (("cat", 99, "x"), ("restore", 99, "--to", "new")):
        assert command(*words).stderr == f"ingest: the catalogue has no record of job 99: {reasons[99]}\n"


def test_names_do_not_break_the_lines(command: Command, site: Site, tmp_path: Path) -> None:
    odd = "data/a\tb\nc\x1b[2Jd"
    site.ingest(write_bundle(tmp_path / "b.tar", {odd: b"x"}))
    assert rows(command("ls", 1)) == [["1", WHEN, r"data/a\tb\nc\x1b[2Jd"]]
    assert objects(command("find", "--json"))[0]["path"] == odd
    assert command("cat", 1, odd).stdout == "x"


FINDINGS: list[tuple[list[object], list[str]]] = [
    ([], list(FILES)),
    (["--name", "*.txt"], ["data/a.txt"]),
    (["--path", "sub/*"], ["data/sub/b.bin"]),
    (["--hash", SHA1["data/empty"].upper()], ["data/empty"]),
    (["--hash", f"SHA1:{SHA1['data/empty']}"], ["data/empty"]),
    (["--key", "phase=solid"], ["data/sub/b.bin"]),
    (["--key", "Taxonomic Family=bacteria", "--name", "e*"], ["data/empty"]),
    (["--project", "1234a", "--instrument", 54, "--submitter", 10], list(FILES)),
    (["--since", "1h", "--until", "2100-01-01"], list(FILES)),
    (["--until", "1h"], []),
    (["--project", "1234"], []),
    (["--user", "nobody-of-that-name"], []),
]


def test_files_are_found(command: Command, site: Site, stored: Path) -> None:
    for words, found in FINDINGS:
        done = command("find", *words)
        assert [(job, path) for job, _, _, path in rows(done)] == [("1", path) for path in found], words
        assert ("no files match" in done.stderr) is (not found)


@pytest.mark.sweep
def test_files_are_found_by_who_submitted_them(command: Command, site: Site, tmp_path: Path) -> None:
    for user in ("ada", "bob"):
        assert command("--user", user, write_bundle(tmp_path / f"{user}.tar", {f"data/{user}": b"x"})).returncode == 0
    assert [path for *_, path in rows(command("find", "--user", "bob"))] == ["data/bob"]


SENTENCES = [
    (["--hash", "abc"], "'abc' is no hash"),
    (["--hash", f"md5:{'a' * 40}"], "is no hash"),
    (["--hash", "g" * 40], "is no hash"),
    (["--since", "soon"], "--since 'soon' is not a time"),
    (["--key", "novalue"], "is not of the form KEY=VALUE"),
    (["--name", "\udcff"], "is not valid UTF-8"),
    (["a.txt"], "give --file"),
    (["--file"], "--file takes the paths"),
    (["--file", "a.txt", "--name", "x"], "--file takes the paths"),
]


@pytest.mark.sweep
def test_what_cannot_be_asked(command: Command, site: Site, stored: Path) -> None:
    for words, said in SENTENCES:
        done = command("find", *words)
        assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
        assert said in done.stderr


def test_a_metadata_service_is_asked(command: Command, pacific: PacificaSite, tmp_path: Path) -> None:
    assert command(write_bundle(tmp_path / "b.tar")).returncode == 0
    assert [path for *_, path in rows(command("find", "--name", "*.txt"))] == ["data/a.txt"]
    (tmp_path / "b.bin").write_bytes(FILES["data/sub/b.bin"])
    assert rows(command("find", "--file", "b.bin")) == [["stored", "b.bin", "1", "data/sub/b.bin"]]
    assert command("cat", 1, "a.txt").stdout == "alpha\n"
    done = command("find", "--path", "data/*")
    assert done.returncode == ExitCode.USAGE
    assert "cannot be asked for this without listing all its files: add --name, --hash" in done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that are ``stored``, under other names."""
    folder = tmp_path / "run7"
    (folder / "sub").mkdir(parents=True)
    for number, content in enumerate(FILES.values()):
        (folder / "sub" / str(number)).write_bytes(content)
    return folder


def test_files_of_this_machine_are_known_by_what_they_hold(
    command: Command, site: Site, stored: Path, folder: Path
) -> None:
    done = command("find", "--file", "run7")
    assert rows(done) == [["stored", f"run7/sub/{number}", "1", path] for number, path in enumerate(FILES)]
    assert "3 of 3 files are stored" in done.stderr
    (folder / "new").write_text("new")
    (folder / "link").symlink_to("new")
    done = command("find", "--file", "run7/new", "run7", "gone")
    assert [line[:2] for line in rows(done, 1)] == [
        ["not stored", "run7/new"],
        ["not stored", "run7/new"],
        *(["stored", f"run7/sub/{number}"] for number in range(3)),
    ]
    assert "run7/link is a symbolic link" in done.stderr
    assert "cannot read gone: No such file" in done.stderr
    assert "3 of 7 files are stored" in done.stderr
    answers = objects(command("find", "--file", "--json", "run7/sub/0", "gone"), 1)
    assert [(answer["source"], answer["found"], answer.get("exit_code")) for answer in answers] == [
        ("run7/sub/0", True, None),
        ("gone", False, ExitCode.FAILED),
    ]
    assert answers[1]["error"] == "cannot read gone: No such file or directory"
    assert answers[0]["copies"][0]["path"] == "data/a.txt"
    quiet = command("find", "--file", "-q", "run7/new")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (1, "", "")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 5)], ids=["lost", "cut"])
def test_what_the_archive_has_not_is_not_stored(
    command: Command, site: Site, stored: Path, folder: Path, damage: Callable[[Path], None]
) -> None:
    site.file(1).chmod(0o644)
    damage(site.file(1))
    assert [line[0] for line in rows(command("find", "--file", "run7"), 1)] == ["not stored", "stored", "stored"]


@pytest.mark.sweep
def test_files_are_known_by_hashes_of_every_type(command: Command, site: Site, tmp_path: Path) -> None:
    types = ("md5", "sha1", "sha256", "sha3_512", "blake2s")
    files = {f"data/{name}": name.encode() for name in types}
    records = [
        file_record(path, content, hashtype=name, hashsum=hashlib.new(name, content).hexdigest())
        for name, (path, content) in zip(types, files.items(), strict=True)
    ]
    assert command(write_bundle(tmp_path / "b.tar", files, [*transaction(), *records])).returncode == 0
    for name in types:
        (tmp_path / name).write_text(name)
        assert rows(command("find", "--file", name)) == [["stored", name, "1", f"data/{name}"]]
        content = hashlib.new(name, name.encode()).hexdigest()
        assert [path for *_, path in rows(command("find", "--hash", content))] == [f"data/{name}"]


def test_an_empty_catalogue_has_nothing(tmp_path: Path) -> None:
    with closing(EmbeddedCatalog(tmp_path / "empty.sqlite3")) as catalog:
        assert catalog.hashtypes() == frozenset()
        assert list(catalog.find(FileQuery())) == []


def test_bytes_come_as_they_were_stored(command: Command, site: Site, stored: Path) -> None:
    line = command.line("cat", 1, "sub/b.bin", "data/a.txt", "data/empty", "sub/b.bin")
    done = subprocess.run(line, capture_output=True, check=True, cwd=stored.parent)
    content = FILES["data/sub/b.bin"]
    assert (done.stdout, done.stderr) == (content + b"alpha\n" + content, b"")
    document = json.loads(command("cat", 1, "metadata.txt").stdout)
    assert [record["name"] for record in document if record["destinationTable"] == "Files"] == [
        "a.txt",
        "b.bin",
        "empty",
    ]
    refused = command("cat", 1, "data/a.txt", "data/sub", "nothing")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "job 1 has no file 'data/sub'; 'ingest ls 1' lists what it has" in refused.stderr


def test_damage_never_comes_to_a_good_end(command: Command, site: Site, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    site.ingest(write_bundle(tmp_path / "b.tar", {"data/large": content, "data/small": b"small"}))
    for file_id in (1, 2):
        path = site.file(file_id)
        path.chmod(0o644)
        damaged = bytearray(path.read_bytes())
        damaged[0] ^= 1
        path.write_bytes(damaged)
    for name in ("large", "small"):
        ended = subprocess.run(command.line("cat", 1, name), capture_output=True, check=False, cwd=tmp_path)
        assert ended.returncode == 1
        assert b"does not match the catalogue" in ended.stderr
        assert len(ended.stdout) < (len(content) if name == "large" else 1)
    site.file(2).unlink()
    assert command("cat", 1, "small").returncode == 1
    assert command("restore", 1, "small", "--to", "new").returncode == 1
    assert not (tmp_path / "new").exists()


def test_some_files_are_a_bundle_of_their_own(command: Command, site: Site, stored: Path, tmp_path: Path) -> None:
    assert command("restore", 1, "data/sub/", "-o", "part.tar").returncode == 0
    part = members(tmp_path / "part.tar")
    document = json.loads(part.pop("metadata.txt"))
    assert part == {"data/sub/b.bin": FILES["data/sub/b.bin"]}
    assert [record.get("name", record.get("key")) for record in document[3:]] == ["Taxonomic Family", "phase", "b.bin"]
    assert command("part.tar").returncode == 0
    assert rows(command("ls", 2)) == [[str(len(part["data/sub/b.bin"])), WHEN, "data/sub/b.bin"]]
    done = command("restore", 1, "a.txt", "./empty", "--to", "part", "--json")
    assert json.loads(done.stdout)["files"] == 2
    assert sorted(path.name for path in (tmp_path / "part").rglob("*") if path.is_file()) == [
        "a.txt",
        "empty",
        "metadata.txt",
    ]
    done = command("restore", 1, "a.txt", "data/su", "--to", "none")
    assert done.returncode == 1
    assert "job 1 has no file or folder 'data/su'" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_path_is_first_what_it_says() -> None:
    files = [
        StoredFile(
            file_id=number,
            name=path.rpartition("/")[2],
            subdir=path.rpartition("/")[0],
            size=0,
            hashtype="sha1",
            hashsum="",
            mimetype="",
            ctime=None,
            mtime=None,
        )
        for number, path in enumerate(["x", "data/x", "run/x", "run/y/x", "runs"])
    ]
    chosen = {
        ("data/x",): [0],
        ("x",): [0],
        ("data/data/x",): [1],
        ("data",): [0, 1, 2, 3, 4],
        ("run",): [2, 3],
        ("run/", "data/run/y"): [2, 3],
        ("run/y", "x"): [0, 3],
        ("runs",): [4],
    }
    for paths, numbers in chosen.items():
        assert [file.file_id for file in choose_files(1, files, paths)] == numbers
    for path in ("ru", "", "y", "/data/x"):
        with pytest.raises(FileNotRecorded):
            choose_files(1, files, [path])


@pytest.mark.sweep
def test_a_path_may_have_another_unicode_form(command: Command, site: Site, tmp_path: Path) -> None:
    composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    site.ingest(write_bundle(tmp_path / "b.tar", {f"data/{decomposed}/x": b"from a Mac", f"data/{composed}": b"both"}))
    assert command("cat", 1, f"{composed}/x").stdout == "from a Mac"
    assert command("cat", 1, composed).stdout == "both"
    assert command("restore", 1, f"{composed}/x", "--to", "new").returncode == 0
    assert [path for *_, path in rows(command("find", "--path", f"{composed}/*"))] == [f"data/{decomposed}/x"]


def test_a_path_alone_is_not_taken_for_its_letters(site: Site, stored: Path, tmp_path: Path) -> None:
    for call in (
        lambda: list(read_files(1, "a.txt")),
        lambda: restore_folder(1, tmp_path / "new", paths="sub"),
        lambda: restore_bundle(1, tmp_path / "new", paths="sub"),
        lambda: list(find_copies(str(stored))),
    ):
        with pytest.raises(TypeError, match="takes several paths"):
            call()
    assert not (tmp_path / "new").exists()


def screen(folder: Path, *words: object, columns: int = 80) -> tuple[int, list[str], str]:
    with Terminal(folder, Command.line(*words), columns=columns) as terminal:
        return terminal.end(), terminal.lines, terminal.raw


@pytest.mark.sweep
@pytest.mark.parametrize("columns", [40, 80, 140])
def test_a_table_fits_the_window(site: Site, tmp_path: Path, columns: int) -> None:
    files = {"data/a.txt": b"alpha\n", f"data/{'long/' * 40}測定.raw": bytes(2000)}
    site.ingest(write_bundle(tmp_path / "b.tar", files))
    for words in (["ls", 1], ["find", "--name", "*"]):
        code, lines, _ = screen(tmp_path, *words, columns=columns)
        header, first, second, total = lines
        assert code == 0
        assert header.split()[-1] == "path"
        assert ("2016-11-29 14:09" in first) is (columns > 40)
        assert first.endswith("data/a.txt")
        assert second.endswith("測 定 .raw") or second.endswith("測定.raw")
        assert "…" in second or columns == 140
        assert total == "2 files, 2.0 kB"


@pytest.mark.sweep
def test_a_terminal_gets_only_text(site: Site, tmp_path: Path) -> None:
    files = {"data/text": "größe\tµ\r\n".encode(), "data/binary": b"\x1b]0;title\x07\n", "data/cut": b"gr\xc3"}
    site.ingest(write_bundle(tmp_path / "b.tar", files))
    assert screen(tmp_path, "cat", 1, "text")[:2] == (0, ["größe   µ"])
    for name in ("binary", "cut"):
        code, lines, raw = screen(tmp_path, "cat", 1, name)
        assert code == ExitCode.USAGE
        assert len(lines) == 1
        assert "this is not text: redirect it" in lines[0]
        assert "title" not in raw
    code, lines, _ = screen(tmp_path, "restore", 1, "-o", "-")
    assert code == ExitCode.USAGE
    assert "a bundle cannot be shown on a terminal" in lines[0]


def test_a_catalogue_of_an_older_version_is_searched(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    database = open_database(path, MIGRATIONS[:3], "catalogue")
    with database.conn as connection:
        connection.execute("INSERT INTO Transactions VALUES (1, 10, '1234a', 54, '2026-01-02 03:04:05', 'd')")
        connection.execute("INSERT INTO Files VALUES (1, 1, 'a.raw', '', 1, 'sha256', 'ab', 'text/plain', NULL, NULL)")
    database.close()
    with closing(EmbeddedCatalog(path)) as catalog:
        assert [file.path for _, file in catalog.find(FileQuery(name="a*"))] == ["data/a.raw"]
        assert catalog.hashtypes() == {"sha256"}
    with closing(sqlite3.connect(path)) as connection:
        indexes = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    assert {"Files_hash", "Files_name"} <= indexes
    assert "Files_hashsum" not in indexes

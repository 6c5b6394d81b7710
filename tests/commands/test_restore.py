"""``ingest verify`` and ``ingest restore``: what was stored is there, byte for byte, and can be had again."""

import json
import os
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from rich.filesize import decimal

from ingest_cli.errors import ArchiveError, ExitCode
from ingest_cli.retrieval import content as retrieved
from ingest_cli.retrieval.content import read_content
from ingest_cli.services.factory import connect
from ingest_cli.settings import load_settings

from ..support.bundles import FILES, cleaned, document_for, members, write_bundle
from ..support.command import Command
from ..support.mounts import Mount
from ..support.pacifica_double import PacificaSite
from ..support.site import Site


def test_a_bundle_is_had_back(command: Command, site: Site, stored: Path, tmp_path: Path) -> None:
    done = command("restore", 1, "-o", "again.tar")
    assert done.returncode == 0, done.stderr
    again = members(tmp_path / "again.tar")
    document = json.loads(again.pop("metadata.txt"))
    assert again == FILES
    assert cleaned(document) == cleaned(json.loads(members(stored)["metadata.txt"]))
    assert list(members(tmp_path / "again.tar"))[-1] == "metadata.txt"


def test_what_is_had_back_can_be_ingested_again(command: Command, site: Site, stored: Path, tmp_path: Path) -> None:
    assert command("restore", 1, "-o", "again.tar").returncode == 0
    assert command("--again", "again.tar").returncode == 0
    assert command("restore", 2, "-o", "third.tar").returncode == 0
    documents = [json.loads(members(tmp_path / name)["metadata.txt"]) for name in ("again.tar", "third.tar")]
    assert cleaned(documents[0]) == cleaned(documents[1])


def test_a_pipe(command: Command, site: Site, stored: Path, tmp_path: Path) -> None:
    done = subprocess.run(command.line("restore", 1, "-q", "-o", "-"), capture_output=True, check=True)
    (tmp_path / "piped.tar").write_bytes(done.stdout)
    assert set(members(tmp_path / "piped.tar")) == {*FILES, "metadata.txt"}


def test_a_folder(command: Command, site: Site, stored: Path, tmp_path: Path) -> None:
    assert command("restore", 1, "--to", "folder").returncode == 0
    for name, content in FILES.items():
        assert (tmp_path / "folder" / name).read_bytes() == content
        assert (tmp_path / "folder" / name).stat().st_mtime == 1480428545
    assert (tmp_path / "folder" / "metadata.txt").exists()


def test_what_came_as_numbers_comes_back_as_text(command: Command, site: Site, tmp_path: Path) -> None:
    values = [{"destinationTable": "TransactionKeyValue", "key": 7, "value": value} for value in (10, 1.5, True)]
    records = [*document_for(FILES), *values]
    records[1]["value"] = 1234
    records[4]["size"] = str(records[4]["size"])
    assert command(write_bundle(tmp_path / "b.tar", FILES, records)).returncode == 0
    assert command("restore", 1, "-o", "again.tar").returncode == 0
    document = json.loads(members(tmp_path / "again.tar")["metadata.txt"])
    assert {"destinationTable": "Transactions.project", "value": "1234"} in document
    assert {record["value"] for record in document if record.get("key") == "7"} == {"10", "1.5", "True"}
    assert command("--again", "again.tar").returncode == 0
    assert command("restore", 2, "-o", "third.tar").returncode == 0
    assert cleaned(json.loads(members(tmp_path / "third.tar")["metadata.txt"])) == cleaned(document)


TIMES = {
    "2016-11-29T14:09:05": 1480428545,
    "2016-11-29 14:09:05.999": 1480428545,
    "2016-11-29T14:09:05Z": 1480428545,
    "2016-11-29T14:09:05+02:00": 1480421345,
    "1969-12-31T23:59:58": -2,
    "0001-01-01T00:00:00": -62135596800,
    "0001-01-01T00:00:00+23:59": -62135683140,
    "9999-12-31T23:59:59": 253402300799,
    "9999-12-31T23:59:59-23:59": 253402387139,
    "Tue Nov 29 14:09:05 PST 2016": 0,
    "10000-01-01T00:00:00": 0,
    "2016-13-01": 0,
    "soon": 0,
    "": 0,
    "9" * 5000: 0,
    "測定": 0,
}


def test_times_of_all_kinds_are_restored_or_left_out(command: Command, site: Site, tmp_path: Path) -> None:
    files = {f"data/{number}": b"x" for number in range(len(TIMES))}
    records = document_for(files)
    for record, time in zip(records[-len(TIMES) :], TIMES, strict=True):
        record["ctime"] = record["mtime"] = time
    assert command(write_bundle(tmp_path / "b.tar", files, records), "--receipt", "receipt.json").returncode == 0
    assert command("restore", 1, "-o", "again.tar").returncode == 0
    assert command("restore", 1, "--to", "folder").returncode == 0
    assert command("--again", "again.tar").returncode == 0
    with tarfile.open(tmp_path / "again.tar") as tar:
        restored = {member.name: member.mtime for member in tar if member.name in files}
    assert restored == dict(zip(files, TIMES.values(), strict=True))
    found = [(tmp_path / "folder" / name).stat().st_mtime for name in files]
    # Of what the file system cannot hold it keeps what comes nearest.
    assert [time for time, wanted in zip(found, TIMES.values(), strict=True) if 0 <= wanted < 2**31] == [
        wanted for wanted in TIMES.values() if 0 <= wanted < 2**31
    ]


@pytest.mark.parametrize("where", ["-o", "--to"])
def test_nothing_is_overwritten_and_nothing_is_half(
    command: Command, site: Site, stored: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "there").write_text("precious")
    done = command("restore", 1, where, "there")
    assert done.returncode == 1
    assert "it already exists" in done.stderr
    assert (tmp_path / "there").read_text() == "precious"
    path = site.file(2)
    path.chmod(0o644)
    path.write_bytes(bytes(len(path.read_bytes())))
    done = command("restore", 1, where, "new")
    assert done.returncode == 1
    assert "does not match the catalogue" in done.stderr
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new*"))


@pytest.mark.sweep
@pytest.mark.parametrize("where", ["-o", "--to"])
def test_a_target_that_cannot_be(command: Command, site: Site, stored: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "FIFO")
    reasons = {
        "none/new": "No such file or directory",
        "b.tar/new": "Not a directory",
        "x" * 256: "File name too long",
        "link": "it already exists",
        "FIFO": "it already exists",
    }
    before = sorted(tmp_path.iterdir())
    for target, reason in reasons.items():
        done = command("restore", 1, where, target)
        assert done.returncode == 1
        assert f"cannot write {target}: {reason}" in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert command("restore", 1, where, "y" * 255).returncode == 0


@pytest.mark.parametrize("where", ["-o", "--to"])
def test_a_full_disk_may_have_room_later(
    command: Command, site: Site, tmp_path: Path, where: str, mount: Mount
) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar", {"data/a": b"a", "data/large": bytes(900_000)}))
    mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "none")
    (tmp_path / "disk" / "ballast").write_bytes(bytes(300_000))
    done = command("restore", 1, where, "disk/new")
    assert done.returncode == ExitCode.UNREACHABLE
    assert "into disk/new: No space left" in done.stderr or "cannot write disk/new: No space left" in done.stderr
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["ballast"]
    (tmp_path / "disk" / "ballast").unlink()
    assert command("restore", 1, where, "disk/new").returncode == 0


def test_a_name_that_a_disk_does_not_take_is_named(command: Command, site: Site, tmp_path: Path) -> None:
    files = {"data/a": b"a", f"data/{'x' * 300}": b"b"}
    site.ingest(write_bundle(tmp_path / "b.tar", files, tar_format=tarfile.PAX_FORMAT))
    done = command("restore", 1, "--to", "folder")
    assert done.returncode == 1
    assert "x' (305 characters) into folder: File name too long" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "data") == ["b.tar"]
    assert command("restore", 1, "-o", "again.tar").returncode == 0
    assert files.items() <= members(tmp_path / "again.tar").items()


def test_a_catalogue_that_leads_astray(command: Command, site: Site, stored: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(site.catalog)) as connection, connection:
        connection.execute("UPDATE Files SET subdir = '../..' WHERE id = 1")
    done = command("restore", 1, "--to", "folder")
    assert done.returncode == 1
    assert "points outside the bundle" in done.stderr
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("words", [["restore", 99, "-o", "x.tar"], ["verify", 99]])
def test_a_job_that_is_not_recorded(command: Command, site: Site, stored: Path, words: list[object]) -> None:
    done = command(*words)
    assert done.returncode == 1
    assert "the catalogue has no record of job 99" in done.stderr


@pytest.mark.parametrize("words", [["restore", 1], ["restore", 1, "-o", "a", "--to", "b"], ["verify"]])
def test_wrong_usage(command: Command, words: list[object]) -> None:
    assert command(*words).returncode == ExitCode.USAGE


def test_who_says_not_where_to_is_told_how(command: Command) -> None:
    assert "either --to FOLDER, for the files, or -o FILE" in command("restore", 1).stderr


def test_the_end_of_a_file_is_had_only_if_all_of_it_is_right(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * (3 << 12)
    site.ingest(write_bundle(tmp_path / "b.tar", {"data/a": data}))
    with connect(site.settings) as services:
        (file,) = services.catalog.files(1)

        def part(start: int, stop: int) -> bytes:
            return b"".join(read_content(services.archive, file, start, stop))

        for start, stop in ((0, len(data)), (5, len(data)), (len(data) - 1, len(data)), (5, 6), (0, len(data) - 1)):
            assert part(start, stop) == data[start:stop]
        site.file(1).chmod(0o644)
        wrong = data[:9] + b"!" + data[10:]
        site.file(1).write_bytes(wrong)
        for start in (0, 9, 10, len(data) - 1):
            with pytest.raises(ArchiveError, match="does not match the catalogue"):
                part(start, len(data))
        assert part(5, 15) == wrong[5:15], "a part of it is not compared"
        monkeypatch.setattr(retrieved, "MOST_BEFORE_BYTES", 1000)
        assert part(1001, len(data)) == data[1001:], "nor what has more before it than is read for that"
        with pytest.raises(ArchiveError):
            part(1000, len(data))
        for held in (data[:-1], data + b"!"):
            site.file(1).write_bytes(held)
            with pytest.raises(ArchiveError):
                part(0, len(data))


# verify


def flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def looks(folder: Path) -> dict[Path, tuple[int, int, int]]:
    found = {path: path.stat() for path in folder.rglob("*")}
    return {path: (status.st_mtime_ns, status.st_size, status.st_mode) for path, status in found.items()}


def test_all_is_ok(command: Command, site: Site, stored: Path) -> None:
    done = command("verify", 1)
    assert (done.returncode, done.stdout) == (0, "")
    size = decimal(sum(map(len, FILES.values())))
    assert f"1 job, {len(FILES)} files, {size} verified: no problems" in done.stderr
    assert command("verify", "--all", "-q").stderr == ""


def test_every_damage_is_named(command: Command, site: Site, stored: Path, tmp_path: Path) -> None:
    flip(site.file(1))
    site.file(2).chmod(0o644)
    os.truncate(site.file(2), 5)
    site.file(3).unlink()
    (site.archive / "39").mkdir()
    (site.archive / "39" / "3039").write_text("an orphan")
    (site.archive / "file.9.part").write_text("left over")
    before = looks(site.archive)
    done = command("verify", "--all", "--json")
    assert done.returncode == ExitCode.FAILED
    *found, verified = [json.loads(line) for line in done.stdout.splitlines()]
    assert {damage["event"] for damage in found} == {"damage"}
    assert (verified["event"], verified["damaged"]) == ("verified", 5)
    problems = {(damage["job_id"], damage["file_id"]): damage["problem"] for damage in found}
    assert problems[1, 1].startswith("sha1 is ")
    assert problems[1, 2] == "5 bytes long instead of 2,048"
    assert problems[1, 3] == "missing from the archive"
    assert problems[None, 12345] == problems[None, None] == "orphaned"
    assert len(found) == 5
    assert looks(site.archive) == before, "nothing is changed"


def test_of_many_files_those_that_are_wrong_are_found(command: Command, site: Site, tmp_path: Path) -> None:
    """Small ones and large ones, which several threads go through."""
    files = {f"data/{number:03}": os.urandom(9 << 20 if number in (7, 450) else 20) for number in range(600)}
    wrong = [1, 7, 130, 131, 450, 599]
    bundle = write_bundle(tmp_path / "many.tar", files)
    site.ingest(bundle)
    assert command("verify", 1, "--quiet").returncode == 0
    assert command("restore", 1, "--to", "sound").returncode == 0
    assert {f"data/{path.name}": path.read_bytes() for path in (tmp_path / "sound" / "data").iterdir()} == files
    for number in wrong:
        flip(site.file(number + 1))
    done = command("verify", "--all", "--json")
    *found, verified = [json.loads(line) for line in done.stdout.splitlines()]
    assert [damage["file_id"] for damage in found] == [number + 1 for number in wrong]
    assert (verified["files"], verified["bytes"]) == (len(files), sum(map(len, files.values())))
    done = command("restore", 1, "--to", "damaged")
    assert (done.returncode, "'data/001', does not match the catalogue" in done.stderr) == (ExitCode.FAILED, True)
    assert not (tmp_path / "damaged").exists()


def test_files_of_a_job_that_may_go_on_are_no_orphans(
    command: Command, site: Site, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("METADATA_INGEST_URL", "http://127.0.0.1:1/ingest")
        assert command(write_bundle(tmp_path / "c.tar", {"data/c": b"c"})).returncode == 4
    assert len(site.archived()) == len(FILES) + 1
    assert command("verify", "--all").returncode == 0


def test_a_sample(command: Command, site: Site, stored: Path) -> None:
    assert "0 files" in command("verify", "--all", "--sample", 0).stderr


@pytest.fixture
def at_a_site(site: Site, pacific: PacificaSite, tmp_path: Path) -> PacificaSite:
    site.settings = load_settings()
    site.ingest(write_bundle(tmp_path / "b.tar"))
    return pacific


def test_over_http(command: Command, at_a_site: PacificaSite, tmp_path: Path) -> None:
    assert command("verify", 1).returncode == 0
    assert command("restore", 1, "-o", "again.tar").returncode == 0
    again = members(tmp_path / "again.tar")
    document = json.loads(again.pop("metadata.txt"))
    assert again == FILES
    assert cleaned(document) == cleaned(json.loads(members(tmp_path / "b.tar")["metadata.txt"]))
    at_a_site.files[1] = b"wrong!"
    del at_a_site.files[2]
    done = command("verify", "--all")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "orphans are not looked for" in done.stderr

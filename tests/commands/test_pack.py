"""``ingest pack``: what it makes can be ingested, and what could not be is refused before anything is written."""

import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from ingest_cli.bundle.pack import pack, transaction_records, write_bundle
from ingest_cli.errors import ExitCode, PackError

from ..support.bundles import FILES
from ..support.command import Command
from ..support.forks import Running
from ..support.site import Site
from ..support.waiting import PATIENCE, until

OF = ("--submitter", 10, "--project", "1234a", "--instrument", 54)
RECORDS = transaction_records(10, "1234a", 54, [])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for name, content in FILES.items():
        path = folder / name.removeprefix("data/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_folder_goes_round(command: Command, site: Site, run: Path, tmp_path: Path) -> None:
    os.utime(run / "a.txt", (1_480_428_545, 1_480_428_545))
    done = command("pack", run, *OF, "--key", "Taxonomic Family=a=b")
    assert (done.returncode, done.stdout) == (0, "")
    site.ingest(tmp_path / "run.tar")
    assert site.contents() == FILES
    (pair,) = site.rows("TransactionKeyValue")
    assert (pair["key"], pair["value"]) == ("Taxonomic Family", "a=b")
    rows = {row["name"]: row for row in site.rows("Files")}
    assert rows["a.txt"]["mtime"] == "2016-11-29T14:09:05"
    assert rows["a.txt"]["mimetype"] == "text/plain"
    assert site.file(rows["a.txt"]["id"]).stat().st_mtime == 1_480_428_545


def test_several_paths_keep_their_names(command: Command, site: Site, run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("n")
    assert command("pack", run, tmp_path / "notes.txt", *OF).returncode == ExitCode.USAGE
    assert command("pack", run, tmp_path / "notes.txt", *OF, "-o", "b.tar").returncode == 0
    site.ingest(tmp_path / "b.tar")
    assert site.contents() == {
        "data/notes.txt": b"n",
        **{name.replace("data/", "data/run/"): content for name, content in FILES.items()},
    }


def test_a_pipe(command: Command, site: Site, run: Path) -> None:
    packed = subprocess.run(command.line("pack", run, *OF, "-q", "-o", "-"), capture_output=True, check=True)
    assert command("-", stdin=packed.stdout).returncode == 0
    assert site.contents() == FILES


def test_the_folder_that_one_is_in(command: Command, run: Path) -> None:
    line = command.line("pack", ".", *OF)
    assert subprocess.run(line, cwd=run, capture_output=True, check=False).returncode == 0
    with tarfile.open(run / "run.tar") as tar:
        assert sorted(tar.getnames()) == sorted([*FILES, "metadata.txt"])
        assert tar.getnames()[-1] == "metadata.txt"


@pytest.mark.parametrize("name", ["ünï " + "long" * 60, "a\nb", "x" * 120 + "/" + "y" * 120, "Präparat ß.txt"])
def test_names(site: Site, tmp_path: Path, name: str) -> None:
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    write_bundle([tmp_path / "run"], RECORDS, tmp_path / "b.tar")
    site.ingest(tmp_path / "b.tar")
    assert site.contents() == {f"data/{name}": b"x"}


def test_all_that_cannot_be_packed_is_named(command: Command, run: Path, tmp_path: Path) -> None:
    (run / "link").symlink_to("a.txt")
    (run / "folder link").symlink_to("sub")
    os.mkfifo(run / "fifo")
    (run / os.fsdecode(b"\xff")).write_text("x")
    done = command("pack", run, *OF)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 4
    for name in (
        "link is not a regular",
        "folder link is not a regular",
        "fifo is not a regular file",
        "not valid UTF-8",
    ):
        assert name in done.stderr
    assert not (tmp_path / "run.tar").exists()


@pytest.mark.parametrize(
    ("words", "saying"),
    [
        (["empty", *OF], "there are no files in"),
        (["missing", *OF], "No such file or directory"),
        (["run", *OF, "--key", "a=1", "--key", "a=1"], "is given twice"),
        (["run", *OF, "--key", "a"], "not of the form"),
        (["run", "--submitter", 10, "--project", "", "--instrument", 54], "could not be ingested"),
        (["run", *OF, "-o", "nowhere/b.tar"], "No such file or directory"),
        (["run", "run/a.txt", "run/sub/../a.txt", *OF, "-o", "b.tar"], "would both be"),
    ],
)
def test_what_is_wrong_is_said(command: Command, run: Path, tmp_path: Path, words: list[object], saying: str) -> None:
    (tmp_path / "empty").mkdir()
    done = command("pack", *words)
    assert done.returncode in (1, 2)
    assert saying in done.stderr
    assert [path.name for path in tmp_path.iterdir() if ".tar" in path.name] == []


def test_a_bundle_is_not_overwritten(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "run.tar").write_text("precious")
    assert command("pack", run, *OF).returncode == 1
    assert (tmp_path / "run.tar").read_text() == "precious"
    assert command("pack", run, *OF, "--force").returncode == 0


@pytest.mark.parametrize("size", [0, 5, 500])
def test_a_file_that_changes_meanwhile(run: Path, tmp_path: Path, size: int) -> None:
    """It shrinks, or grows, when the tar has come to it."""

    (run / "z").write_bytes(bytes(100))
    os.utime(run / "z", (1, 1))
    fifo = tmp_path / "out"
    os.mkfifo(fifo)
    (run / "a.txt").write_bytes(bytes(1_000_000))  # more than a pipe takes: packing waits for us
    failures: list[BaseException] = []

    def packing() -> None:
        try:
            with fifo.open("wb", buffering=0) as out:
                pack([run], RECORDS, out)
        except PackError as error:
            failures.append(error)

    thread = Thread(target=packing)
    thread.start()
    with fifo.open("rb") as out:
        out.read(1000)
        (run / "z").write_bytes(bytes(size))
        while out.read(65536):
            pass
    thread.join()
    assert "was modified while it was packed" in str(failures[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_stopped_leaves_no_bundle(starting: Callable[..., Running], tmp_path: Path, number: int) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "large").open("wb") as file:
        file.truncate(20 << 30)
    before = set(tmp_path.iterdir())
    process = starting("pack", tmp_path / "run", *OF)
    until(lambda: "run/large" in str(opened_by(process.pid)))
    process.send_signal(number)
    assert process.wait(PATIENCE) == (-9 if number == signal.SIGKILL else ExitCode.INTERRUPTED)
    assert set(tmp_path.iterdir()) == before


def opened_by(pid: int) -> list[str]:
    """The files that a process has open."""
    with suppress(OSError):
        return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return []


def test_many_small_files(site: Site, tmp_path: Path) -> None:
    count = 5000
    for number in range(count):
        path = tmp_path / "run" / f"{number % 50}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    packed = write_bundle([tmp_path / "run"], RECORDS, tmp_path / "b.tar")
    assert packed.files == count
    assert site.ingest(tmp_path / "b.tar").stored == count
    with tarfile.open(tmp_path / "b.tar") as tar:
        document = tar.extractfile("metadata.txt")
        assert document is not None
        assert len(json.load(document)) == count + 3

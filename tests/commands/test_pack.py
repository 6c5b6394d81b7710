"""``ingest pack``: what it makes can be ingested, and what could not be is refused before anything is written."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.bundle.pack import pack, write_bundle
from ingest_cli.bundle.records import transaction_records
from ingest_cli.errors import ExitCode, FilesChanged

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


def test_each_folder_is_a_bundle_and_one_that_cannot_be_packed_stops_no_other(command: Command, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "camp" / name).mkdir(parents=True)
        (tmp_path / "camp" / name / "x").write_text(name)
    (tmp_path / "camp" / "b" / "link").symlink_to("x")
    (tmp_path / "out").mkdir()
    words = ("pack", "--each", "camp", *OF, "-o", "out")
    assert command(*words, "--dry-run").stdout.splitlines() == [
        f"out/{name}.tar: 1 file, 1 byte would be packed: submitter 10, project 1234a, instrument 54" for name in "ac"
    ]
    done = command(*words)
    assert done.returncode == ExitCode.SOME_FAILED
    assert "b/link is a symbolic link" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.tar", "c.tar"]
    assert command("pack", "--each", "camp", *OF, "-o", "none").returncode == ExitCode.USAGE
    assert command("pack", "--each", "camp/a/x", *OF).returncode == ExitCode.USAGE


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
    assert len(done.stderr.splitlines()) == 5
    for name in (
        "run/link is a symbolic link",
        "run/folder link is a symbolic link",
        "run/fifo is a FIFO",
        "not valid UTF-8",
        "--skip-special leaves out all but files and folders; --dereference follows links",
    ):
        assert name in done.stderr
    assert not (tmp_path / "run.tar").exists()


def test_no_more_problems_are_named_than_can_be_read(command: Command, run: Path) -> None:
    for number in range(250):
        (run / f"link {number}").symlink_to("a.txt")
    done = command("pack", run, *OF)
    assert "ingest: and 150 more\n" in done.stderr
    assert len(done.stderr.splitlines()) == 102


@pytest.mark.skipif(os.getuid() == 0 and shutil.which("setpriv") is None, reason="root reads everything")
def test_all_that_may_not_be_read_is_named(command: Command, run: Path, tmp_path: Path) -> None:
    (run / "a.txt").chmod(0)
    (run / "closed").mkdir(mode=0)
    (run / "lost+found").mkdir(mode=0)
    line = command.line("pack", run, *OF)
    if os.getuid() == 0:
        line = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *line]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    (run / "closed").chmod(0o700)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"ingest: cannot be packed: {run}/a.txt: Permission denied",
        f"ingest: {run}/closed: Permission denied",
    ]
    assert not (tmp_path / "run.tar").exists()


# What is left out.


def written(command: Command, *words: object) -> tuple[dict[str, Any], list[str]]:
    """The answer, and the warnings."""
    done = command("pack", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), [line.removeprefix("ingest: warning: ") for line in done.stderr.splitlines()]


def left_out(answer: dict[str, Any]) -> dict[str, str]:
    return {item["path"]: item["reason"] for item in answer["left_out"]}


def test_links_and_the_like_are_skipped_on_request(command: Command, site: Site, run: Path, tmp_path: Path) -> None:
    (run / "link").symlink_to("a.txt")
    (run / "sub" / "up").symlink_to("..")
    os.mkfifo(run / "fifo")
    answer, warnings = written(command, run, *OF, "--skip-special")
    assert left_out(answer) == {"link": "symbolic link", "sub/up": "symbolic link", "fifo": "FIFO"}
    assert warnings == ["2 symbolic links left out: link, sub/up", "1 FIFO left out: fifo"]
    site.ingest(tmp_path / "run.tar")
    assert site.contents() == FILES


def test_links_are_followed_on_request(command: Command, site: Site, run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"e")
    (run / "link").symlink_to(tmp_path / "elsewhere")
    (run / "again").symlink_to("sub")
    assert command("pack", run, *OF, "--dereference").returncode == 0
    site.ingest(tmp_path / "run.tar")
    assert site.contents() == {**FILES, "data/link": b"e", "data/again/b.bin": FILES["data/sub/b.bin"]}


def test_links_that_lead_nowhere_or_round_in_circles(command: Command, run: Path) -> None:
    (run / "broken").symlink_to("nowhere")
    (run / "itself").symlink_to("itself")
    (run / "sub" / "up").symlink_to("..")
    done = command("pack", run, *OF, "--dereference")
    assert done.returncode == 1
    for problem in ("run/broken is a broken link", "run/itself is a broken link", "run/sub/up is a looping link"):
        assert problem in done.stderr
    answer, _ = written(command, run, *OF, "--dereference", "--skip-special")
    assert left_out(answer) == {"broken": "broken link", "itself": "broken link", "sub/up/": "looping link"}


@pytest.mark.sweep
def test_links_that_make_no_end_of_folders(command: Command, tmp_path: Path) -> None:
    """Two links in each of many folders to the next: it is not waited for how many ways there are."""
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "file").touch()
    for number in range(1, 60):
        (tmp_path / f"{number}").mkdir()
        for link in ("a", "b"):
            (tmp_path / f"{number}" / link).symlink_to(f"../{number - 1}")
    done = command("pack", "59", *OF, "--dereference")
    assert "there are more than 1,000,000 files where links are followed" in done.stderr


def test_a_folder_is_packed_though_it_is_named_by_a_link(
    command: Command, site: Site, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "current").symlink_to("run")
    assert command("pack", "current", *OF, "-o", "b.tar").returncode == 0
    site.ingest(tmp_path / "b.tar")
    assert site.contents() == FILES


def test_what_is_excluded(command: Command, site: Site, run: Path, tmp_path: Path) -> None:
    for name in ("x.tmp", "sub/y.tmp", "cache/1", "cache/2", "sub/raw/old", "raw/old"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(name)
    answer, warnings = written(command, run, *OF, "--exclude", "*.tmp", "--exclude", "cache/", "--exclude", "/raw")
    assert set(left_out(answer)) == {"x.tmp", "sub/y.tmp", "cache/", "raw/"}
    assert warnings == ["4 excluded paths left out: cache/, raw/, sub/y.tmp, x.tmp"]
    site.ingest(tmp_path / "run.tar")
    assert site.contents() == {**FILES, "data/sub/raw/old": b"sub/raw/old"}


def test_what_is_excluded_of_several_paths(command: Command, run: Path, tmp_path: Path) -> None:
    for name in ("cache/1", "notes.txt", "notes.txt~"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    words = (run, "cache", "notes.txt", "notes.txt~", *OF, "-o", "b.tar", "--exclude", "*~", "--exclude", "cache")
    assert set(left_out(written(command, *words)[0])) == {"cache/", "notes.txt~"}
    assert set(left_out(written(command, *words, "--exclude", "/run/sub", "--force")[0])) == {
        *("cache/", "notes.txt~", "run/sub/")
    }


def test_a_name_that_is_no_text_can_be_excluded(command: Command, run: Path) -> None:
    (run / os.fsdecode(b"\xff.tmp")).touch()
    assert list(left_out(written(command, run, *OF, "--exclude", "*.tmp")[0])) == [os.fsdecode(b"\xff.tmp")]


def test_what_systems_put_beside_files(command: Command, site: Site, run: Path, tmp_path: Path) -> None:
    for name in (".DS_Store", "sub/._b.bin", "sub/Thumbs.db", ".Trashes/501/old"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    answer, warnings = written(command, run, *OF)
    assert warnings == ["4 system files left out: .DS_Store, .Trashes/, sub/._b.bin, sub/Thumbs.db"]
    assert answer["files"] == len(FILES)
    assert written(command, run, *OF, "--no-default-excludes", "--force")[0]["files"] == len(FILES) + 4
    site.ingest(tmp_path / "run.tar")
    assert site.contents()["data/.Trashes/501/old"] == b".Trashes/501/old"


def test_empty_folders_are_told_of(command: Command, run: Path) -> None:
    for number in range(15):
        (run / "e" / f"{number:02}").mkdir(parents=True)
    answer, warnings = written(command, run, *OF)
    assert left_out(answer) == {f"e/{number:02}/": "empty folder" for number in range(15)}
    named = ", ".join(f"e/{number:02}/" for number in range(10))
    assert warnings == [f"15 empty folders left out: {named}, and 5 more"]
    done = command("pack", run, *OF, "--force", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_nothing_is_left_it_is_said_why(command: Command, tmp_path: Path) -> None:
    (tmp_path / "run" / "empty").mkdir(parents=True)
    (tmp_path / "run" / ".DS_Store").touch()
    done = command("pack", "run", *OF)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "ingest: there are no files in run",
        "ingest: 1 system file left out: .DS_Store",
        "ingest: 1 empty folder left out: empty/",
    ]


@pytest.mark.parametrize("output", ["run.tar", "-"])
def test_a_bundle_is_not_packed_into_itself(command: Command, site: Site, run: Path, output: str) -> None:
    (run / "run.tar").write_text("an earlier one")
    with (run / "run.tar").open("r+b") as out:
        line = command.line("pack", ".", *OF, "-o", output, "--force")
        done = subprocess.run(line, cwd=run, stdout=out, stderr=subprocess.PIPE, text=True, check=True)
    assert "1 bundle being written left out: run.tar" in done.stderr
    site.ingest(run / "run.tar")
    assert site.contents() == FILES


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("words", "saying"),
    [
        (["empty", *OF], "there are no files in"),
        (["missing", *OF], "No such file or directory"),
        (["run", *OF, "--key", "a=1", "--key", "a=1"], "is given twice"),
        (["run", *OF, "--key", "a"], "not of the form"),
        (["run", *OF, "--key", os.fsdecode(b"a=\xff")], "not valid UTF-8"),
        (["run", *OF, "--exclude", "/"], "--exclude '/' names no file"),
        (["run", *OF, "--exclude", "*"], "there are no files in"),
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
    (run / "a.txt").write_bytes(bytes(1_000_000))  # more than a pipe takes: packing waits for us
    with pytest.raises(FilesChanged, match="was modified while it was packed"):
        pack_while(lambda: (run / "z").write_bytes(bytes(size)), run, tmp_path)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: (path.unlink(), path.symlink_to("a.txt"))])
def test_a_file_that_goes_meanwhile(run: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    (run / "z").write_bytes(bytes(100))
    (run / "a.txt").write_bytes(bytes(1_000_000))
    with pytest.raises(FilesChanged, match="was removed before it was packed"):
        pack_while(lambda: change(run / "z"), run, tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_folder_that_becomes_a_link_meanwhile(run: Path, tmp_path: Path) -> None:
    """What it leads to is not packed, be it that the file there looks the same but for its owner."""
    secret = tmp_path / "secrets" / "b.bin"
    secret.parent.mkdir()
    shutil.copy2(run / "sub" / "b.bin", secret)
    os.chown(run / "sub" / "b.bin", 1234, 1234)
    (run / "a.txt").write_bytes(bytes(1_000_000))

    def swap() -> None:
        (run / "sub").rename(tmp_path / "old")
        (run / "sub").symlink_to(secret.parent)

    with pytest.raises(FilesChanged, match="was modified while it was packed"):
        pack_while(swap, run, tmp_path)


def pack_while(change: Callable[[], object], run: Path, tmp_path: Path) -> None:
    """Pack the folder, and change something in it when a part of its first file, which is large, is packed."""
    fifo = tmp_path / "out"
    os.mkfifo(fifo)

    def packing() -> None:
        with fifo.open("wb", buffering=0) as out:
            pack([run], RECORDS, out)

    with ThreadPoolExecutor(1) as executor:
        packed = executor.submit(packing)
        with fifo.open("rb") as out:
            out.read(1000)
            change()
            while out.read(65536):
                pass
        packed.result()


@pytest.mark.parametrize(
    ("path", "saying"),
    [
        ("/proc/version", "holds more than its size says"),
        ("/sys/kernel/uevent_seqnum", "holds less than its size says"),
    ],
)
def test_a_file_whose_size_says_nothing(command: Command, tmp_path: Path, path: str, saying: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"there is no {path}")
    done = command("pack", path, *OF, "-o", "b.tar")
    assert (done.returncode, saying in done.stderr) == (1, True)
    assert not (tmp_path / "b.tar").exists()


@pytest.mark.parametrize(
    ("seconds", "recorded"),
    [
        (-1, "1969-12-31T23:59:59"),
        (2**33, "2242-03-16T12:56:32"),
        (-70_000_000_000, "0001-01-01T00:00:00"),
        (300_000_000_000, "9999-12-31T23:59:59"),
        (9_000_000_000, "2255-03-14T16:00:00"),
    ],
)
def test_a_file_of_an_odd_time(command: Command, site: Site, tmp_path: Path, seconds: int, recorded: str) -> None:
    """What a document cannot say is told of, and is no reason not to pack a file."""
    with suppress(OSError), tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "a"
        path.write_bytes(b"a")
        os.utime(path, ns=(0, seconds * 1_000_000_000))
        if path.stat().st_mtime_ns == seconds * 1_000_000_000:
            _, warnings = written(command, folder, *OF, "-o", tmp_path / "b.tar")
            site.ingest(tmp_path / "b.tar")
            (row,) = site.rows("Files")
            assert row["mtime"] == recorded
            is_odd = recorded[:4] in ("0001", "9999")
            assert warnings == (["1 file of a time before year 1 or after year 9999: a"] if is_odd else [])
            return
    pytest.skip("there is no file system that keeps such a time")


def test_folders_in_folders_without_end(command: Command, site: Site, tmp_path: Path) -> None:
    deep = tmp_path / "run"
    for _ in range(190):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "a").write_bytes(b"a")
    assert command("pack", "run", *OF).returncode == 0
    site.ingest(tmp_path / "run.tar")
    assert site.contents() == {f"data/{'d/' * 190}a": b"a"}
    for _ in range(20):
        deep /= "d"
    deep.mkdir(parents=True)
    done = command("pack", "run", *OF, "--force")
    assert (done.returncode, "it is in more than 200 folders" in done.stderr) == (1, True)


def test_a_name_that_is_too_long_for_a_bundle(command: Command, tmp_path: Path) -> None:
    place = tmp_path / "run"
    for number in range(18):
        place.mkdir()
        os.chdir(place)  # no path can be as long
        place = Path(f"{number:0240}")
    Path("a").touch()
    os.chdir(tmp_path)
    done = command("pack", "run", *OF)
    assert (done.returncode, "is too long for a bundle" in done.stderr) == (1, True)


@pytest.mark.parametrize("words", [[], ["--force"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_stopped_leaves_no_bundle(
    starting: Callable[..., Running], tmp_path: Path, number: int, words: list[str]
) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "large").open("wb") as file:
        file.truncate(20 << 30)
    before = set(tmp_path.iterdir())
    process = starting("pack", tmp_path / "run", *OF, *words)
    until(lambda: "run/large" in str(opened_by(process.pid)))
    process.send_signal(number)
    assert process.wait(PATIENCE) == (-9 if number == signal.SIGKILL else ExitCode.INTERRUPTED)
    assert set(tmp_path.iterdir()) == before


def test_where_a_bundle_cannot_be_written_no_file_is_blamed(command: Command, run: Path, tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    with full.open("wb") as out:
        line = command.line("pack", run, *OF, "-o", "-")
        done = subprocess.run(line, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("write standard output: No space left on device\n")
    (run / "large").write_bytes(bytes(1_000_000))
    done = command("pack", run, *OF, file_limit=100_000)
    assert "cannot write run.tar: File too large" in done.stderr
    assert not (tmp_path / "run.tar").exists()


def opened_by(pid: int) -> list[str]:
    """The files that a process has open."""
    with suppress(OSError):
        return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return []


@pytest.mark.sweep
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

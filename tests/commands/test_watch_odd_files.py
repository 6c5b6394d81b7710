"""``ingest watch`` and what else may lie in a drop folder: it costs itself only, and each is spoken of once."""

import os
import random
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ingest_cli.disk import opened

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.site import Site
from ..support.waiting import until
from ..support.watching import bare, make_folder, once, without_privileges

GOOD = 6


def refused(path: Path) -> None:
    path.write_bytes(b"no tar, whatever it is called")


def unreadable(path: Path) -> None:
    write_bundle(path).chmod(0)


def truncated(path: Path) -> None:
    path.write_bytes(write_bundle(path).read_bytes()[:2000])


def a_socket(path: Path) -> None:
    with opened(path.parent) as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")  # a path that is not too long for it


ODD: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a socket": a_socket,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to a bundle": lambda path: path.symlink_to("good 0.tar"),
    "a folder": Path.mkdir,
    "no tar": refused,
    "a truncated tar": truncated,
    "an empty file": Path.touch,
    "a bundle of nothing": lambda path: write_bundle(path, document=[], files={}),
    "what may not be read": unreadable,
}
NAMES = ["{}", "ümläut {}", "-q {}", "'{}\""]
NEW_LINE, NO_TEXT = "new\nline {}", os.fsdecode(b"\xff {}")
TIMES = [-(2**62), -1, 0, 2**31, 253402300800, 2**62]


@pytest.fixture
def roomy(drop: Path) -> Iterator[Path]:
    """A drop folder whose file system takes any time, where there is one."""
    if not Path("/dev/shm").is_dir():
        yield drop
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (Path(folder) / "drop").mkdir()
        yield Path(folder) / "drop"


def populate(drop: Path, chance: random.Random) -> tuple[dict[str, bytes], dict[str, str]]:
    """Good bundles and odd files: what is to be archived, and what each odd one is, by its name."""
    files: dict[str, bytes] = {}
    odd: dict[str, str] = {}
    for number in range(GOOD):
        content = {f"data/{number}": str(number).encode()}
        name = "good 0.tar" if number == 0 else f"{chance.choice([*NAMES, NEW_LINE]).format(number)}.tar"
        bundle = write_bundle(drop / name, content)
        with suppress(OSError, OverflowError):
            os.utime(bundle, (chance.choice(TIMES),) * 2)
        files |= content
    for number, kind in enumerate(chance.sample(sorted(ODD), 8)):
        name = f"{chance.choice([*NAMES, NO_TEXT]).format(f'odd {number}')}.tar"
        ODD[kind](drop / name)
        odd[f"odd {number}"] = kind
    return files, odd


def run_once(command: Command, drop: Path, *words: object) -> subprocess.CompletedProcess[str]:
    line = command.line("watch", "--once", "--settle", 0.05, "--patience", 0, drop, *words)
    return without_privileges(line)


def assert_spoken_of_once(said: str, odd: dict[str, str]) -> None:
    lines = said.splitlines()
    assert {name: sum(name in line for line in lines) for name in odd} == dict.fromkeys(odd, 1), said


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.sweep) for n in range(1, 3))])
def test_each_odd_file_is_spoken_of_once_and_stops_no_other(
    command: Command, roomy: Path, site: Site, seed: int
) -> None:
    files, odd = populate(roomy, random.Random(seed))
    done = run_once(command, roomy)
    assert done.returncode == 3, done.stderr
    assert site.contents() == files
    assert_spoken_of_once(done.stderr, odd)
    again = run_once(command, roomy)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_watcher_goes_on_and_does_not_repeat_itself(
    command: Command, roomy: Path, site: Site, tmp_path: Path
) -> None:
    """It looks at all again and again, and at each as it comes."""
    files, odd = populate(roomy, random.Random(4))
    line = command.line("watch", "--settle", 0.1, "--patience", 0, "--scan", 0.1, roomy)
    with (tmp_path / "log").open("wb") as log:
        watcher = subprocess.Popen(bare(line), stdout=log, stderr=log)
    try:
        until(lambda: site.database.exists() and len(site.jobs()) >= GOOD)
        write_bundle(roomy / "late.tar", {"data/late": b"late"})
        until(lambda: "data/late" in site.recorded())
        until(lambda: sum((tmp_path / "log").read_text().count(name) for name in odd) >= len(odd))
    finally:
        watcher.terminate()
        watcher.wait()
    assert site.contents() == {**files, "data/late": b"late"}
    assert_spoken_of_once((tmp_path / "log").read_text(), odd)


FOLDERS: dict[str, Callable[[Path], object]] = {
    "a link in it": lambda path: (path / "link").symlink_to("a"),
    "a FIFO in it": lambda path: os.mkfifo(path / "fifo"),
    "a name that is not text": lambda path: (path / os.fsdecode(b"\xff")).touch(),
    "what may not be read": lambda path: (path / "a").chmod(0),
    "a folder that may not be read": lambda path: (path / "sub").mkdir(mode=0),
    "a time after the year 9999": lambda path: os.utime(path / "a", (2**62, 2**62)),
    "a time long ago": lambda path: os.utime(path / "a", (-(2**62), -(2**62))),
}


def test_each_odd_folder_is_packed_or_spoken_of_once(command: Command, roomy: Path, site: Site, template: Path) -> None:
    names = {f"odd {number}": kind for number, kind in enumerate(FOLDERS)}
    for number in range(GOOD):
        make_folder(roomy / f"run {number}", {f"data/{number}": str(number).encode()})
    for name, kind in names.items():
        with suppress(OverflowError):
            FOLDERS[kind](make_folder(roomy / name, {"data/a": name.encode()}))
    (roomy / "loose.txt").touch()
    (roomy.parent / "failed").mkdir()
    (roomy / "link").symlink_to("run 0")
    done = run_once(command, roomy, "--pack", template, "--failed", roomy.parent / "failed")
    contents = [path.read_bytes() for path in site.archive.rglob("*") if path.is_file()]
    assert {str(number).encode() for number in range(GOOD)} <= set(contents)
    odd = {name: kind for name, kind in names.items() if name.encode() not in contents}
    assert_spoken_of_once(done.stderr, {**odd, "loose.txt": "", "'link'": ""})
    assert len(odd) >= len(FOLDERS) - 2
    assert {path.name for path in roomy.iterdir() if path.name.startswith("odd")} == set(names) - set(odd)
    assert {path.name for path in (roomy.parent / "failed").iterdir() if path.is_dir()} == set(odd)


@pytest.mark.sweep
def test_files_that_vanish_while_they_are_looked_at(command: Command, drop: Path, site: Site) -> None:
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            for number in range(20):
                (drop / f"gone {number}.tar").write_bytes(bytes(600))
            for number in range(20):
                (drop / f"gone {number}.tar").unlink(missing_ok=True)

    coming_and_going = threading.Thread(target=come_and_go)
    coming_and_going.start()
    try:
        for number in range(5):
            write_bundle(drop / f"{number}.tar", {f"data/{number}": bytes([number])})
            done = once(command, drop, "--settle", 0)
            assert "Traceback" not in done.stderr
            assert "rror:" not in done.stderr
    finally:
        over.set()
        coming_and_going.join()
    assert {f"data/{number}": bytes([number]) for number in range(5)}.items() <= site.contents().items()

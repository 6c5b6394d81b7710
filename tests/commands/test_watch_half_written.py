"""What a copier has not finished is not taken by ``ingest watch``, however it writes and wherever it stalls.

Real copiers, and writers of all kinds: each is stopped in the midst for longer than a file must hold still, then it is
continued, and one job comes of it.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..support.bundles import file_record, transaction, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.site import Site
from ..support.waiting import until
from ..support.watching import SETTLE, make_folder, once, settled

STALL = 3 * SETTLE
LARGE = {"data/large": random.Random(1).randbytes(3_000_000)}
MIDDLE = {"data/a": b"a" * 1000, "data/middle": random.Random(2).randbytes(70_000), "data/z": b"z"}
SMALL = {"data/a": b"alpha", "data/zeros": bytes(3000)}

# Real copiers are slow, and are stopped for long.
pytestmark = pytest.mark.sweep
# Writes the content of one file to another as a copier of some kind does, with a stall after so much of it.
WRITER = """
import os, sys

source, target, kind, share = sys.argv[1:]
content = open(source, "rb").read()
stop = int(len(content) * float(share))
with open(target, "wb", buffering=0) as file:
    if kind == "fallocate":
        os.posix_fallocate(file.fileno(), 0, len(content))
    elif kind == "truncate":
        file.truncate(len(content))
    elif kind == "zeros":
        file.write(bytes(len(content)))
        file.seek(0)
    elif kind == "backwards":
        file.seek(stop)
        file.write(content[stop:])
        file.seek(0)
        content, stop = content[:stop], stop // 2
    file.write(content[:stop])
    if kind == "closing":
        file.close()
        file = open(target, "ab", buffering=0)
    print("stalled", flush=True)
    sys.stdin.readline()
    file.write(content[stop:])
    file.close()
"""


@contextmanager
def stalled(source: Path, target: Path, kind: str, share: float) -> Iterator[None]:
    """A writer that stalls for as long as the block lasts."""
    line = [sys.executable, "-c", WRITER, str(source), str(target), kind, str(share)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"stalled\n"
        yield
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait() == 0


def jobs(site: Site) -> list[tuple[str, str]]:
    found = site.jobs() if site.database.exists() else []
    return [(Path(job.source).name, str(job.state)) for job in found]


KINDS = ["in order", "fallocate", "truncate", "zeros", "backwards", "closing"]


@pytest.mark.parametrize("poll", [(), ("--poll",)], ids=["events", "polling"])
def test_writers_of_all_kinds_that_stall_anywhere(
    watching: Callable[..., Running], drop: Path, site: Site, tmp_path: Path, poll: tuple[str, ...]
) -> None:
    chance = random.Random(len(poll))
    sources = {
        "large.tar": write_bundle(tmp_path / "large.tar", LARGE),
        "middle.tar": write_bundle(tmp_path / "middle.tar", MIDDLE),
        "first.tar": write_bundle(tmp_path / "first.tar", MIDDLE, metadata_first=True),
        "small.tar": write_bundle(tmp_path / "small.tar", SMALL),
        "packed.tar.gz": write_bundle(tmp_path / "packed.tar.gz", MIDDLE, mode="w:gz"),
        "packed.tar.xz": write_bundle(tmp_path / "packed.tar.xz", MIDDLE, mode="w:xz"),
    }
    watching(*poll)
    with ExitStack() as stack:
        for number, kind in enumerate(KINDS):
            for name in chance.sample(sorted(sources), 3):
                target = drop / f"{number} {name}"
                stack.enter_context(stalled(sources[name], target, kind, chance.uniform(0.05, 0.95)))
        time.sleep(STALL)
        assert jobs(site) == []
    until(lambda: settled(site, 3 * len(KINDS)))
    assert [job for job in site.jobs() if not job.is_done] == []


def test_documents_of_moves_that_are_half_written(
    watching: Callable[..., Running], drop: Path, site: Site, tmp_path: Path
) -> None:
    watching("--move")
    with ExitStack() as stack:
        for number, kind in enumerate(KINDS):
            (tmp_path / f"{number}").write_bytes(b"1")
            record = file_record(f"data/{number}", b"1", source=str(tmp_path / f"{number}"))
            (tmp_path / "m.json").write_text(json.dumps([*transaction(), record]))
            stack.enter_context(stalled(tmp_path / "m.json", drop / f"{number}.json", kind, 0.6))
        time.sleep(STALL)
        assert jobs(site) == []
    until(lambda: settled(site, len(KINDS)))
    assert [job for job in site.jobs() if not job.is_done] == []


def test_folders_that_are_half_written(
    watching: Callable[..., Running], drop: Path, site: Site, tmp_path: Path, template: Path
) -> None:
    (tmp_path / "content").write_bytes(MIDDLE["data/middle"])
    watching("--pack", template)
    with ExitStack() as stack:
        for number, kind in enumerate(["fallocate", "truncate", "zeros", "in order"]):
            run = drop / f"run {number}"
            run.mkdir()
            # It is not whole before the writer has begun, however long that takes.
            (run / "first.part").touch()
            make_folder(run, {"data/a": str(number).encode()})
            stack.enter_context(stalled(tmp_path / "content", run / "b", kind, 0.6))
            (run / "first.part").unlink()
        time.sleep(STALL)
        assert jobs(site) == []
    until(lambda: settled(site, 4))
    assert [row["size"] for row in site.rows("Files") if row["name"] == "b"] == [70_000] * 4


# Real copiers.

LIMITED = {
    "rsync": ["rsync", "--bwlimit=1500"],
    "rsync --inplace": ["rsync", "--bwlimit=1500", "--inplace"],
    "rsync --preallocate": ["rsync", "--bwlimit=1500", "--preallocate"],
    "rsync --inplace --preallocate": ["rsync", "--bwlimit=1500", "--inplace", "--preallocate"],
    "scp -O": ["scp", "-O", "-q", "-l", "12000"],
    "scp -s": ["scp", "-s", "-q", "-l", "12000"],
}
# In place of ssh: what would run on another host runs here.
NO_SSH = """#!/bin/sh
for last; do :; done
case "$last" in
sftp) exec {sftp_server} ;;
*) exec sh -c "$last" ;;
esac
"""
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


def require(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool}")


@pytest.mark.parametrize("line", [["cp", "/dev/stdin", "{}"], ["dd", "bs=4096", "status=none", "of={}"], ["tee", "{}"]])
def test_copiers_whose_source_stalls(
    watching: Callable[..., Running], drop: Path, site: Site, tmp_path: Path, line: list[str]
) -> None:
    require(line[0])
    content = write_bundle(tmp_path / "b.tar", LARGE).read_bytes()
    watching()
    words = [word.format(drop / "b.tar") for word in line]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as copier:
        assert copier.stdin is not None
        copier.stdin.write(content[:2_000_000])
        time.sleep(STALL)
        assert jobs(site) == []
        copier.stdin.write(content[2_000_000:])
    until(lambda: settled(site))
    assert jobs(site) == [("b.tar", "complete")]


def without_ssh(path: Path) -> Path:
    server = next(filter(os.path.exists, SFTP_SERVERS), None)
    if server is None:
        pytest.skip("there is no sftp-server")
    path.write_text(NO_SSH.format(sftp_server=server))
    path.chmod(0o755)
    return path


@contextmanager
def stopped(line: list[str], drop: Path) -> Iterator[None]:
    """A copier that is stopped in the midst for as long as the block lasts, with the processes it has started."""
    process = subprocess.Popen(line, start_new_session=True)
    try:
        until(lambda: any(path.lstat().st_blocks for path in drop.rglob("*") if "lock" not in path.name))
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGSTOP)
        yield
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("tool", sorted(LIMITED))
def test_copiers_that_are_stopped(
    watching: Callable[..., Running], drop: Path, site: Site, tmp_path: Path, tool: str
) -> None:
    require(tool.split()[0])
    bundle = write_bundle(tmp_path / "b.tar", LARGE)
    line = [*LIMITED[tool], str(bundle), str(drop / "b.tar")]
    if tool.startswith("scp"):
        line[1:1] = ["-S", str(without_ssh(tmp_path / "ssh"))]
        line[-1] = f"here:{line[-1]}"
    watching()
    with stopped(line, drop):
        time.sleep(STALL)
        assert jobs(site) == []
    until(lambda: settled(site))
    assert jobs(site) == [("b.tar", "complete")]


def test_a_folder_that_rsync_has_not_finished(
    watching: Callable[..., Running], drop: Path, site: Site, tmp_path: Path, template: Path
) -> None:
    require("rsync")
    make_folder(tmp_path / "run", {"data/a": b"a", **LARGE})
    watching("--pack", template)
    with stopped(["rsync", "-r", "--bwlimit=1500", str(tmp_path / "run"), str(drop)], drop):
        time.sleep(STALL)
        assert jobs(site) == []
    until(lambda: settled(site))
    assert {row["name"]: row["size"] for row in site.rows("Files")} == {"a": 1, "large": 3_000_000}


# Markers.


def test_a_marker_counts_once(command: Command, drop: Path, site: Site) -> None:
    write_bundle(drop / "b.tar", {"data/1": b"1"})
    (drop / "b.tar.done").touch()
    assert once(command, drop, "--marker").returncode == 0
    assert [path.name for path in drop.iterdir() if "done" in path.name] == []
    (drop / "b.tar").write_bytes(write_bundle(drop / "c", {"data/2": b"2"}).read_bytes()[:3000])
    assert once(command, drop, "--marker").returncode == 0
    assert len(site.jobs()) == 1, "nothing says that the second file is complete"
    (drop / "c").rename(drop / "b.tar")
    (drop / "b.tar.done").touch()
    assert once(command, drop, "--marker").returncode == 0
    assert site.contents() == {"data/1": b"1", "data/2": b"2"}


@pytest.mark.parametrize("poll", [(), ("--poll",)], ids=["events", "polling"])
def test_a_marker_of_a_file_that_was_ingested_already(
    watching: Callable[..., Running], drop: Path, site: Site, tmp_path: Path, poll: tuple[str, ...]
) -> None:
    watching("--marker", "--scan", 0.5, *poll)
    write_bundle(drop / "b.tar", {"data/1": b"1"})
    for _ in range(2):
        (drop / "b.tar.done").touch()
        until(lambda: not (drop / "b.tar.done").exists())
        until(lambda: settled(site))
    write_bundle(drop / "b.tar", {"data/2": b"2"})
    time.sleep(STALL)
    assert len(site.jobs()) == 1
    (drop / "b.tar.done").touch()
    until(lambda: settled(site, 2))
    assert site.contents() == {"data/1": b"1", "data/2": b"2"}

"""``ingest watch`` for a long time: what it says at its start, what it costs, and where the kernel is no help."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.watch.lock import FolderLock

from ..support.bundles import document_for, write_bundle
from ..support.command import Command, untimed
from ..support.forks import Running
from ..support.site import Site
from ..support.waiting import PATIENCE, until
from ..support.watching import fill_with_ingested, seconds_of, settled, without_inotify

SEE_SECONDS = 2.0
SETTLE = 0.3


def log(tmp_path: Path) -> list[str]:
    return untimed((tmp_path / "log").read_text())


# What it says.


def test_it_says_what_it_watches_and_by_which_rules(
    watching: Callable[..., Running], drop: Path, tmp_path: Path
) -> None:
    (tmp_path / "done").mkdir()
    watching("--pattern", "*.tar", "--done", tmp_path / "done", "--scan", 30)
    until(lambda: len(log(tmp_path)) == 2)
    assert log(tmp_path) == [
        f"ingest: watching {drop} for files named *.tar",
        "ingest: each is taken once it is renamed into place or unchanged for 0.6 s, with 60 s more while it does not"
        f" look whole; ingested ones are moved to {tmp_path / 'done'}, failed ones stay; all is looked at every 30 s",
    ]


def test_quiet_says_nothing_at_the_start(watching: Callable[..., Running], drop: Path, tmp_path: Path) -> None:
    watching("--quiet")
    (drop / "notes.txt").touch()
    write_bad_bundle(drop / "bad.tar")
    until(lambda: any("bad.tar" in line for line in log(tmp_path)))
    assert len(log(tmp_path)) == 1


def write_bad_bundle(path: Path) -> None:
    """One that is whole, and fails nevertheless."""
    write_bundle(path, {"data/b": b"b"}, document_for({"data/b": b"c"}))


# Folders.


def test_folders_that_are_missing_or_locked_are_waited_for(
    starting: Callable[..., Running], drop: Path, site: Site, tmp_path: Path
) -> None:
    locked, missing = tmp_path / "locked", tmp_path / "missing"
    locked.mkdir()
    lock = FolderLock(locked, site.settings.spool)
    with (tmp_path / "log").open("wb") as output:
        starting("watch", "--settle", SETTLE, missing, locked, drop, output=output)
    write_bundle(drop / "a.tar", {"data/a": b"a"})
    write_bundle(locked / "b.tar", {"data/b": b"b"})
    until(lambda: settled(site))
    assert site.contents() == {"data/a": b"a"}
    lock.release()
    until(lambda: settled(site, 2))
    missing.mkdir()
    write_bundle(missing / "c.tar", {"data/c": b"c"})
    until(lambda: settled(site, 3))
    said = log(tmp_path)
    assert sum("is already watched by" in line for line in said) == 1
    assert sum(f"cannot watch {missing}: No such file" in line for line in said) == 1


def test_where_no_folder_can_be_watched_it_ends(command: Command, tmp_path: Path) -> None:
    done = command("watch", tmp_path / "missing", tmp_path / "lost")
    assert done.returncode == ExitCode.FAILED
    assert f"cannot watch {tmp_path / 'missing'}: No such file" in done.stderr


# The kernel.


@pytest.mark.sweep
def test_without_file_system_events_it_polls(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    """All that the kernel has for this user are used up; how often to scan does not matter then."""
    line = without_inotify(command.line("watch", "--settle", SETTLE, "--scan", 600, drop))
    with (tmp_path / "log").open("wb") as output:
        watcher = subprocess.Popen(line, stdout=output, stderr=output)
    try:
        until(lambda: len(log(tmp_path)) == 3)
        assert "no file system events (" in log(tmp_path)[0]
        assert "they are read every 2 s" in log(tmp_path)[2]
        for number in range(3):
            write_bundle(drop / f"{number}.tar", {f"data/{number}": b"x"})
            begun = time.monotonic()
            until(lambda number=number: settled(site, number + 1))  # type: ignore[misc]
            assert time.monotonic() - begun < SEE_SECONDS + SETTLE + 10
    finally:
        watcher.terminate()
        watcher.wait(PATIENCE)


# What is new, and what it costs.


@pytest.mark.sweep
@pytest.mark.parametrize("poll", [(), ("--poll",)], ids=["events", "polling"])
def test_what_stays_costs_nothing_and_what_is_new_is_seen(
    starting: Callable[..., Running], drop: Path, site: Site, poll: tuple[str, ...]
) -> None:
    count = 20_000
    fill_with_ingested(drop, count)
    (drop / "part.tar").write_bytes(bytes(1000))
    words = ("--quiet", "--settle", SETTLE, "--patience", 10 * PATIENCE, "--scan", 600)
    process = starting("watch", drop, *words, *poll)
    write_bundle(drop / "a.tar", {"data/a": b"a"})
    until(lambda: site.recorded() == {"data/a": b"a"})
    begun, used = time.monotonic(), seconds_of(process.pid)
    write_bad_bundle(drop / "bad.tar")
    until(lambda: (drop / "bad.tar.error.json").exists())
    write_bundle(drop / "bad.tar", {"data/b": b"b"})
    until(lambda: "data/b" in site.recorded())
    until(lambda: time.monotonic() - begun > 12)  # what other work costs a busy machine weighs little by then
    assert (seconds_of(process.pid) - used) / (time.monotonic() - begun) < 0.2

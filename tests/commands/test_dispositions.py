"""What becomes of the files in a drop folder, whatever they are called and whatever stands in the way.

Every byte that was given is in the archive or on a disk, nothing outside of the given folders is touched, whatever
failed is explained, and no file keeps another one from its turn.
"""

import json
import os
import random
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ..support.bundles import document_for, write_bundle
from ..support.command import Command
from ..support.site import Site

LETTERS = ["a", "B", "7", "ü", "ゆ", "🦉", " ", "\n", "\x1b", "'", '"', "\\", "*", ".", "-"]
NO_TEXT = os.fsdecode(b"\xff")
ENDS = ["", ".tar", ".error.json", ".part", ".1"]
WAYS = [(), ("--done", "done", "--failed", "failed"), ("--delete",), ("--delete", "--failed", "failed")]


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    for name in ("drop", "done", "failed", "outside"):
        (tmp_path / name).mkdir()
    return tmp_path / "drop"


def once(command: Command, drop: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return command("watch", "--once", "--settle", 0, "--patience", 0, drop, *words)


def looks(folder: Path) -> dict[str, object]:
    """All that lies in a folder: of what kind it is, and what is in it."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        kind = path.readlink() if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else None
        found[str(path.relative_to(folder))] = (stat.S_IFMT(mode), kind)
    return {name: look for name, look in found.items() if not name.endswith(".ingest-watch.lock")}


def unchanged(found: dict[str, object]) -> dict[str, object]:
    """What does not change where nothing is done: all but the databases."""
    return {name: look for name, look in found.items() if not name.startswith("data/")}


def explanations_in(folder: Path) -> list[str]:
    """The names of the files that are explained there."""
    stories = [path.read_bytes() for path in files_in(folder) if path.name.endswith(".error.json")]
    return sorted(json.loads(story)["file"] for story in stories if story.startswith(b"{"))


def files_in(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.iterdir() if stat.S_ISREG(path.lstat().st_mode))


# Cases that a generator makes.


@dataclass
class Given:
    """Files dropped with names, contents and obstacles of all kinds."""

    folder: Path
    choice: random.Random
    kept: list[bytes] = field(default_factory=list)  # whose bytes are in no archive
    explained: list[str] = field(default_factory=list)
    archived: dict[str, bytes] = field(default_factory=dict)
    obstacles: list[Path] = field(default_factory=list)

    def drop(self, number: int) -> None:
        """Drop one more file."""
        name = self._name(number)
        path = self.folder / "drop" / name
        how = self.choice.choice([self._whole, self._whole, self._unlisted, self._trailing, self._broken, self._twice])
        if name.startswith(".") or name.endswith((".error.json", ".part")):
            self._broken(path, number)
            self.explained.pop()
        elif NO_TEXT in name:
            self._broken(path, number)
        else:
            how(path, number)
        for place in ("drop/{}.error.json", "done/{}", "done/{}.1", "failed/{}", "failed/{}.1", "failed/{}.error.json"):
            self._obstruct(self.folder / place.format(name))

    def _name(self, number: int) -> str:
        length = self.choice.choice([1, 5, 100, 236, 240, 244, 245, 250, 255])
        name, end = f"{number}{NO_TEXT if number % 10 == 0 else ''}", self.choice.choice(ENDS)
        while (missing := length - len(os.fsencode(name + end))) > 0:
            letter = self.choice.choice(LETTERS)
            letter = letter if len(letter.encode()) <= missing else "x"
            name = letter + name if self.choice.random() < 0.5 else name + letter
        return name + end

    def _whole(self, path: Path, number: int) -> None:
        files = {f"data/{number}": b"%d" % number}
        write_bundle(path, files)
        self.archived |= files

    def _unlisted(self, path: Path, number: int) -> None:
        files = {f"data/{number}": b"%d" % number}
        write_bundle(path, {**files, "data/unlisted": b"%d" % number}, document_for(files))
        self.archived |= files
        self.kept.append(path.read_bytes())

    def _trailing(self, path: Path, number: int) -> None:
        self._whole(path, number)
        path.write_bytes(path.read_bytes() + bytes(1000) + b"behind")
        self.kept.append(path.read_bytes())

    def _broken(self, path: Path, number: int) -> None:
        path.write_bytes(b"no tar, %d" % number)
        self.kept.append(path.read_bytes())
        self.explained.append(os.fsencode(path.name).decode(errors="replace"))

    def _twice(self, path: Path, number: int) -> None:
        """The document of a bundle that was ingested before, with other bytes."""
        write_bundle(path, {"data/before": b"%06d" % number}, document_for({"data/before": b"before"}))
        self.kept.append(path.read_bytes())

    def _obstruct(self, path: Path) -> None:
        outside = self.folder / "outside" / "precious"
        ways: list[Callable[[], object]] = [
            path.mkdir,
            lambda: path.symlink_to(outside),
            lambda: path.symlink_to("nowhere"),
            lambda: os.mkfifo(path),
            lambda: path.write_bytes(b"[" * 5000),
            lambda: path.hardlink_to(outside),
        ]
        if self.choice.random() < 0.2 and len(os.fsencode(path.name)) <= 255 and not os.path.lexists(path):
            self.choice.choice(ways)()
            self.obstacles.append(path)


def given(folder: Path, site: Site, seed: int, count: int) -> Given:
    (folder / "outside" / "precious").write_text("precious")
    site.ingest(write_bundle(folder / "outside" / "before.tar", {"data/before": b"before"}))
    dropped = Given(folder, random.Random(seed))
    for number in range(100, 100 + count):
        dropped.drop(number)
    return dropped


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way) or "left")
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(2, 30))])
def test_nothing_is_lost_and_nothing_else_touched(
    command: Command, site: Site, drop: Path, tmp_path: Path, way: tuple[str, ...], seed: int
) -> None:
    dropped = given(tmp_path, site, seed, 60)
    outside, before = looks(tmp_path / "outside"), looks(tmp_path)
    done = once(command, drop, "--pattern", "*", *way)
    assert "Traceback" not in done.stderr
    assert done.returncode == 3, done.stderr
    after = looks(tmp_path)
    assert looks(tmp_path / "outside") == outside
    for path in dropped.obstacles:
        name = str(path.relative_to(tmp_path))
        assert after.get(name) == before[name]
    on_disk = [path.read_bytes() for path in files_in(drop, tmp_path / "done", tmp_path / "failed")]
    assert not set(dropped.kept) - set(on_disk), "what is in no archive is still there"
    assert site.contents() == {"data/before": b"before", **dropped.archived}
    explained = explanations_in(tmp_path / "failed" if "--failed" in way else drop)
    assert set(dropped.explained) <= set(explained)
    assert len(explained) == len(set(explained))
    assert not [name for name in after if ".ingest-" in name]
    again = once(command, drop, "--pattern", "*", *way)
    assert unchanged(looks(tmp_path)) == unchanged(after)
    assert not again.stdout

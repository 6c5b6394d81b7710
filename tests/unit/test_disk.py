"""Files that appear whole under their names, whatever stands there and whatever the name is."""

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_cli import disk
from ingest_cli.copying import copy_to
from ingest_cli.disk import durable_write, fitting, new_at, opened, rename_new, require_free
from ingest_cli.errors import ResourceUnavailable, SourceError

LETTERS = ["a", "ü", "ゆ", "🦉", "\n", os.fsdecode(b"\x80"), os.fsdecode(b"\xff"), os.fsdecode(b"\xc3")]
OBSTACLES: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("precious"),
    "link": lambda path: path.symlink_to("elsewhere"),
    "folder": lambda path: path.mkdir(),
    "FIFO": os.mkfifo,
}


def look(path: Path) -> tuple[int, int, bytes]:
    found = path.lstat()
    return found.st_ino, found.st_mode, path.read_bytes() if stat.S_ISREG(found.st_mode) else b""


def has_no_way_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_library", object)


def has_no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "this file system has no hard links")

    has_no_way_in_one_step(monkeypatch)
    monkeypatch.setattr(os, "link", refuse)


SYSTEMS: list[Callable[[pytest.MonkeyPatch], None]] = [lambda _: None, has_no_way_in_one_step, has_no_links]


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("system", SYSTEMS, ids=["Linux", "another", "no links"])
def test_renaming_takes_the_place_of_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    obstacle: str,
    is_folder: bool,
    system: Callable[[object], None],
) -> None:
    system(monkeypatch)
    kept, place = tmp_path / "kept", tmp_path / "place"
    kept.mkdir() if is_folder else kept.write_text("kept")
    OBSTACLES[obstacle](place)
    before = look(place)
    with opened(tmp_path) as folder, pytest.raises(FileExistsError):
        rename_new("kept", place, folder)
    assert look(place) == before
    assert kept.exists()


@pytest.mark.parametrize("system", SYSTEMS, ids=["Linux", "another", "no links"])
def test_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: Callable[[object], None]) -> None:
    system(monkeypatch)
    (tmp_path / "file").write_text("file")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("inside")
    for name in ("file", "link", "folder"):
        before = look(tmp_path / name)
        rename_new(tmp_path / name, tmp_path / f"{name} 2")
        assert not os.path.lexists(tmp_path / name)
        assert look(tmp_path / f"{name} 2") == before
    with pytest.raises(OSError, match="No such file"):
        rename_new(tmp_path / "file 2", tmp_path / "none" / "file")
    assert (tmp_path / "file 2").read_text() == "file"


def test_what_cannot_be_renamed_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "it is someone else's")

    (tmp_path / "file").write_text("file")
    has_no_links(monkeypatch)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        rename_new(tmp_path / "file", tmp_path / "place")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_is_not_copied_from(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "kept").symlink_to("secret")
    with pytest.raises(OSError, match="symbolic links"):
        copy_to(tmp_path / "place", tmp_path / "kept")
    assert not os.path.lexists(tmp_path / "place")


@pytest.mark.parametrize("suffix", ["", ".1", ".error.json"])
def test_a_name_that_fits(tmp_path: Path, suffix: str) -> None:
    """Of whatever letters and bytes: it is one that a file can have, and as it was where that can be."""
    choice = random.Random(suffix)
    for _ in range(300):
        name = "".join(choice.choices(LETTERS, k=choice.randrange(1, 300)))
        fits = fitting(name, suffix, tmp_path)
        (tmp_path / fits).touch()
        assert fits.endswith(suffix)
        kept, whole = os.fsencode(fits.removesuffix(suffix)), os.fsencode(name)
        assert whole.startswith(kept)
        assert kept == whole if len(whole) + len(suffix) <= 255 else len(kept) + len(suffix) >= 252


def test_a_new_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for name, why in (("x" * 300, "File name too long"), ("there", "already exists")):
        (tmp_path / "there").touch()
        with pytest.raises(SourceError, match=why), new_at(tmp_path / name):
            pytest.fail("it was begun")
    with pytest.raises(SourceError, match="No such file"), new_at(tmp_path / ("y" * 255)) as aside:
        aside.rename(tmp_path / "none" / "y")
    with new_at(tmp_path / ("z" * 255)) as aside:
        aside.mkdir()
        aside.rename(tmp_path / ("z" * 255))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "z" * 255]


def test_what_passes_is_said_to_pass(tmp_path: Path) -> None:
    def fill_the_disk() -> None:
        with new_at(tmp_path / "new") as aside:
            aside.mkdir()
            (aside / "half").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceUnavailable, match=r"cannot write .*: No space left"):
        fill_the_disk()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_planted_file_is_neither_written_nor_followed(tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    place = tmp_path / "place"
    OBSTACLES[obstacle](place)
    before = look(place)
    with pytest.raises(FileExistsError), durable_write(place) as file:
        file.write(b"new")
    with pytest.raises(FileExistsError):
        require_free(place)
    assert look(place) == before
    if obstacle != "folder":
        with durable_write(place, replace=True) as file:
            file.write(b"new")
        assert place.read_text() == "new"
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "place"}

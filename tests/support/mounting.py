"""Disks that come and go: a folder whose content is seen at a mount point, or is not."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from .power_disk import DiskUnavailable, mounts_of_our_own

FORMATTED = {"ext4": ["-F", "-m", "0"], "xfs": ["-f"], "btrfs": ["-f"]}


class Disk:
    """A disk that keeps what is written to it, and is mounted at ``place``; ``content`` is what is on it."""

    def __init__(self, content: Path, place: Path) -> None:
        self.content, self.place = content, place
        for folder in (content, place):
            folder.mkdir(parents=True, exist_ok=True)

    def mount(self) -> None:
        _run("mount", "--bind", self.content, self.place)

    def unmount(self) -> None:
        """At once, as a share goes away under those that use it."""
        _run("umount", "-l", self.place)

    def leaves_nothing(self) -> bool:
        """Whether nothing lies below the mount point, which has no disk now."""
        assert self.content.stat().st_ino != self.place.stat().st_ino
        return not any(self.place.iterdir())


@contextmanager
def mounting() -> Iterator[None]:
    """Mounts of this block, which nobody else sees. Skips where none can be made."""
    try:
        with mounts_of_our_own():
            yield
    except DiskUnavailable as reason:
        pytest.skip(str(reason))


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """An empty disk of this size, mounted at ``place`` for everyone. Skips where it cannot be."""
    with _mounted(place, "-t", "tmpfs", "-o", f"size={size}", "none"):
        yield


@contextmanager
def formatted_disk(image: Path, place: Path, megabytes: int, kind: str = "ext4", *words: str) -> Iterator[None]:
    """An empty disk of this size, of which an ext4 keeps nothing for root. Skips where there is none."""
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    try:
        _run(f"mkfs.{kind}", "-q", *FORMATTED[kind], *words, image)
    except (FileNotFoundError, DiskUnavailable) as reason:
        pytest.skip(f"no {kind} can be made: {reason}")
    with _mounted(place, "-o", "loop", image):
        yield


@contextmanager
def _mounted(place: Path, *words: object) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    try:
        _run("mount", *words, place)
    except DiskUnavailable as reason:
        pytest.skip(f"a disk cannot be mounted here: {reason}")
    try:
        yield
    finally:
        _run("umount", "-l", place)


def fill(disk: Path, leaving: int = 0) -> Path:
    """Fill the disk but for so many bytes; the file that does so."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leaving) > 0:
            file.write(bytes(min(free, 1 << 20)))
    return ballast


def _run(*words: object) -> None:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    if done.returncode != 0:
        raise DiskUnavailable(f"{words[0]}: {done.stderr.strip()}")

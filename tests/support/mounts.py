"""Disks that are mounted for a test."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

Mount = Callable[..., None]


@contextmanager
def mounting() -> Iterator[Mount]:
    """Mounts something at a folder, by the words of mount(8); what is still mounted at the end is unmounted."""
    mounted: list[Path] = []

    def mount(folder: Path, *words: object) -> None:
        folder.mkdir(exist_ok=True)
        if subprocess.run(["mount", *map(str, words), folder], capture_output=True).returncode != 0:
            pytest.skip("a disk cannot be mounted here")
        mounted.append(folder)

    try:
        yield mount
    finally:
        for folder in mounted:
            subprocess.run(["umount", "-l", folder], capture_output=True)

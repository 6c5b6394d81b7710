"""What is read through a window is what is in the file, and little else is read."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_cli.bundle.window import LARGEST, SMALLEST, Window

CONTENT = random.Random(1).randbytes(3 * LARGEST)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(CONTENT)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("seed", range(20))
def test_any_part_is_what_is_there(descriptor: int, seed: int) -> None:
    chance = random.Random(seed)
    window = Window(descriptor, chance.choice([1, 700, SMALLEST, LARGEST]))
    position = 0
    for _ in range(200):
        length = chance.choice([0, 1, 512, 5000, 100_000])
        assert window.read(position, length) == CONTENT[position : position + length]
        position += chance.choice([length, length, 512, -length, 200_000])
        position = max(0, min(position, len(CONTENT)))


def asked_for(descriptor: int, step: int) -> list[int]:
    """How many bytes the system is asked for each time, where the first 512 of every ``step`` are read."""
    asked: list[int] = []
    pread = os.pread

    def noted(of: int, length: int, position: int) -> bytes:
        asked.append(length)
        return pread(of, length, position)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", noted)
        window = Window(descriptor)
        for position in range(0, len(CONTENT), step):
            window.read(position, 512)
    return asked


@pytest.mark.parametrize("step", [512, 1536, 4096])
def test_what_lies_close_together_is_read_together(descriptor: int, step: int) -> None:
    assert len(asked_for(descriptor, step)) < 20


def test_what_is_passed_over_is_not_read(descriptor: int) -> None:
    assert max(asked_for(descriptor, 1 << 16)) <= 2 * SMALLEST

"""Bundles of up to a million files, of a few bytes each: a file is to take as long as in a small bundle, and memory to
stay below 300 MiB."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..support.bundles import file_record, transaction
from .bundles import unpack
from .cases import MIB, Case, own, ran

COUNTS = {20_000: 3, 300_000: 1, 1_000_000: 1}
FILES_A_FOLDER = 1000
MTIME = 1480428545


def cases(folder: Path) -> Iterator[Case]:
    for count, rounds in COUNTS.items():
        bundle = write_many(folder / f"{count}", count)
        yield Case(
            f"{count:,} files of 0 to 16 bytes",
            own(bundle),
            {"tar + sha1sum": lambda place, bundle=bundle: ran(unpack(bundle, place))},  # type: ignore[misc]
            rounds=rounds,
            per=count,
        )


def write_many(folder: Path, count: int) -> Path:
    """A bundle of so many files that were never on a disk; beside it ``sums`` for sha1sum."""
    folder.mkdir()
    bundle, metadata = folder / "bundle.tar", folder / "metadata.txt"
    with (
        bundle.open("wb", MIB) as tar,
        metadata.open("w", MIB) as document,
        (folder / "sums").open("w", MIB) as sums,
    ):
        document.write(json.dumps(transaction())[:-1])
        for number in range(count):
            path, content = (
                f"data/{number // FILES_A_FOLDER:04}/{number:07}.bin",
                f"{number:016}"[: number % 17].encode(),
            )
            _add(tar, path, content)
            document.write(f", {json.dumps(file_record(path, content))}")
            sums.write(f"{hashlib.sha1(content).hexdigest()}  {path}\n")
        document.write("]")
        document.flush()
        _add(tar, metadata.name, metadata.read_bytes())
        tar.write(bytes(1024))
    return bundle


def _add(tar: IO[bytes], name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), MTIME
    tar.write(info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE))

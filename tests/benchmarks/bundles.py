"""Bundles of random files for comparisons, which lie beside them as folders."""

import json
import os
import subprocess
from pathlib import Path

from ..support.bundles import file_record, transaction
from .cases import MIB


def small_files(count: int, size: int) -> dict[str, int]:
    """So many files of one size, a hundred folders of them."""
    return {f"{number % 100:02}/{number:07}.bin": size for number in range(count)}


def make_bundle(folder: Path, sizes: dict[str, int]) -> Path:
    """A bundle of random files, made by tar; beside it ``data`` and, for sha1sum, ``sums``."""
    for name, size in sizes.items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for start in range(0, size, MIB):
                file.write(os.urandom(min(size - start, MIB)))
    paths = [f"data/{name}" for name in sizes]
    sums = subprocess.run(["xargs", "sha1sum"], input="\n".join(paths), cwd=folder, text=True, capture_output=True)
    (folder / "sums").write_text(sums.stdout)
    records = [
        file_record(path, b"", size=size, hashsum=line.split()[0])
        for path, size, line in zip(paths, sizes.values(), sums.stdout.splitlines(), strict=True)
    ]
    (folder / "metadata.txt").write_text(json.dumps(transaction() + records))
    subprocess.run(["tar", "-cf", "bundle.tar", "data", "metadata.txt"], cwd=folder, check=True)
    return folder / "bundle.tar"


def unpack(bundle: Path, place: Path) -> list[list[str | Path]]:
    """The commands that unpack it there, and check every file."""
    sums = bundle.with_name("sums")
    return [["tar", "-xf", bundle, "-C", place], ["sh", "-c", f"cd {place} && sha1sum --quiet -c {sums}"]]

"""How soon a bundle that is renamed into a drop folder is complete, and how many a second:
python -m tests.benchmarks.watch

The first by native events and by polling, the median of ten; the second for 1,000 bundles with one worker and two.
"""

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from ingest_cli.jobs.store import open_store
from ingest_cli.settings import load_settings

from ..support.bundles import write_bundle
from ..support.command import Command

ROUNDS, MANY = 10, 1000


def complete() -> int:
    with open_store(load_settings()) as store:
        return store.tallies()["complete"][0]


def until(database: Path, count: int) -> None:
    while not database.exists() or complete() < count:
        time.sleep(0.005)


def watch(folder: Path, *words: object) -> "subprocess.Popen[bytes]":
    (folder / "drop").mkdir()
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    process = subprocess.Popen(Command.line("watch", folder / "drop", "--quiet", *words))
    while not (folder / "drop" / ".ingest-watch.lock").exists():
        time.sleep(0.01)
    time.sleep(1)
    return process


def seconds_for_one(folder: Path, *words: object) -> float:
    process = watch(folder, *words)
    database, took = load_settings().database, []
    for number in range(ROUNDS):
        bundle = write_bundle(folder / f"{number}.tar", {f"data/{number}": b"x" * 1000})
        begun = time.monotonic()
        bundle.rename(folder / "drop" / bundle.name)
        until(database, number + 1)
        took.append(time.monotonic() - begun)
    process.terminate()
    process.wait()
    return statistics.median(took)


def bundles_a_second(folder: Path, workers: int) -> float:
    for number in range(MANY):
        write_bundle(folder / f"{number}.tar", {f"data/{number}": b"x" * 1000})
    process = watch(folder, "--workers", workers)
    database = load_settings().database
    begun = time.monotonic()
    for number in range(MANY):
        (folder / f"{number}.tar").rename(folder / "drop" / f"{number}.tar")
    while not database.exists() or complete() < MANY:
        time.sleep(0.1)
    took = time.monotonic() - begun
    process.terminate()
    process.wait()
    return MANY / took


def main() -> None:
    for name, words in {"native": [], "polling, settle 1 s": ["--poll", "--settle", 1]}.items():
        with tempfile.TemporaryDirectory() as folder:
            print(f"{name}: {seconds_for_one(Path(folder), *words):.2f} s", flush=True)
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            print(f"{workers} workers: {bundles_a_second(Path(folder), workers):.0f} bundles a second", flush=True)


if __name__ == "__main__":
    main()

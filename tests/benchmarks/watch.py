"""How soon a bundle that is renamed into a drop folder is complete, how many a second, and what a full folder costs:
python -m tests.benchmarks.watch

The first by native events and by polling, the median of ten; the second for 1,000 bundles with one worker and two. The
last with 100,000 ingested files that stay, and one that is not whole: how much of a core all processes of the watcher
take together, over two minutes, and after how long the latest of ten new files is a job, less the time to settle.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest_cli.jobs.store import open_store
from ingest_cli.settings import load_settings

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.site import file_of
from ..support.watching import fill_with_ingested, seconds_of

ROUNDS, MANY, STAYING = 10, 1000, 100_000
SETTLE, WINDOW = 0.5, 120.0


def complete() -> int:
    with open_store(load_settings()) as store:
        return store.tallies()["complete"][0]


def until(database: Path, count: int) -> None:
    while not database.exists() or complete() < count:
        time.sleep(0.005)


@contextmanager
def watching(folder: Path, *words: object) -> Iterator[int]:
    """A watcher of ``drop`` in the folder; yields its process's id."""
    (folder / "drop").mkdir(exist_ok=True)
    process = subprocess.Popen(Command.line("watch", folder / "drop", "--quiet", *words))
    try:
        while not (folder / "drop" / ".ingest-watch.lock").exists():
            time.sleep(0.01)
        time.sleep(1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_DATA_HOME"] = str(Path(name, "data"))
        yield Path(name)


def seconds_for_one(folder: Path, *words: object) -> float:
    with watching(folder, *words):
        database, took = file_of(load_settings()), []
        for number in range(ROUNDS):
            bundle = write_bundle(folder / f"{number}.tar", {f"data/{number}": b"x" * 1000})
            begun = time.monotonic()
            bundle.rename(folder / "drop" / bundle.name)
            until(database, number + 1)
            took.append(time.monotonic() - begun)
    return statistics.median(took)


def bundles_a_second(folder: Path, workers: int) -> float:
    for number in range(MANY):
        write_bundle(folder / f"{number}.tar", {f"data/{number}": b"x" * 1000})
    with watching(folder, "--workers", workers):
        database = file_of(load_settings())
        begun = time.monotonic()
        for number in range(MANY):
            (folder / f"{number}.tar").rename(folder / "drop" / f"{number}.tar")
        while not database.exists() or complete() < MANY:
            time.sleep(0.1)
        return MANY / (time.monotonic() - begun)


def share_of_a_core(pid: int) -> float:
    begun = seconds_of(pid)
    time.sleep(WINDOW)
    return (seconds_of(pid) - begun) / WINDOW


def seconds_until_seen(drop: Path) -> float:
    took = []
    for number in range(ROUNDS):
        bundle = write_bundle(drop.parent / f"new {number}.tar", {f"data/{number}": b"x"})
        time.sleep(0.37 * number)  # at any moment of what it does over and over
        copied = drop / bundle.name
        begun = time.monotonic()
        copied.write_bytes(bundle.read_bytes())
        with open_store(load_settings()) as store:
            while store.of_source(copied) is None:
                time.sleep(0.02)
        took.append(time.monotonic() - begun - SETTLE)
    return max(took)


def with_many_staying(folder: Path, *words: object) -> tuple[float, float]:
    (folder / "drop").mkdir()
    fill_with_ingested(folder / "drop", STAYING)
    (folder / "drop" / "part.tar").write_bytes(bytes(1000))
    with watching(folder, "--settle", SETTLE, "--patience", 10 * WINDOW, *words) as pid:
        time.sleep(30)  # it gets to know them
        share = share_of_a_core(pid)
        return share, seconds_until_seen(folder / "drop")


def main() -> None:
    kinds: dict[str, list[str]] = {"native": [], "polling": ["--poll"]}
    for name, words in kinds.items():
        with place() as folder:
            seconds = seconds_for_one(folder, "--settle", 1, *words)
            print(f"{name}, settle 1 s: {seconds:.2f} s", flush=True)
    for workers in (1, 2):
        with place() as folder:
            print(f"{workers} workers: {bundles_a_second(folder, workers):.0f} bundles a second", flush=True)
    for name, words in kinds.items():
        with place() as folder:
            share, latest = with_many_staying(folder, *words)
            print(f"{name}, {STAYING:,} stay: {100 * share:.1f} % of a core, seen in {latest:.2f} s", flush=True)


if __name__ == "__main__":
    main()

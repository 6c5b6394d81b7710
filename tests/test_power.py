"""The power goes, at any write to the disk: what was reported holds, and the same command finishes what was not.

The whole site lies on one disk, its bundles and sources too. Each kind of work is recorded once; then the disk is
rebuilt as of some of its writes, and of those at which something had just been reported. INGEST_TEST_STEPS and
INGEST_TEST_SEED say how many and which, as for the other faults. With a neighbour that has the disk synced now and then,
each half of the work reaches the disk without the other; without one, only what ingest itself has synced is there.
"""

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from shutil import copy

import pytest

from .bundles import Record, document_for, write_bundle
from .conftest import Command
from .power_disk import FILE_SYSTEMS, KEEPS, NONE, SOME, Disk, DiskUnavailable, format_disk, mounts_of_our_own
from .serving import Server
from .stepping import Order, Outcome, Stepper
from .trials import SEED, STEPS, Tally, sample

# None is so short that a file system keeps it beside its name.
SIZES = {"data/first": 5000, "data/sub/second": 70_000, **{f"data/sub/{number}": 9000 for number in range(10)}}
FILES = {path: hashlib.shake_256(path.encode()).digest(size) for path, size in SIZES.items()}
CONTENTS = set(FILES.values())
DOWN = {"METADATA_INGEST_URL": "http://127.0.0.1:9/ingest"}
ALONE, NEIGHBOUR = "alone", "beside a neighbour"


class Scene(ABC):
    """Work that is done on a disk: its preparation, which is synced, then the work with what it ``reports``."""

    def __init__(self, disk: Disk, stepper: Stepper, log: Path) -> None:
        self.disk, self._stepper, self.log = disk, stepper, log
        self.folder, self.reports = disk.place, dict[str, int]()
        site = self.site = self.folder / "site"
        self.archive, self.catalog = site / "archive", site / "catalog.sqlite3"
        self.databases = [site / "jobs.sqlite3", site / "ids.sqlite3", self.catalog]
        self.environment = {
            "HOME": str(self.folder / "home"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "INGEST_DB": str(self.databases[0]),
            "UNIQUEID_URL": self.databases[1].as_uri(),
            "METADATA_INGEST_URL": self.catalog.as_uri(),
            "ARCHIVEINTERFACE_URL": self.archive.as_uri(),
            "VOLUME_PATH": str(site / "spool"),
        }

    @abstractmethod
    def prepare(self) -> None:
        """What is on the platter when the work begins."""

    @abstractmethod
    def work(self) -> None:
        """What the power is cut in."""

    @abstractmethod
    def check(self, reported: set[str]) -> None:
        """What must hold after a boot, ``reported`` having been told."""

    def report(self, claim: str) -> None:
        self.reports[claim] = self.disk.now()

    def watched(self, claim: str, *words: str) -> None:
        """Run a command line whose last line on standard output is a report."""
        line, pipe = Command.line(*words), subprocess.PIPE
        with subprocess.Popen(line, stdout=pipe, stderr=pipe, env={**os.environ, **self.environment}) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            # What the process does once it has said so must not count: it closes its databases, which syncs them.
            for _ in process.stdout:
                self.report(claim)
            said = process.stderr.read().decode()
        assert process.returncode == 0, said
        assert claim in self.reports, "it said nothing"

    def ingest(self, *words: str, status: int = 0, **environment: str) -> Outcome:
        """Run a command line to its end, of which nothing is recorded."""
        order = Order(words=list(words), folder="/", environment={**self.environment, **environment})
        outcome = self._stepper(order)
        assert outcome.status == status, f"{words[0]} exits with {outcome.status}: {outcome.stdout}{outcome.stderr}"
        return outcome

    def archived(self) -> dict[int, bytes]:
        """What the archive holds, by the ids that the files' names say; nothing may be called otherwise."""
        return {int(path.name.removeprefix("file."), 16): path.read_bytes() for path in self._in_archive()}

    def _in_archive(self) -> list[Path]:
        return [path for path in self.archive.rglob("*") if path.is_file()]

    def rows(self, table: str) -> list[Record]:
        with closing(sqlite3.connect(self.catalog)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]

    def assert_databases_whole(self, scratch: Path) -> None:
        """Copies of them are looked at: to open a database is to change it."""
        for database in self.databases:
            for path in database.parent.glob(f"{database.name}*"):
                copy(path, scratch)
            if (looked_at := scratch / database.name).exists():
                with closing(sqlite3.connect(looked_at)) as connection:
                    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], database.name
            for path in scratch.glob(f"{database.name}*"):
                path.unlink()

    def assert_ingested(self) -> None:
        """One job is complete, and archive and catalog hold what it is of, once and nothing else."""
        (transaction,) = self.rows("Transactions")
        assert json.loads(self.ingest("state", str(transaction["id"]), "--json").stdout)["complete"] is True
        archived = self.archived()
        files = {"/".join(filter(None, ["data", row["subdir"], row["name"]])): row for row in self.rows("Files")}
        assert sorted(row["id"] for row in files.values()) == sorted(archived), "no orphans, nothing missing"
        wrong = [path for path, row in files.items() if archived[row["id"]] != FILES[path]]
        assert not wrong, f"under a complete job these are not what was given: {wrong}"
        assert sorted(files) == sorted(FILES)
        assert {row["transaction"] for row in files.values()} == {transaction["id"]}
        self.ingest("verify", "--all")

    def assert_discarded(self) -> None:
        """Neither archive nor catalog holds anything."""
        state = json.loads(self.ingest("state", "1", "--json").stdout)
        assert (state["state"], state["complete"]) == ("FAILED", False)
        assert self._in_archive() == []
        assert not self.catalog.exists() or not self.rows("Transactions") + self.rows("Files")
        self.ingest("verify", "--all")


class Ingest(Scene):
    def prepare(self) -> None:
        self.bundle = str(write_bundle(self.folder / "b.tar", FILES))

    def work(self) -> None:
        self.watched("complete", self.bundle)

    def check(self, reported: set[str]) -> None:
        if "complete" not in reported:
            self.ingest(self.bundle)
        self.assert_ingested()


class IngestDiscarded(Ingest):
    def prepare(self) -> None:
        super().prepare()
        self.ingest(self.bundle, status=4, **DOWN)

    def work(self) -> None:
        self.watched("discarded", "discard", "1")

    def check(self, reported: set[str]) -> None:
        if "discarded" not in reported:
            self.ingest("discard", "1")
        self.assert_discarded()


class Sources:
    """Files on the disk that are to be moved, of which every other one is synced from the beginning."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "instrument"
        self.paths = {path: self._folder / path.replace("/", " ") for path in FILES}
        self._synced = set(list(FILES)[::2])
        self.document = folder / "move.json"

    def write_synced(self) -> None:
        self._folder.mkdir()
        records = document_for(FILES)
        for record, source in zip(records[-len(FILES) :], self.paths.values(), strict=True):
            record["source"] = str(source)
        self.document.write_text(json.dumps(records))
        for path in self._synced:
            self.paths[path].write_bytes(FILES[path])

    def write_unsynced(self) -> None:
        for path in FILES.keys() - self._synced:
            self.paths[path].write_bytes(FILES[path])

    def make_good(self, archived: list[bytes]) -> None:
        """Write once more what was lost before ingest could know of it, as an instrument's owner does.

        What is in the archive ingest has taken, and answers for: where that is damaged, nothing is made good.
        """
        damaged = [content for content in archived if content not in CONTENTS]
        for path, source in self.paths.items():
            if FILES[path] in archived or (source.exists() and source.read_bytes() == FILES[path]):
                continue
            assert path not in self._synced, f"{path} was synced, and is lost"
            if source.exists() or not damaged:
                source.write_bytes(FILES[path])

    def assert_back(self) -> None:
        wrong = [
            path for path, source in self.paths.items() if not source.exists() or source.read_bytes() != FILES[path]
        ]
        assert not wrong, f"not back, or not what they were: {wrong}"
        assert len(list(self._folder.iterdir())) == len(FILES)

    def assert_gone(self) -> None:
        assert list(self._folder.iterdir()) == []


class Move(Scene):
    def prepare(self) -> None:
        self.sources = Sources(self.folder)
        self.words = ("move", str(self.sources.document))
        self.sources.write_synced()

    def work(self) -> None:
        self.sources.write_unsynced()
        self.watched("complete", *self.words)

    def check(self, reported: set[str]) -> None:
        if "complete" not in reported:
            self.sources.make_good([path.read_bytes() for path in self._in_archive()])
            self.ingest(*self.words)
        self.assert_ingested()
        self.sources.assert_gone()


class MoveDiscarded(Move):
    def prepare(self) -> None:
        super().prepare()
        self.sources.write_unsynced()
        self.ingest(*self.words, status=4, **DOWN)

    def work(self) -> None:
        self.watched("discarded", "discard", "1")

    def check(self, reported: set[str]) -> None:
        if "discarded" not in reported:
            self.ingest("discard", "1")
        self.assert_discarded()
        self.sources.assert_back()


class Worked(Ingest):
    """A bundle that is queued, then ingested by a worker."""

    queue, worker = ("--queue",), ("worker", "--until-empty")

    def work(self) -> None:
        self.watched("queued", *self.queue, self.bundle)
        self.watched("complete", *self.worker)

    def check(self, reported: set[str]) -> None:
        if "queued" not in reported:
            self.ingest(*self.queue, self.bundle)
        if "complete" not in reported:
            self.ingest(*self.worker)
        self.assert_ingested()


class Served(Scene):
    """A bundle that is sent to a server."""

    def prepare(self) -> None:
        # Kept elsewhere: who sends a bundle has it until it is answered for.
        self.bundle = write_bundle(self.log / "sent.tar", FILES)
        with Server(self.log):
            pass

    def work(self) -> None:
        with Server(self.log) as server:
            job_id = server.upload(self.bundle)["job_id"]
            self.report("taken")
            server.settled(job_id)
            self.report("complete")

    def check(self, reported: set[str]) -> None:
        if "complete" not in reported:
            with Server(self.log) as server:
                job_id = 1 if "taken" in reported else server.upload(self.bundle)["job_id"]
                state = server.settled(job_id)
                assert state["complete"], state
        self.assert_ingested()


SCENES: dict[str, type[Scene]] = {
    "ingest": Ingest,
    "move": Move,
    "discard": IngestDiscarded,
    "discard of a move": MoveDiscarded,
    "worker": Worked,
    "serve": Served,
}


@pytest.fixture(scope="module", autouse=True)
def own_mounts() -> Iterator[None]:
    with available(), mounts_of_our_own():
        yield


@pytest.fixture(scope="module")
def stepper(own_mounts: None) -> Iterator[Stepper]:
    with Stepper() as stepper:
        yield stepper


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An empty disk of each file system."""
    folder = tmp_path_factory.mktemp("bases")
    return cache(lambda system: format_disk(system, folder / system))


@pytest.fixture(params=FILE_SYSTEMS)
def disk(request: pytest.FixtureRequest, bases: Callable[[str], Path], tmp_path: Path) -> Iterator[Disk]:
    with available():
        disk = Disk(request.param, bases(request.param), tmp_path / "recording", tmp_path / "place")
    with disk:
        yield disk


@contextmanager
def available() -> Iterator[None]:
    try:
        yield
    except DiskUnavailable as reason:
        pytest.skip(str(reason))


def test_what_was_synced_is_there_and_what_was_not_may_be_lost(disk: Disk) -> None:
    """The disk itself: were flushes not to reach it, or were writes to do so too early, nothing below would be true."""
    content = random.Random(SEED).randbytes(50_000)
    with available(), disk.recording():
        (disk.place / "synced").write_bytes(content)
        disk.sync()
        (disk.place / "loose").write_bytes(content)
        before = disk.now()
        disk.sync()
        after = disk.now()
    assert 0 < before < after
    assert disk.loose(after) == 0
    loose: set[bytes] = set()
    for instant in range(before, after + 1):
        for keep in KEEPS:
            with disk.rebuilt(instant, keep):
                assert (disk.place / "synced").read_bytes() == content
                found = disk.place / "loose"
                loose.add(found.read_bytes() if found.exists() else b"")
    assert content in loose
    assert len(loose) > 1


@pytest.mark.parametrize("neighbour", [ALONE, NEIGHBOUR])
@pytest.mark.parametrize("kind", SCENES)
def test_the_power_goes(
    disk: Disk,
    stepper: Stepper,
    kind: str,
    neighbour: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    scene, scratch = SCENES[kind](disk, stepper, tmp_path), tmp_path / "scratch"
    scratch.mkdir()
    for variable, value in scene.environment.items():
        monkeypatch.setenv(variable, value)
    with available(), disk.recording():
        scene.prepare()
        disk.sync()
        begin = disk.now()
        with syncing(disk) if neighbour != ALONE else nullcontext():
            scene.work()
        disk.sync()
        end = disk.now()
    tally, name = Tally(), f"{disk.system}, {kind}, {neighbour}"
    for instant, keep in cuts(disk, scene, begin, end, name):
        reported = {claim for claim, told in scene.reports.items() if told <= instant}
        what = f"{name}: after event {instant} of {begin} to {end}, {disk.loose(instant)} loose, {keep} kept"
        with tally.fault(f"{what}, reported {sorted(reported)}"), disk.rebuilt(instant, keep, f"{SEED} {name}"):
            scene.assert_databases_whole(scratch)
            scene.check(reported)
    tally.close(record_property, name)


@contextmanager
def syncing(disk: Disk) -> Iterator[None]:
    """Have the disk synced now and then, as by another program."""
    done, chance = threading.Event(), random.Random(SEED)

    def sync() -> None:
        while not done.wait(chance.uniform(0, 0.01)):
            disk.sync()

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def cuts(disk: Disk, scene: Scene, begin: int, end: int, name: str) -> Iterator[tuple[int, str]]:
    """When the power goes, and what the disk then keeps of what was not flushed: always at a report, else a sample."""
    told = set(scene.reports.values())
    for number, instant in enumerate(sorted({*(begin + step for step in sample(end - begin, name)), *told})):
        keeps = KEEPS if STEPS == "all" else (NONE, SOME) if instant in told else (KEEPS[number % 3],)
        # Where nothing is loose, there is nothing to keep.
        yield from ((instant, keep) for keep in (keeps if disk.loose(instant) else (NONE,)))

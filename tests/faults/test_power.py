"""The power goes, at any write to a disk: what was reported holds, and the same command finishes what was not.

The whole site lies on disks that are recorded, its bundles and sources too. Each kind of work is recorded once; then
the disks are rebuilt as of some of the writes, and as of those at which something had just been reported.
INGEST_TEST_STEPS and INGEST_TEST_SEED say how many and which, as for the other faults.

On one disk, what ingest syncs of one thing often takes others along: so the archive is on a second one, too, where a
row can be certain and the file that it speaks of not. And so there is a neighbour, who syncs what is his or all there
is, now and then: half of what ingest does reaches the disk without the other half.
"""

import hashlib
import json
import os
import random
import re
import sqlite3
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from functools import cache
from itertools import product
from pathlib import Path
from shutil import copy

import pytest

from ..support.bundles import Record, document_for, write_bundle
from ..support.command import Command
from ..support.power_disk import FILE_SYSTEMS, KEEPS, NONE, SOME, Disks, DiskUnavailable, format_disk, mounts_of_our_own
from ..support.serving import PATIENCE, Server
from ..support.shown import is_stored
from ..support.site import is_mark
from ..support.stepping import Order, Outcome, Stepper
from ..support.trials import SEED, STEPS, Tally, sample
from ..support.tus import PARTIAL, append, checksum, create, join, offset

pytestmark = pytest.mark.sweep

# None is so short that a file system keeps it beside its name.
SIZES = {"data/first": 5000, "data/sub/second": 70_000, **{f"data/sub/{number}": 9000 for number in range(22)}}
FILES = {path: hashlib.shake_256(path.encode()).digest(size) for path, size in SIZES.items()}
CONTENTS = set(FILES.values())
DOWN = {"METADATA_INGEST_URL": "http://127.0.0.1:9/ingest"}
ID = re.compile(r"(file\.)?([0-9a-f]+)")
NEIGHBOUR, TWO = "a neighbour", "two disks"


class Scene(ABC):
    """Work that is done on disks: its preparation, which is synced, then the work with what it ``reports``."""

    # Of the sampled instants, one in so many is tried.
    stride = 1
    # What comes a second time is a second job, a duplicate.
    may_come_again = False

    def __init__(self, disks: Disks, stepper: Stepper, elsewhere: Path) -> None:
        self._disks, self._stepper, self.elsewhere = disks, stepper, elsewhere
        self.reports: dict[str, int] = {}
        # One and the same where there is one disk.
        self.folder, self.large = disks.places[0], disks.places[-1]
        site, self.archive = self.folder / "site", self.large / "archive"
        self.catalog = site / "catalog.sqlite3"
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
        self.reports[claim] = self._disks.now()

    def watched(self, claim: str, *words: str) -> None:
        """Run a command line whose last line on standard output is a report."""
        line, pipe = Command.line(*words), subprocess.PIPE
        with subprocess.Popen(line, stdout=pipe, stderr=pipe, env={**os.environ, **self.environment}) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            # A worker waits for ever for a job store that cannot be read.
            overdue = threading.Timer(PATIENCE, process.kill)
            overdue.start()
            # What the process does once it has said so must not count: it closes its databases, which syncs them.
            for _ in process.stdout:
                self.report(claim)
            said = process.stderr.read().decode()
            overdue.cancel()
        assert process.returncode == 0, said
        assert claim in self.reports, "it said nothing"

    def ingest(self, *words: str, status: int = 0, **environment: str) -> Outcome:
        """Run a command line to its end, of which nothing is recorded."""
        order = Order(words=list(words), folder="/", environment={**self.environment, **environment})
        outcome = self._stepper(order)
        assert outcome.status == status, f"{words[0]} exits with {outcome.status}: {outcome.stdout}{outcome.stderr}"
        return outcome

    def in_archive(self) -> list[Path]:
        return [path for path in self.archive.rglob("*") if path.is_file() and not is_mark(path)]

    def archived(self) -> dict[int, bytes]:
        """The archive's files by their ids. What is called otherwise may be there, but not after a job is done."""
        named = [(ID.fullmatch(path.name), path) for path in self.in_archive()]
        return {int(name[2], 16): path.read_bytes() for name, path in named if name}

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
        jobs = {job["job_id"]: job for job in json.loads(self.ingest("state", "--json").stdout)}
        assert is_stored(jobs[transaction["id"]]), jobs
        archived = self.archived()
        assert len(archived) == len(self.in_archive()), "temporary files are left in the archive"
        files = {"/".join(filter(None, ["data", row["subdir"], row["name"]])): row for row in self.rows("Files")}
        assert sorted(row["id"] for row in files.values()) == sorted(archived), "no orphans, nothing missing"
        wrong = [path for path, row in files.items() if archived[row["id"]] != FILES[path]]
        assert not wrong, f"{len(wrong)} files of a complete job are not what was given, as {wrong[0]}"
        assert sorted(files) == sorted(FILES)
        assert {row["transaction"] for row in files.values()} == {transaction["id"]}
        self.ingest("verify", "--all")
        assert len(jobs) == 1 or self.may_come_again, f"{len(jobs)} jobs of one bundle"

    def assert_discarded(self) -> None:
        """Neither archive nor catalog holds anything."""
        state = json.loads(self.ingest("state", "1", "--json").stdout)
        assert (state["state"], state["complete"]) == ("FAILED", True)
        left = len(self.in_archive())
        assert not left, f"a discarded job left {left} files in the archive"
        assert not self.catalog.exists() or not self.rows("Transactions") + self.rows("Files")
        self.ingest("verify", "--all")


class Ingest(Scene):
    """A bundle that is ingested."""

    def prepare(self) -> None:
        self.bundle = str(write_bundle(self.folder / "b.tar", FILES))

    def work(self) -> None:
        self.watched("complete", self.bundle)

    def check(self, reported: set[str]) -> None:
        if "complete" not in reported:
            self.ingest(self.bundle)
        self.assert_ingested()


class IngestSeveral(Scene):
    """Small bundles that are ingested by one command, which commits and syncs them together."""

    stride, count = 2, 12

    def prepare(self) -> None:
        self.files = {
            f"data/{number}/{name}": hashlib.shake_256(f"{number}/{name}".encode()).digest(5000)
            for number in range(self.count)
            for name in ("first", "second")
        }
        self.bundles = [
            str(
                write_bundle(
                    self.bundles_in / f"{number}.tar", {path: self.files[path] for path in self.paths_of(number)}
                )
            )
            for number in range(self.count)
        ]

    @property
    def bundles_in(self) -> Path:
        return self.folder

    @staticmethod
    def paths_of(number: int) -> list[str]:
        return [f"data/{number}/first", f"data/{number}/second"]

    def work(self) -> None:
        environment = {**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(Command.line(*self.bundles), stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                self.report(line.decode().split("/")[-1].partition(".tar")[0])
        assert process.returncode == 0
        assert len(self.reports) == len(self.bundles)

    def check(self, reported: set[str]) -> None:
        stored = self.stored() if reported else {}
        told = [path for number in reported for path in self.paths_of(int(number))]
        lost = [path for path in told if stored.get(path) != [self.files[path]]]
        assert not lost, f"{len(lost)} files of bundles that were complete are lost or wrong, as {lost[0]}"
        self.ingest(*self.bundles)
        self.assert_all_stored()

    def assert_all_stored(self) -> None:
        assert self.stored() == {path: [content] for path, content in self.files.items()}
        assert len(self.archived()) == len(self.in_archive()) == len(self.files), "no orphans, nothing missing"
        self.ingest("verify", "--all")

    def stored(self) -> dict[str, list[bytes | None]]:
        """What is stored of each path that the catalogue knows: of each once."""
        archived = self.archived()
        found: dict[str, list[bytes | None]] = {}
        for row in self.rows("Files"):
            found.setdefault(f"data/{row['subdir']}/{row['name']}", []).append(archived.get(row["id"]))
        return found


class IngestDiscarded(Ingest):
    """A discard of a bundle that is stored, but not recorded."""

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
    """Files in ``folder`` that are to be moved.

    Half of them are synced before the move begins; the others are as an instrument leaves them. In either half, each
    second file is given its length first, then its bytes: what is lost of it cannot be told by its size.
    """

    def __init__(self, folder: Path, document: Path) -> None:
        self._folder, self.document = folder, document
        self._paths = {path: folder / path.replace("/", " ") for path in FILES}
        self._synced = list(FILES)[: len(FILES) // 2]

    def write_synced(self) -> None:
        self._folder.mkdir()
        records = document_for(FILES)
        for record, source in zip(records[-len(FILES) :], self._paths.values(), strict=True):
            record["source"] = str(source)
        self.document.write_text(json.dumps(records))
        self._write(self._synced)

    def write_unsynced(self) -> None:
        self._write([path for path in FILES if path not in self._synced])

    def make_good(self, archived: list[bytes]) -> None:
        """Write once more what was lost before ingest could know of it, as who made it does.

        What is in the archive ingest has taken, and answers for: where that is damaged, nothing is made good.
        """
        missing = [path for path in FILES if FILES[path] not in archived and not self._is_right(path)]
        synced = [path for path in missing if path in self._synced]
        assert not synced, f"{len(synced)} sources that had been synced are lost, as {synced[0]}"
        if all(content in CONTENTS for content in archived):
            self._write(missing)

    def assert_right(self) -> None:
        wrong = [path for path in FILES if not self._is_right(path)]
        assert not wrong, f"{len(wrong)} sources are not back, or not what they were, as {wrong[0]}"
        assert len(self.there()) == len(FILES), "temporary files are left beside the sources"

    def there(self) -> list[Path]:
        return list(self._folder.iterdir())

    def _is_right(self, path: str) -> bool:
        source = self._paths[path]
        return source.exists() and source.read_bytes() == FILES[path]

    def _write(self, paths: list[str]) -> None:
        for number, path in enumerate(paths):
            with self._paths[path].open("wb") as file:
                if number % 2:
                    file.truncate(SIZES[path])
                file.write(FILES[path])


class Move(Scene):
    """A move of sources that lie on the archive's disk."""

    def prepare(self) -> None:
        self.sources = Sources(self.instrument / "instrument", self.folder / "move.json")
        self.words = ("move", str(self.sources.document))
        self.sources.write_synced()

    @property
    def instrument(self) -> Path:
        """The disk that the sources lie on."""
        return self.large

    def work(self) -> None:
        self.sources.write_unsynced()
        self.watched("complete", *self.words)

    def check(self, reported: set[str]) -> None:
        if "complete" not in reported:
            self.sources.make_good(list(self.archived().values()))
            self.ingest(*self.words)
        self.assert_ingested()
        self.assert_moved()

    def assert_moved(self) -> None:
        assert self.sources.there() == []


class MoveDiscarded(Move):
    """A discard of such a move, which is stored, but not recorded."""

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
        self.sources.assert_right()


class MoveAcross(Move):
    """A move of sources that lie on another disk than the archive."""

    @property
    def instrument(self) -> Path:
        """The disk that the sources lie on."""
        return self.folder

    def assert_moved(self) -> None:
        """Nothing: copies were removed, and one that comes back is no loss."""


class MoveAcrossDiscarded(MoveDiscarded, MoveAcross):
    """A discard of such a move."""


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
    """A bundle that is sent to a server, which takes a second to start."""

    stride, may_come_again = 2, True

    def prepare(self) -> None:
        # Kept elsewhere: who sends a bundle has it until it is answered for.
        self.bundle = write_bundle(self.elsewhere / "sent.tar", FILES)
        with Server(self.elsewhere):
            pass

    def work(self) -> None:
        with Server(self.elsewhere) as server:
            job_id = server.upload(self.bundle)["job_id"]
            self.report("taken")
            server.settled(job_id)
            self.report("complete")

    def check(self, reported: set[str]) -> None:
        if "complete" not in reported:
            with Server(self.elsewhere) as server:
                job_id = 1 if "taken" in reported else server.upload(self.bundle)["job_id"]
                state = server.settled(job_id)
                assert is_stored(state), state
        self.assert_ingested()


class ServedSeveral(IngestSeveral):
    """Small bundles that are sent at the same time to a server, which enters their jobs together."""

    # A server takes a second to start, and each of them is told of.
    stride, count, may_come_again = 4, 4, True

    @property
    def bundles_in(self) -> Path:
        return self.elsewhere

    def prepare(self) -> None:
        super().prepare()
        with Server(self.elsewhere):
            pass

    def work(self) -> None:
        with Server(self.elsewhere) as server:
            self.send_all(server, self.bundles, self.report)

    def send_all(self, server: Server, bundles: list[str], tell: Callable[[str], None]) -> None:
        """Send them at the same time, and wait until they are ingested."""

        def send(bundle: str) -> str:
            claim = f"{Path(bundle).stem} is job {server.upload(Path(bundle))['job_id']}"
            tell(claim)
            return claim

        with ThreadPoolExecutor(8) as clients:
            self.await_all(server, clients.map(send, bundles))

    def await_all(self, server: Server, claims: Iterable[str]) -> None:
        for claim in claims:
            state = server.settled(int(claim.split()[-1]))
            assert is_stored(state), (claim, state)

    def check(self, reported: set[str]) -> None:
        known = {claim.split()[0] for claim in reported}
        with Server(self.elsewhere) as server:
            self.await_all(server, reported)
            self.send_all(server, [bundle for bundle in self.bundles if Path(bundle).stem not in known], lambda _: None)
        self.assert_all_stored()


class SentInParts(Scene):
    """A bundle that is sent in two parts, each in two pieces, one of them with a checksum, and that is joined then.

    The client notes what it is told, as those of tus do, and goes on from there.
    """

    stride = 2

    def prepare(self) -> None:
        content = write_bundle(self.elsewhere / "sent.tar", FILES).read_bytes()
        self.parts = [content[:100_000], content[100_000:]]
        self.noted: list[str] = []
        with Server(self.elsewhere):
            pass

    def work(self) -> None:
        with Server(self.elsewhere) as server:
            for number, part in enumerate(self.parts):
                url = create(server, len(part), PARTIAL)
                self.noted.append(url.removeprefix(server.url))
                self.report(f"{number} at 0")
                for at, end, more in [(0, 50_000, checksum(part[:50_000])), (50_000, len(part), {})]:
                    assert append(url, at, part[at:end], more).status_code == 204
                    self.report(f"{number} at {end}")
            job_id = self.join_rest(server, self.noted)
            self.report("joined")
            server.settled(job_id)
            self.report("complete")

    def check(self, reported: set[str]) -> None:
        if "complete" not in reported:
            with Server(self.elsewhere) as server:
                known = [path for number, path in enumerate(self.noted) if f"{number} at 0" in reported]
                for number, path in enumerate(known):
                    self.assert_kept(server, number, path, reported)
                new = [create(server, len(part), PARTIAL) for part in self.parts[len(known) :]]
                job_id = self.join_rest(server, [*known, *(url.removeprefix(server.url) for url in new)])
                state = server.settled(job_id)
                assert is_stored(state), state
        self.assert_ingested()

    def assert_kept(self, server: Server, number: int, path: str, reported: set[str]) -> None:
        """As much counts as the client was told, and it is what was sent; more may be there, which is in doubt."""
        told = max(int(claim.split()[2]) for claim in reported if claim.startswith(f"{number} at "))
        at = offset(server.url + path)
        assert at >= told, f"of {told} bytes {at} are left"
        file = Path(self.environment["VOLUME_PATH"]) / f"resumable-{path.rpartition('/')[2]}.tar"
        assert not file.exists() or file.read_bytes()[:at] == self.parts[number][:at]

    def join_rest(self, server: Server, paths: list[str]) -> int:
        """Send what is not there yet, join the parts, and return the id of the job."""
        for path, part in zip(paths, self.parts, strict=True):
            if (at := offset(server.url + path)) < len(part):
                assert append(server.url + path, at, part[at:]).status_code == 204
        answer = join(server, paths)
        assert answer.status_code == 201, answer.text
        return int(answer.headers["Ingest-Job-Id"])


SCENES: dict[str, type[Scene]] = {
    "ingest": Ingest,
    "several": IngestSeveral,
    "move": Move,
    "discard": IngestDiscarded,
    "discard of a move": MoveDiscarded,
    "worker": Worked,
    "serve": Served,
    "serve several": ServedSeveral,
    "sent in parts": SentInParts,
    "move across": MoveAcross,
    "discard of a move across": MoveAcrossDiscarded,
}
TRIALS = [(kind, how) for kind in SCENES for how in (NEIGHBOUR, TWO) if how == TWO or "across" not in kind]


@pytest.fixture(scope="module", autouse=True)
def own_mounts() -> Iterator[None]:
    with available(), mounts_of_our_own():
        yield


@pytest.fixture(scope="module")
def stepper(own_mounts: None) -> Iterator[Stepper]:
    with Stepper() as stepper:
        yield stepper


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Empty disks of each file system. Two that are one another's copies could not be mounted together."""
    folder = tmp_path_factory.mktemp("bases")
    return cache(lambda system, number: format_disk(system, folder / f"{system} {number}"))


@pytest.fixture(params=FILE_SYSTEMS)
def machine(
    request: pytest.FixtureRequest, bases: Callable[[str, int], Path], tmp_path: Path
) -> Callable[[int], Disks]:
    """So many disks of one file system."""

    def machine(count: int) -> Disks:
        places = [tmp_path / f"place {number}" for number in range(count)]
        with available():
            found = {place: bases(request.param, number) for number, place in enumerate(places)}
        return Disks(request.param, found, tmp_path / "recording")

    return machine


@contextmanager
def available() -> Iterator[None]:
    try:
        yield
    except DiskUnavailable as reason:
        pytest.skip(str(reason))


def test_what_was_synced_is_there_and_what_was_not_may_be_lost(machine: Callable[[int], Disks]) -> None:
    """The disks themselves: were flushes not to reach them, or writes too early, nothing below would mean anything."""
    content = random.Random(SEED).randbytes(50_000)
    with machine(1) as disks:
        (place,) = disks.places
        with available(), disks.recording():
            (place / "synced").write_bytes(content)
            disks.sync()
            (place / "loose").write_bytes(content)
            before = disks.now()
            disks.sync()
            after = disks.now()
        found: dict[tuple[int, str], bytes] = {}
        for instant, keep in product(range(before, after + 1), KEEPS):
            with disks.rebuilt(instant, keep):
                assert (place / "synced").read_bytes() == content
                loose = place / "loose"
                found[instant, keep] = loose.read_bytes() if loose.exists() else b""
    assert {found[before, keep] for keep in KEEPS}.isdisjoint({content})
    assert {found[after, keep] for keep in KEEPS} == {content}


@pytest.mark.parametrize(("kind", "how"), TRIALS)
def test_the_power_goes(
    machine: Callable[[int], Disks],
    stepper: Stepper,
    kind: str,
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with machine(2 if how == TWO else 1) as disks:
        scene = SCENES[kind](disks, stepper, tmp_path)
        for variable, value in scene.environment.items():
            monkeypatch.setenv(variable, value)
        with available(), disks.recording():
            scene.prepare()
            disks.sync()
            begin = disks.now()
            with neighbour(disks, scene.archive) if how == NEIGHBOUR else nullcontext():
                scene.work()
            disks.sync()
            end = disks.now()
        tally, name = Tally(), f"{disks.system}, {kind}, {how}"
        for instant, keep in cuts(disks, scene, begin, end, name):
            reported = {claim for claim, told in scene.reports.items() if told <= instant}
            where = f"{name}: after event {instant} of {begin} to {end}, {keep} of {disks.loose(instant)} kept"
            with tally.fault(f"{where}, {sorted(reported)} reported"), disks.rebuilt(instant, keep, f"{SEED} {name}"):
                scene.assert_databases_whole(scratch)
                scene.check(reported)
        tally.close(record_property, name)


@contextmanager
def neighbour(disks: Disks, archive: Path) -> Iterator[None]:
    """Somebody who syncs what he has written himself, or all: now and then, and where it hurts, amid the storing."""
    done, chance = threading.Event(), random.Random(SEED)

    def sync() -> None:
        known = 0
        with (disks.places[-1] / "neighbour").open("wb", buffering=0) as file:
            while not done.wait(0.0002):
                found = len(list(archive.iterdir())) if archive.exists() else 0
                if found == known and chance.random() > 0.02:
                    continue
                known = found
                # Not before: new sources would be on the platter, all of them, when the work begins.
                if found and chance.random() < 0.2:
                    disks.sync()
                else:
                    file.write(b"x")
                    os.fsync(file.fileno())

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def cuts(disks: Disks, scene: Scene, begin: int, end: int, name: str) -> Iterator[tuple[int, str]]:
    """When the power goes, and what a disk then keeps of what was not flushed.

    Always at a report; else at a sample of all instants, and one of those that follow a flush: there are few of them,
    and what is on the platter changes at no other.
    """
    told, flushes = set(scene.reports.values()), disks.flushes(begin, end)
    stride = 1 if STEPS == "all" else 2 * scene.stride
    flushed = {flushes[step - 1] for step in sample(len(flushes), f"{name} flushed")[::stride]}
    written = {begin + step for step in sample(end - begin, name)[::stride]}
    for number, instant in enumerate(sorted({*told, *flushed, *written})):
        keeps = KEEPS if STEPS == "all" else (NONE, SOME) if instant in told else (KEEPS[number % 3],)
        # Where nothing is loose, there is nothing to keep.
        yield from ((instant, keep) for keep in (keeps if disks.loose(instant) else (NONE,)))

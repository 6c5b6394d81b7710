"""A trial: one job at a site of its own, what is to be at its end, and what must never be lost on the way."""

import json
import os
import random
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ingest_cli import api
from ingest_cli.jobs.job import Job, JobState
from ingest_cli.jobs.outbox import NoticeStatus
from ingest_cli.settings import ObjectStore, load_settings

from .bundles import FILES, OF_FOLDERS, Record, document_for, write_bundle, write_folder
from .object_stores import NUMBERS, ObjectServer
from .pacifica_double import PacificaSite
from .postgres import PostgresServer
from .receiver import Receiver
from .site import Site, is_mark
from .stepping import Order, Outcome, Stepper


def may_go_on(job: Job) -> bool:
    """Whether the next run resumes the job, rather than settle it."""
    return job.state in (JobState.QUEUED, JobState.RUNNING, JobState.HELD, JobState.COMPLETE)


# "all" visits every step; else a sample of this many, of each kind of job and fault.
STEPS = os.environ.get("INGEST_TEST_STEPS", "4")
SEED = int(os.environ.get("INGEST_TEST_SEED", "1"))


def sample(total: int, name: str) -> list[int]:
    """The numbers from 1 to ``total``, or some of them."""
    numbers = range(1, total + 1)
    if STEPS == "all":
        return list(numbers)
    return sorted(random.Random(f"{SEED} {name}").sample(numbers, min(int(STEPS), total)))


@dataclass
class Tally:
    """What was injected, and what came of it."""

    injected: int = 0
    survived: int = 0
    lost: list[str] = field(default_factory=list)

    @contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """One fault and all that must hold after it."""
        self.injected += 1
        try:
            yield
        except Exception as error:  # noqa: BLE001, it is told at the end
            self.lost.append(f"{name}: {type(error).__name__}: {error}")
        else:
            self.survived += 1

    def close(self, record_property: Callable[[str, object], None], name: str) -> None:
        record_property("faults injected", self.injected)
        record_property("faults survived", self.survived)
        print(f"\n{name}: {self.injected} faults injected, {self.survived} survived, {len(self.lost)} lost")
        if self.lost:
            pytest.fail("\n\n".join(self.lost), pytrace=False)
        assert self.injected


class Trial:
    """A job of ``kind`` in ``folder``.

    ``bundle``, ``large bundle`` or ``packed``, ``folder``, ``move`` or ``move across`` file systems, with
    `` over HTTP`` where the services are, `` over S3`` where the archive is, `` over PostgreSQL`` where the databases
    are, or with `` and events``, which a ``receiver`` is sent.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        stack: ExitStack,
        environment: Mapping[str, str],
        storage: ObjectServer | None,
        postgres: PostgresServer | None,
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.data = folder / "data" / "pacifica-ingest-cli"
        self.environment = {
            "HOME": str(folder / "home"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
        }
        self.sources: dict[str, Path] = {}
        self.records = document_for(FILES)
        # Too large for any of it to be kept in memory.
        self.kept = -1 if kind.startswith("large") else None
        self.words = self._words(kind, stack)
        self.pacific: PacificaSite | None = None
        if kind.endswith("over HTTP"):
            self.pacific = stack.enter_context(PacificaSite())
            self.pacific.folder = folder / "archive"
            self.pacific.folder.mkdir()
            self.environment.update(self.pacific.environment(), INGEST_SERVICE_TIMEOUT="3")
        self.storage, self.place = storage, ObjectStore("", "")
        if storage is not None:
            self.place = ObjectStore(storage.shared_bucket, f"trial/{os.getpid()}/{next(NUMBERS)}")
            self.environment.update(storage.variables(self.place.bucket, self.place.prefix))
        self.postgres, self.url = postgres, None if postgres is None else postgres.new_database()
        if self.url is not None:
            names = ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL")
            self.environment.update(dict.fromkeys(names, self.url.text))
            # Who comes from another boot is this host, started anew: no other one could read what lies on its disk.
            self.environment["INGEST_HOST"] = "instruments"
        self.receiver: Receiver | None = None
        if kind.endswith("and events"):
            self.receiver = stack.enter_context(Receiver())
            self.environment["NOTIFICATIONS_URL"] = self.receiver.url
        self.environment.update(environment)
        self.site = Site(self.data)
        self.site.settings = load_settings(environment=self.environment)

    @property
    def asks_others(self) -> bool:
        """Whether another process answers for its store, its archive or its services."""
        return (self.pacific, self.storage, self.url) != (None, None, None)

    def _words(self, kind: str, stack: ExitStack) -> list[str]:
        if kind.startswith("folder"):
            return self._folder()
        return self._move(kind, stack) if kind.startswith("move") else self._bundle(kind)

    def _folder(self) -> list[str]:
        files = dict(sorted(FILES.items()))
        self.records = document_for(files)
        for record in self.records[-len(files) :]:
            is_text = record["name"].endswith(".txt")
            record["mimetype"] = "text/plain" if is_text else "application/octet-stream"
        return [str(write_folder(self.folder / "run", files)), *OF_FOLDERS]

    def _bundle(self, kind: str) -> list[str]:
        packed = kind.startswith("packed")
        return [str(write_bundle(self.folder / "b.tar", document=self.records, mode="w:gz" if packed else "w"))]

    def _move(self, kind: str, stack: ExitStack) -> list[str]:
        instrument = self.folder / "instrument"
        if kind.startswith("move across"):
            instrument = Path(tempfile.mkdtemp(dir="/dev/shm"))
            stack.callback(shutil.rmtree, instrument)
        files = [record for record in self.records if record["destinationTable"] == "Files"]
        for (path, content), record in zip(FILES.items(), files, strict=True):
            source = instrument / path
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(content)
            record["source"] = str(source)
            self.sources[path] = source
        document = self.folder / "move.json"
        document.write_text(json.dumps(self.records))
        return ["move", str(document)]

    def order(self, **fault: Any) -> Order:
        return Order(words=self.words, folder=str(self.folder), environment=self.environment, kept=self.kept, **fault)

    def order_of(self, *words: str) -> Order:
        """Another command at the same site."""
        return Order(words=list(words), folder=str(self.folder), environment=self.environment, kept=self.kept)

    def run(self, stepper: Stepper, **fault: Any) -> Outcome:
        outcome = stepper(self.order(**fault))
        self.wait_for_services()
        return outcome

    def wait_for_services(self) -> None:
        """Until no request is being worked on, such as one whose client was killed."""
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(10)

    def jobs(self) -> list[Job]:
        return self.site.jobs() if self.url is not None or self.site.database.exists() else []

    def archived(self) -> dict[int, bytes]:
        """Every file that the archive has, temporary ones included."""
        if self.storage is not None:
            return self.storage.archived(self.place)
        if self.pacific is None:
            return self.site.archived()
        assert self.pacific.folder is not None
        moved = {int(path.name): path.read_bytes() for path in self.pacific.folder.iterdir()}
        return {**moved, **self.pacific.files}

    def catalogued(self) -> dict[int, list[Record]]:
        """The files of each transaction that the catalogue has."""
        if self.pacific is not None:
            return {
                number: [record for record in records if record["destinationTable"] == "Files"]
                for number, records in self.pacific.transactions.items()
            }
        if self.url is None and not self.site.catalog.exists():
            return {}
        files = [{**row, "_id": row["id"]} for row in self._rows("Files")]
        return {
            row["id"]: [file for file in files if file["transaction"] == row["id"]]
            for row in self._rows("Transactions")
        }

    def _rows(self, table: str) -> list[dict[str, Any]]:
        if self.postgres is not None and self.url is not None:
            return self.postgres.rows(table, self.url)
        try:
            return self.site.rows(table)
        except sqlite3.OperationalError:  # not made yet
            return []

    def assert_nothing_lost(self) -> None:
        """Each file stands where it came from or is whole in the archive."""
        try:
            whole = list(self.archived().values())
        except ValueError:  # a temporary file, which only a finished job must not leave
            whole = [path.read_bytes() for path in self.site.archive.rglob("*") if path.is_file() and not is_mark(path)]
        for path, source in self.sources.items():
            assert (source.exists() and source.read_bytes() == FILES[path]) or FILES[path] in whole, f"{path} is lost"

    def assert_told(self, outcome: Outcome) -> None:
        """It ended by itself, well or with a sentence."""
        assert outcome.status in (0, 1, 2, 4), f"exit code {outcome.status}: {outcome.stderr}"
        assert "Traceback" not in outcome.stderr, outcome.stderr
        said = [line for line in outcome.stderr.splitlines() if line.startswith("ingest: ") and "warning" not in line]
        assert bool(said) == bool(outcome.status), f"exit code {outcome.status}: {outcome.stderr}"
        for job in self.jobs():
            assert "Traceback" not in job.exception, job.exception
            if job.state is JobState.FAILED:
                self.assert_nothing_left(job.job_id)

    def assert_waiting(self, outcome: Outcome) -> None:
        """It ended well, or nothing was given up."""
        assert outcome.status in (0, 4), f"exit code {outcome.status}: {outcome.stderr}"
        given_up = {JobState.FAILED, JobState.HELD, JobState.UNDOING, JobState.DISCARDED}
        assert not [job for job in self.jobs() if job.state in given_up], self.jobs()

    def assert_nothing_left(self, job_id: int) -> None:
        """What failed for good has left nothing."""
        assert not self.archived(), f"job {job_id} left {list(self.archived())}"
        assert job_id not in self.catalogued()
        for path, source in self.sources.items():
            assert source.read_bytes() == FILES[path]

    def assert_sound(self, job_id: int | None, *, jobs: int | None = None) -> None:
        """One job is complete, under ``job_id`` where that is known, and all is as a run that nothing disturbed leaves
        it. ``jobs`` is how many there may be: the others failed for good."""
        done = [job for job in self.jobs() if job.state is JobState.COMPLETE]
        assert len(done) == 1, self.jobs()
        assert job_id in (None, done[0].job_id), f"job {job_id} became job {done[0].job_id}"
        assert jobs in (None, len(self.jobs())), self.jobs()
        assert done[0].stored == len(FILES)
        assert all(job.state in (JobState.FAILED, JobState.COMPLETE) for job in self.jobs())
        catalogued = self.catalogued()
        assert list(catalogued) == [done[0].job_id]
        archived, rows = self.archived(), catalogued[done[0].job_id]
        assert sorted(archived) == sorted(row["_id"] for row in rows), "no orphans, nothing missing"
        stored = {"/".join(filter(None, ["data", row["subdir"], row["name"]])): archived[row["_id"]] for row in rows}
        assert stored == FILES
        self._assert_catalogued(rows, done[0].job_id)
        self._assert_tidy()
        if self.receiver is not None:
            self.assert_told_of(self.receiver, done[0].job_id)

    def assert_told_of(self, receiver: Receiver, job_id: int) -> None:
        """The receiver has the event of this job once it is given the time, and of no other."""
        with closing(sqlite3.connect(self.site.database)) as connection, connection:
            connection.execute("UPDATE outbox SET retry_at = 0")
        assert api.send_events(settings=self.site.settings).waiting == 0
        assert set(receiver.ids()) == {f"metadata.ingest.{job_id}"}
        assert {event.status for event in api.list_events(10, settings=self.site.settings)} == {NoticeStatus.SENT}

    def _assert_catalogued(self, rows: list[Record], job_id: int) -> None:
        columns = ("name", "size", "hashtype", "hashsum", "mimetype", "ctime", "mtime")
        expected = [record for record in self.records if record["destinationTable"] == "Files"]
        assert [[row[key] for key in columns] for row in rows] == [[row[key] for key in columns] for row in expected]
        pairs = [(record["key"], record["value"]) for record in self._key_values(job_id)]
        assert pairs == [("Taxonomic Family", "bacteria")]
        assert max(row["_id"] for row in rows) < self._next_file_id()

    def _key_values(self, job_id: int) -> list[Record]:
        if self.pacific is None:
            return self._rows("TransactionKeyValue")
        records = self.pacific.transactions[job_id]
        return [record for record in records if record["destinationTable"] == "TransactionKeyValue"]

    def _next_file_id(self) -> int:
        if self.pacific is not None:
            return self.pacific.next_id["file"]
        if self.url is not None:
            return next(int(row["next_id"]) for row in self._rows("unique_index") if row["id_mode"] == "file")
        with closing(sqlite3.connect(self.data / "ids.sqlite3")) as connection:
            query = "SELECT next_id FROM unique_index WHERE id_mode = 'file'"
            return int(connection.execute(query).fetchone()[0])

    def _assert_tidy(self) -> None:
        """No source of a move stands any more, no temporary file anywhere, and every database is whole."""
        assert not any(source.exists() for source in self.sources.values())
        for source in self.sources.values():
            assert not list(source.parent.glob("*.*")), "a temporary file beside a source"
        names = ("jobs",) if self.pacific is not None else ("jobs", "ids", "catalogue")
        databases = {self.data / f"{name}.sqlite3" for name in (names if self.url is None else ())}
        places = {self.data / "jobs.sqlite3-transfer-0"} if self.pacific is not None else set()
        files = {path for path in self.data.rglob("*") if path.is_file() and self.site.archive not in path.parents}
        assert files == databases | places
        for database in databases:
            with closing(sqlite3.connect(database)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class Trials:
    """Makes trials, each in a folder of its own that goes when its block ends."""

    def __init__(
        self,
        folder: Path,
        storage: Callable[[], ObjectServer] | None = None,
        postgres: Callable[[], PostgresServer] | None = None,
        **environment: str,
    ) -> None:
        self._folder, self._count, self._environment = folder, 0, environment
        self._storage, self._postgres = storage, postgres

    @contextmanager
    def __call__(self, kind: str) -> Iterator[Trial]:
        self._count += 1
        folder = self._folder / f"trial {self._count}"
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            storage = self._storage() if self._storage is not None and kind.endswith("over S3") else None
            postgres = self._postgres() if self._postgres is not None and kind.endswith("over PostgreSQL") else None
            yield Trial(folder, kind, stack, self._environment, storage, postgres)


def skip_unless_possible(kind: str, folder: Path) -> None:
    if kind.startswith("move across") and (
        not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == folder.stat().st_dev
    ):
        pytest.skip("no second file system at /dev/shm")


def finish(trial: Trial, stepper: Stepper) -> None:
    """The next run completes what the faults before it left, as the same job where that can be gone on with."""
    trial.assert_nothing_lost()
    going_on = [job.job_id for job in trial.jobs() if may_go_on(job)]
    assert len(going_on) <= 1
    settled = len(trial.jobs()) - len(going_on)
    done = trial.run(stepper)
    assert done.status == 0, done.stderr
    trial.assert_sound(going_on[0] if going_on else None, jobs=settled + 1)

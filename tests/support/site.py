"""A site under test: everything embedded, in one folder, with eyes into its archive and its catalogue."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

from ingest_cli.jobs.job import Job, JobKind
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.observer import Observer
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.embedded.layout import id_to_path
from ingest_cli.services.embedded.mark import MARK_NAME
from ingest_cli.services.factory import connect
from ingest_cli.settings import Settings, load_settings


class Witness(Observer):
    """Looks on at a job and remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.planned = self.bytes_checked = self.bytes_stored = self.files_checked = self.files_stored = 0

    def stage(self, task: str) -> None:
        self.stages.append(task)

    def plan(self, files: int, total_bytes: int) -> None:
        self.planned = total_bytes

    def checked(self, length: int, files: int = 0) -> None:
        self.bytes_checked += length
        self.files_checked += files

    def stored(self, length: int, files: int = 0) -> None:
        self.bytes_stored += length
        self.files_stored += files

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class Leaver(Witness):
    """Has the runner leave when so many files are stored."""

    def __init__(self, runner: Runner, *, after: int) -> None:
        super().__init__()
        self._runner, self._after = runner, after

    def stored(self, length: int, files: int = 0) -> None:
        super().stored(length, files)
        if self.files_stored == self._after:
            self._runner.interrupt()


def file_of(settings: Settings) -> Path:
    """The job store of a site that keeps it in a file."""
    assert isinstance(settings.database, Path)
    return settings.database


class Site:
    def __init__(self, folder: Path) -> None:
        self.archive = folder / "archive"
        self.catalog = folder / "catalogue.sqlite3"
        self.settings = load_settings()
        self.witness = Witness()

    @property
    def database(self) -> Path:
        return file_of(self.settings)

    def ingest(self, path: Path, *, again: bool = False, kind: JobKind = JobKind.BUNDLE) -> Job:
        with open_store(self.settings) as store, connect(self.settings, store) as services:
            runner = Runner(self.settings, services, store, again=again)
            ids, user = services.unique_id, self.settings.user
            job = submit(store, ids, kind, path, user=user, holder=this_process(), again=again)
            return runner.run(job, self.witness)

    def move(self, path: Path) -> Job:
        return self.ingest(path, kind=JobKind.MOVE)

    def job(self, job_id: int) -> Job:
        with open_store(self.settings) as store:
            return store.get(job_id)

    def jobs(self) -> list[Job]:
        with open_store(self.settings) as store:
            return store.select(limit=1000)

    def rows(self, table: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(f"{self.catalog.as_uri()}?mode=rw", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]

    def file(self, file_id: int) -> Path:
        return self.archive / id_to_path(file_id)

    def archived(self) -> dict[int, bytes]:
        """Every file in the archive's folder, temporary ones included (they break the reading of the id)."""
        files = (path for path in self.archive.rglob("*") if stat.S_ISREG(path.lstat().st_mode) and not is_mark(path))
        return {int(path.name.removeprefix("file."), 16): path.read_bytes() for path in files}

    def contents(self) -> dict[str, bytes]:
        """What the catalogue says is stored, by name in the bundle, with the archive's bytes."""
        archived = self.archived()
        return {path_in_bundle(row): archived[row["id"]] for row in self.rows("Files")}

    def recorded(self) -> dict[str, bytes]:
        """The same while something is at work in the archive."""
        return {path_in_bundle(row): self.file(row["id"]).read_bytes() for row in self.rows("Files")}

    def holds_nothing(self) -> bool:
        tables = ("Transactions", "Files", "TransactionKeyValue", "FileKeyValue")
        return not self.archived() and not any(self.rows(table) for table in tables)


def path_in_bundle(row: dict[str, Any]) -> str:
    return "/".join(filter(None, ["data", row["subdir"], row["name"]]))


def is_mark(path: Path) -> bool:
    """Whether it is the file by which an archive is known."""
    return path.name == MARK_NAME


def assert_sound(site: Site, files: dict[str, bytes], jobs: int, transactions: int | None = None) -> None:
    """Every job is complete and every file stored once, and the databases are whole."""
    assert all(job.is_done for job in site.jobs())
    assert len(site.jobs()) == jobs
    assert len(site.rows("Transactions")) == (transactions or jobs)
    archived = site.archived()
    assert {row["id"] for row in site.rows("Files")} == set(archived), "no orphans, nothing missing"
    assert site.contents() == files
    for database in (site.database, site.catalog):
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

"""A site under test: everything embedded, in one folder, with eyes into its archive and its catalogue."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

from ingest_cli.jobs import Job, JobKind, JobStore
from ingest_cli.services import connect
from ingest_cli.services.embedded.archive import id_to_path
from ingest_cli.settings import load_settings
from ingest_cli.worker import Worker


class Witness:
    """Watches a job and remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.planned = self.read = self.files_done = 0

    def stage(self, task: str) -> None:
        self.stages.append(task)

    def plan(self, files: int, total_bytes: int) -> None:
        self.planned = total_bytes

    def advance(self, length: int) -> None:
        self.read += length

    def file_done(self) -> None:
        self.files_done += 1

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class Site:
    def __init__(self, folder: Path) -> None:
        self.archive = folder / "archive"
        self.catalog = folder / "catalogue.sqlite3"
        self.settings = load_settings()
        self.witness = Witness()

    def ingest(self, path: Path, *, again: bool = False, kind: JobKind = JobKind.BUNDLE) -> Job:
        with connect(self.settings) as services, Worker(self.settings, services, again=again) as worker:
            return worker.run(worker.submit(kind, path), self.witness)

    def move(self, path: Path) -> Job:
        return self.ingest(path, kind=JobKind.MOVE)

    def job(self, job_id: int) -> Job:
        with JobStore(self.settings.database) as store:
            return store.get(job_id)

    def jobs(self) -> list[Job]:
        with JobStore(self.settings.database) as store:
            return store.newest(1000)

    def rows(self, table: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.catalog)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]

    def file(self, file_id: int) -> Path:
        return self.archive / id_to_path(file_id)

    def archived(self) -> dict[int, bytes]:
        """Every file in the archive's folder, temporary ones included (they break the reading of the id)."""
        files = (path for path in self.archive.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
        return {int(path.name.removeprefix("file."), 16): path.read_bytes() for path in files}

    def contents(self) -> dict[str, bytes]:
        """What the catalogue says is stored, by name in the bundle, with the archive's bytes."""
        archived = self.archived()
        return {
            "/".join(filter(None, ["data", row["subdir"], row["name"]])): archived[row["id"]]
            for row in self.rows("Files")
        }

    def holds_nothing(self) -> bool:
        tables = ("Transactions", "Files", "TransactionKeyValue", "FileKeyValue")
        return not self.archived() and not any(self.rows(table) for table in tables)

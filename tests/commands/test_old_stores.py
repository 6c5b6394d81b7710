"""Programs of today go on with what older versions left: several at once, and with jobs that are half stored."""

import multiprocessing
from contextlib import suppress
from pathlib import Path

import pytest

from ingest_cli.errors import Interrupted
from ingest_cli.jobs.job import Job, JobKind
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.sqlite_migrations import MIGRATIONS
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.factory import connect
from ingest_cli.settings import Timings

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.old_stores import old_store
from ..support.site import Site, Witness

VERSIONS = range(1, len(MIGRATIONS))


def _count(path: Path) -> int:
    with SqliteJobStore(path, Timings()) as store:
        return store.count()


def test_many_processes_open_an_old_store_at_once(tmp_path: Path) -> None:
    path = old_store(
        tmp_path / "jobs.sqlite3", 3, [{}, {"recorded": 1, "resumable": 0}, {"state": "FAILED", "resumable": 0}] * 150
    )
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_count, [path] * 3, chunksize=1) == [450] * 3


def downgrade(path: Path, version: int) -> None:
    """Make of a store of today, in which one run was interrupted, one that an old program left."""
    with SqliteJobStore(path, Timings()) as store:
        jobs: list[Job] = store.select(limit=9)[::-1]
    path.rename(path.with_suffix(".new"))
    for left in path.parent.glob(f"{path.name}-*"):
        left.unlink()
    rows = []
    for job in jobs:
        assert job.reservation is not None
        rows.append(
            {
                "kind": job.kind,
                "source": job.source,
                "stamp": f"2049:{job.fingerprint}",
                "task": job.task,
                "digest": job.digest,
                "first_file_id": job.reservation.first_file_id,
                "stored": job.reservation.stored,
                "files": job.files,
                "bytes": job.bytes,
                "attempts": job.attempts,
            }
        )
    old_store(path, version, rows)


class Leaver(Witness):
    """Interrupts the run as soon as the first file is stored."""

    runner: Runner

    def stored(self, length: int, files: int = 0) -> None:
        super().stored(length, files)
        if files:
            self.runner.interrupt()


def interrupt(site: Site, bundle: Path) -> None:
    """Leave a job with one of its files stored."""
    with connect(site.settings) as services, open_store(site.settings) as store, suppress(Interrupted):
        leaver = Leaver()
        leaver.runner = Runner(site.settings, services, store)
        job = submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u", holder=this_process())
        leaver.runner.run(job, leaver)
    assert site.job(1).stored == 1


@pytest.mark.sweep
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("by", ["the job itself", "another job of the document"])
def test_what_an_old_program_left_half_stored_is_finished(
    command: Command, site: Site, tmp_path: Path, version: int, by: str
) -> None:
    """Old stores did not always note how many ids were reserved."""
    bundle = write_bundle(tmp_path / "b.tar")
    interrupt(site, bundle)
    downgrade(site.database, version)
    if by == "the job itself":
        given = bundle
    else:
        given = tmp_path / "copy.tar"
        given.write_bytes(bundle.read_bytes())
    done = command("-q", given)
    assert (done.returncode, done.stderr) == (0, "")
    assert site.contents() == FILES
    assert len(site.archived()) == len(FILES)
    assert len(site.rows("Transactions")) == 1

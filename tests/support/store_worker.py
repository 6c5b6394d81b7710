"""A worker that does to jobs in a PostgreSQL store what a run does, but for the files: ``python -m`` with the database,
the folder for what it stores, and how many jobs there are.

What it has stored of a document is a file that only one run may make, which names the ids.
"""

import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from ingest_cli.errors import LeaseLost, WrongState
from ingest_cli.jobs.job import Job, JobState
from ingest_cli.jobs.postgres import PostgresJobStore
from ingest_cli.jobs.postgres_connections import PostgresConnections
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.jobs.store import JobStore
from ingest_cli.services.base import UniqueId
from ingest_cli.services.postgres.uniqueid import PostgresUniqueId
from ingest_cli.settings import PostgresUrl, Timings

FILES = 3
ATTEMPTS = 1000


def main() -> None:
    database, folder, documents = sys.argv[1:]
    pool = PostgresConnections(PostgresUrl(database, database))
    timings = replace(Timings(), runs=ATTEMPTS)
    with PostgresJobStore(pool, timings) as store, closing(PostgresUniqueId(pool)) as ids:
        while store.count_unfinished():
            job = store.lease_next()
            if job is None:
                time.sleep(0.01)
            else:
                with suppress(LeaseLost, WrongState):
                    run(job, store, ids, Path(folder), int(documents))


def run(job: Job, store: JobStore, ids: UniqueId, folder: Path, documents: int) -> None:
    digest = f"document {job.job_id % documents}"
    # Who has the job by this fence has it alone.
    (folder / f"run {job.job_id} {job.fence_number}").touch(exist_ok=False)
    store.enter(job.fence, INGEST_FILES)
    other = store.identify(job.fence, digest, FILES, 10 * FILES)
    job = store.held(job.fence)
    if other is not None and other.state is JobState.COMPLETE:
        undone = store.undo(job.fence, JobState.DUPLICATE, INGEST_FILES, "", successor=other.job_id)
        if undone.state is JobState.UNDOING:
            store.rolled_back(undone.fence)
        return
    if other is not None and other.holder is not None and not store.is_dead(other):
        store.defer(job.fence, INGEST_FILES, "it is at work", 0.02, is_attempt=False)
        return
    if other is not None and other.reservation is not None and job.reservation is None:
        job = store.supersede(job.fence, other)
    if job.reservation is None:
        first = ids.reserve("file", FILES)
        job = store.reserve(job.fence, range(first, first + FILES), None)
    assert job.reservation is not None
    store.heartbeat(job.fence, 50.0)
    stored = folder / digest
    name = str(job.reservation.first_file_id)
    try:
        with stored.open("x") as file:
            file.write(name)
    except FileExistsError:
        assert stored.read_text() in ("", name), f"{digest} was stored twice"
    store.checkpoint(job.fence, FILES)
    store.record_stage_time(job.fence, INGEST_FILES, 0.5)
    store.record(job.fence)


if __name__ == "__main__":
    main()

"""What jobs cost on PostgreSQL, against the embedded job store:  python -m tests.benchmarks.cluster [JOBS]

Starts a PostgreSQL server, with fsync on, and prints a table: jobs without work that are dispatched in a second; how
long one takes to be found behind 100,000 others; small bundles in a second by 1, 2 and 4 workers, whose archive is a
folder, with the processor seconds of the workers and of the server for each.
"""

import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ingest_cli.jobs.dispatch import dispatching
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.settings import PostgresUrl, Settings, load_settings

from ..support.bundles import write_bundle
from ..support.postgres import PostgresServer, serving_postgres

JOBS = int(sys.argv[1]) if len(sys.argv) > 1 else 500
WAITING, LOOKS = 100_000, 50
WORKERS = (1, 2, 4)
BATCH = 1000

Site = Callable[[], dict[str, str]]


@contextmanager
def sites(folder: Path) -> Iterator[tuple[PostgresServer, dict[str, Site]]]:
    """How a new site is made: its variables, by what its job store is on."""
    with serving_postgres() as server:

        def embedded() -> dict[str, str]:
            place = Path(tempfile.mkdtemp(dir=folder))
            return {"HOME": str(place), "XDG_DATA_HOME": str(place / "data")}

        def on_postgres() -> dict[str, str]:
            url = server.new_database().text
            return {**embedded(), "INGEST_DATABASE_URL": url}

        yield server, {"SQLite": embedded, "PostgreSQL": on_postgres}


def settings_of(site: dict[str, str]) -> Settings:
    return load_settings(environment=site)


def submit(store: JobStore, first: int, count: int) -> None:
    for start in range(first, first + count, BATCH):
        with store.together():
            for job_id in range(start, min(start + BATCH, first + count)):
                store.submit(job_id, kind=JobKind.BUNDLE, source=f"/b/{job_id}", fingerprint="f", user="u", holder=None)


def multiply(database: Path | PostgresUrl) -> None:
    """Have very many jobs be like the first."""
    if isinstance(database, PostgresUrl):
        import psycopg

        with psycopg.connect(database.text) as server:
            columns = 'kind, source, fingerprint, "user", state, created, updated, queue, priority'
            numbers = f"generate_series(2, {WAITING}) AS numbers(number)"
            server.execute(f"INSERT INTO jobs (job_id, {columns}) SELECT number, {columns} FROM jobs, {numbers}")
            server.execute("ANALYZE")  # as the server does by itself, a minute later
        return
    with closing(sqlite3.connect(database)) as file, file:
        columns = "kind, source, fingerprint, user, state, created, updated"
        numbers = f"WITH RECURSIVE n(number) AS (SELECT 2 UNION ALL SELECT number + 1 FROM n WHERE number < {WAITING})"
        file.execute(f"{numbers} INSERT INTO jobs (job_id, {columns}) SELECT number, {columns} FROM n, jobs")


def no_ops(settings: Settings) -> float:
    """Jobs a second, each of which is leased and noted as complete."""
    with open_store(settings) as store, dispatching(settings, store) as dispatch:
        submit(store, 1, JOBS)
        begun, count = time.perf_counter(), 0
        while (job := dispatch.lease_next()) is not None:
            store.record(job.fence)
            count += 1
        assert count == JOBS
        return count / (time.perf_counter() - begun)


def latencies(settings: Settings) -> tuple[float, float]:
    """The median and the longest of how long the next of very many jobs takes to be had, in milliseconds."""
    with open_store(settings) as store, dispatching(settings, store) as dispatch:
        submit(store, 1, 1)
        multiply(settings.database)
        taken = []
        for _ in range(LOOKS):
            begun = time.perf_counter()
            job = dispatch.lease_next()
            taken.append(1000 * (time.perf_counter() - begun))
            assert job is not None
            store.record(job.fence)
    return statistics.median(taken), max(taken)


def ingest(site: dict[str, str], *words: object) -> None:
    line = [sys.executable, "-m", "ingest_cli", *map(str, words)]
    subprocess.run(line, env={**os.environ, **site}, check=True, stdout=subprocess.DEVNULL)


def bundles_per_second(site: dict[str, str], bundles: list[Path], workers: int) -> tuple[float, float]:
    """Bundles a second, and the processor milliseconds of the workers for each."""
    ingest(site, "--queue", "-q", *bundles)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ingest(site, "worker", "--until-empty", "-q", "-n", workers)
    took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return len(bundles) / took, 1000 * used / len(bundles)


def processor_seconds(server: PostgresServer) -> float:
    """What the server and the processes that it has and had used."""
    pids = [server.pid, *map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split())]
    ticks = os.sysconf("SC_CLK_TCK")
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    # Of the server, with those of its processes that have ended.
    return sum(sum(map(int, stat[11 : 15 if number == 0 else 13])) for number, stat in enumerate(stats)) / ticks


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        bundles = [write_bundle(folder / f"{n}.tar", {f"data/{n}": os.urandom(1024)}) for n in range(JOBS)]
        with sites(folder) as (server, kinds):
            for name, new in kinds.items():
                print(f"{name}: {no_ops(settings_of(new())):.0f} jobs without work a second", flush=True)
            for name, new in kinds.items():
                median, longest = latencies(settings_of(new()))
                print(f"{name}: the next of {WAITING:,} jobs: {median:.2f} ms, at most {longest:.2f} ms", flush=True)
            for workers in WORKERS:
                for name, new in kinds.items():
                    before = processor_seconds(server)
                    rate, own = bundles_per_second(new(), bundles, workers)
                    theirs = 1000 * (processor_seconds(server) - before) / len(bundles)
                    print(
                        f"{name}, {workers} workers: {rate:.0f} bundles a second; for each {own:.1f} ms of a processor,"
                        f" and {theirs:.1f} ms of the server's",
                        flush=True,
                    )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""What rows take in PostgreSQL, and what is asked of many takes:  python -m tests.benchmarks.growth [JOBS [MANY]]

Starts a server, has JOBS jobs (100,000 unless told) go through their states by SQL, each of FILES files, and prints for
each table the bytes of a row and of its part of each index. Then MANY jobs (1,000,000 unless told) are put into a job
store of SQLite and one of PostgreSQL, and it prints the milliseconds that each takes for what is asked most.
"""

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from ingest_cli.jobs.filter import JobFilter
from ingest_cli.jobs.job import JobStatus
from ingest_cli.jobs.postgres_migrations import ADDED_UP
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.server.metrics import exposition
from ingest_cli.services.factory import connect
from ingest_cli.settings import Settings, load_settings

from ..support import history
from ..support.postgres import PostgresServer, serving_postgres

JOBS, MANY = (int(text) for text in (*sys.argv[1:], *("100_000", "1_000_000")[len(sys.argv) - 1 :]))
FILES, BATCH, ROUNDS = 10, 100, 11
# As stages change, which is what a row goes through; most of these change no index.
STAGES = ("open tar", "load metadata", "Policy Validation", "ingest files", "ingest metadata")
HOLDER = '{"host": "worker-17", "pid": 12345, "started": "123456789", "boot": "%s", "namespace": "pid:[4026531836]"}'
QUEUED = """
    INSERT INTO jobs (job_id, kind, source, fingerprint, "user", state, created, updated, digest)
    SELECT n, 'bundle', 's3://ingest/spool/2026-11-29/' || md5(n::text) || '.tar', n || ':' || n * 1000 || ':' || n,
        'user' || n %% 60, 'queued', '2026-11-29 00:00:00.000000', '2026-11-29 00:00:00.000000', NULL
    FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""
LEASED = """
    UPDATE jobs SET state = 'running', holder = %(holder)s, fence = fence + 1, attempts = 1,
        began = '2026-11-29 00:00:01.000000', updated = '2026-11-29 00:00:01.000000'
    WHERE job_id BETWEEN %(first)s AND %(last)s
"""
ENTERED = """
    UPDATE jobs SET task = %(stage)s, task_percent = 10, heartbeat = heartbeat + 1, files = 10, bytes = 123456,
        digest = md5(job_id::text) || md5((job_id + 1)::text), updated = '2026-11-29 00:00:02.000000'
    WHERE job_id BETWEEN %(first)s AND %(last)s
"""
SPENT = """
    INSERT INTO stages (job_id, task, seconds)
    SELECT n, %(stage)s, 0.123456 FROM generate_series(%(first)s::bigint, %(last)s) AS n
"""
STORED = """
    INSERT INTO Transactions SELECT n, 10, '1234a', 54, '2026-11-29 00:00:02', md5(n::text) || md5((n + 1)::text)
        FROM generate_series(%(first)s::bigint, %(last)s) AS n;
    INSERT INTO TransactionKeyValue SELECT n, 'Taxonomic Family', 'bacteria'
        FROM generate_series(%(first)s::bigint, %(last)s) AS n;
    INSERT INTO Files
        SELECT n * {files} + f, n, 'scan-' || n || '-' || f || '.raw', 'run-' || n / 100 || '/detector', 123456, 'sha1',
            substr(md5((n * {files} + f)::text) || md5(f::text), 1, 40), 'application/octet-stream',
            '2026-11-29T00:00:00', '2026-11-29T00:00:00'
        FROM generate_series(%(first)s::bigint, %(last)s) AS n, generate_series(0, {files} - 1) AS f
""".replace("{files}", str(FILES))
COMPLETE = """
    UPDATE jobs SET state = 'complete', holder = NULL, task_percent = 100, updated = '2026-11-29 00:00:03.000000'
    WHERE job_id BETWEEN %(first)s AND %(last)s
"""
SIZES = """
    SELECT relname, reltuples::bigint, pg_relation_size(pg_class.oid),
        ARRAY(SELECT i.relname || ' ' || pg_relation_size(i.oid) FROM pg_index, pg_class AS i
            WHERE indrelid = pg_class.oid AND i.oid = indexrelid ORDER BY 1)
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples > 0
    ORDER BY pg_total_relation_size(pg_class.oid) DESC
"""


FAILED = JobFilter(statuses=frozenset({JobStatus.FAILED}))
ASKED: dict[str, Callable[[JobStore], object]] = {
    "the state of one job": lambda store: store.get(MANY // 2),
    "the newest jobs": lambda store: store.select(limit=20),
    "the newest that failed": lambda store: store.select(FAILED, limit=20),
    "how many there are of each state": lambda store: store.tallies(),
    "all metrics": exposition,
    "the next job, where none waits": lambda store: store.lease_next(),
}
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'jobs' AND is_generated = 'NEVER'"


def fill(server: PostgresServer, database: str) -> None:
    """Have all jobs go through their states, some at a time."""
    import psycopg

    with closing(psycopg.connect(server.url(database).text, autocommit=True)) as connection:
        for first in range(1, JOBS + 1, BATCH):
            part = {"first": first, "last": min(first + BATCH - 1, JOBS), "holder": HOLDER % ("b" * 36)}
            connection.execute(QUEUED, part)
            connection.execute(LEASED, part)
            for stage in STAGES:
                connection.execute(ENTERED, {**part, "stage": stage})
                connection.execute(SPENT, {**part, "stage": stage})
            for statement in STORED.split(";"):
                connection.execute(statement, part)
            connection.execute(COMPLETE, part)
        for statement in ADDED_UP:
            connection.execute(statement)
        connection.execute("VACUUM FULL counts, days, stage_seconds")
        connection.execute("VACUUM ANALYZE")


def sizes(server: PostgresServer, database: str) -> Iterator[str]:
    """A line for each table and each index."""
    for table, rows, heap, indexes in server.execute(SIZES, database):
        yield f"  {table:24}{rows:12,} rows {heap / rows:8.1f} bytes each"
        for index in indexes:
            name, size = index.split()
            yield f"    {name:39}{int(size) / rows:8.1f}"
    ((whole,),) = server.execute(f"SELECT pg_database_size('{database}')")
    yield f"  all of it: {whole / JOBS:,.0f} bytes for a job of {FILES} files"


def copy(source: Path, server: PostgresServer, database: str) -> None:
    """Have the jobs of the SQLite file in PostgreSQL, too."""
    import psycopg

    with closing(sqlite3.connect(source)) as old, closing(psycopg.connect(server.url(database).text)) as new:
        found = old.execute("SELECT * FROM jobs")
        theirs = {name for (name,) in new.execute(COLUMNS)}
        names = [column for column, *_ in found.description if column in theirs]
        rows = old.execute(f"SELECT {', '.join(names)} FROM jobs")
        quoted = ", ".join(f'"{name}"' for name in names)
        with new.cursor() as cursor, cursor.copy(f"COPY jobs ({quoted}) FROM STDIN") as copying:
            for row in rows:
                copying.write_row(row)
        for statement in ADDED_UP:
            new.execute(statement)
        new.commit()
    server.execute("VACUUM ANALYZE", database)


def lookups(stores: dict[str, Settings]) -> Iterator[str]:
    """A line for each of what is asked most, with a column for each store."""
    with ExitStack() as stack:
        opened = [stack.enter_context(open_store(settings)) for settings in stores.values()]
        yield f"  {'':34}" + "".join(f"{name:>14}" for name in stores)
        for name, ask in ASKED.items():
            yield f"  {name:34}" + "".join(f"{median_ms(partial(ask, store)):11.2f} ms" for store in opened)


def median_ms(ask: Callable[[], object]) -> float:
    def once() -> float:
        begun = time.perf_counter()
        ask()
        return (time.perf_counter() - begun) * 1000

    return statistics.median(once() for _ in range(ROUNDS))


def main() -> None:
    variables = ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL")
    with tempfile.TemporaryDirectory() as home, serving_postgres() as server:

        def new_site() -> tuple[str, Settings]:
            url = server.new_database().text
            settings = load_settings(environment={"HOME": home, **dict.fromkeys(variables, url)})
            with open_store(settings) as store, connect(settings, store):
                return url.rpartition("/")[2], settings

        database, _ = new_site()
        begun = time.perf_counter()
        fill(server, database)
        print(f"{JOBS:,} jobs of {FILES} files each, in {time.perf_counter() - begun:.0f} s", flush=True)
        print("\n".join(sizes(server, database)), flush=True)
        many = Path(home, "jobs.sqlite3")
        history.fill(many, MANY)
        database, settings = new_site()
        copy(many, server, database)
        print(f"{MANY:,} jobs", flush=True)
        stores = {"SQLite": load_settings(environment={"HOME": home, "INGEST_DB": str(many)}), "PostgreSQL": settings}
        print("\n".join(lookups(stores)), flush=True)


if __name__ == "__main__":
    main()

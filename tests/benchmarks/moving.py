"""What it takes to move an installation:  python -m tests.benchmarks.moving [JOBS]

Starts a PostgreSQL server, with fsync on, and prints for each way the seconds, those of this process's processor, and
the peak of its memory so far.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from ingest_cli import api
from ingest_cli.settings import load_settings

from ..support.history import fill
from ..support.postgres import serving_postgres
from ..support.site import file_of

JOBS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000


def main() -> None:
    with tempfile.TemporaryDirectory() as name, serving_postgres() as server:
        os.environ["XDG_DATA_HOME"] = name
        settings, folder = load_settings(), Path(name)
        database, url = file_of(settings), server.new_database().text
        fill(database, JOBS)
        api.make_databases(settings=settings)
        ways = [(database, f"{folder}/two/"), (folder / "two" / database.name, url), (url, f"{folder}/three/")]
        for title, (source, target) in zip(("to another disk", "to PostgreSQL", "and back"), ways, strict=True):
            begun, used = time.monotonic(), time.process_time()
            moved = api.migrate_store(str(source), target, settings=settings)
            took, cpu = time.monotonic() - begun, time.process_time() - used
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"{title}: {moved[-1].rows:,} rows in {took:.1f} s, {cpu:.1f} s of CPU, {peak} MiB", flush=True)


if __name__ == "__main__":
    main()

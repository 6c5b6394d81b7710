"""What many hosts cost a single job, against the embedded default:  python -m tests.benchmarks.one_job [ROUNDS]

One command ingests one bundle, turn about at sites of three kinds: all embedded; job store, ids and catalogue in
PostgreSQL; and the archive in SeaweedFS besides. Prints medians: of the seconds by the clock, and of the processor's.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..support.bundles import write_bundle
from ..support.object_stores import seaweedfs
from ..support.postgres import serving_postgres

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
KINDS: dict[str, Callable[[int], dict[str, bytes]]] = {
    "one file of 1 KiB": lambda turn: {f"data/{turn}": os.urandom(1024)},
    "100 files of 64 KiB": lambda turn: {f"data/{turn}/{at}": os.urandom(1 << 16) for at in range(100)},
    "one file of 32 MiB": lambda turn: {f"data/{turn}": os.urandom(32 << 20)},
}


@dataclass
class Site:
    """Where a bundle is ingested, and what that took each time."""

    variables: dict[str, str]
    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def ingest(self, bundle: Path) -> None:
        """Ingest the bundle, and note what it took."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        line = [sys.executable, "-m", "ingest_cli", "-q", str(bundle)]
        subprocess.run(line, env={**os.environ, **self.variables}, check=True)
        self.clock.append(time.perf_counter() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as name, serving_postgres() as server:
        folder = Path(name)
        (folder / "objects").mkdir()
        with seaweedfs(folder / "objects") as storage:

            def at_home(kind: str) -> dict[str, str]:
                return {"HOME": str(folder / kind), "XDG_DATA_HOME": str(folder / kind / "data")}

            def on_postgres() -> dict[str, str]:
                names = ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL")
                return dict.fromkeys(names, server.new_database().text)

            sites = {
                "embedded": Site(at_home("embedded")),
                "PostgreSQL": Site({**at_home("postgres"), **on_postgres()}),
                "PostgreSQL, S3": Site({**at_home("s3"), **on_postgres(), **storage.variables(storage.new_bucket())}),
            }
            for kind, files in KINDS.items():
                print(f"{kind}:", flush=True)
                compare(folder, sites, files)


def compare(folder: Path, sites: dict[str, Site], files: Callable[[int], dict[str, bytes]]) -> None:
    """Have each site ingest as many bundles; what the first takes, of which tables are made, is not counted."""
    for turn in range(ROUNDS + 1):
        bundle = write_bundle(folder / "b.tar", files(turn))
        for site in sites.values():
            site.ingest(bundle)
    for name, site in sites.items():
        clock, processor = (statistics.median(taken[1:]) for taken in (site.clock, site.processor))
        print(f"  {name:16}{clock:8.3f} s, {processor:6.3f} s of the processor", flush=True)
        site.clock.clear()
        site.processor.clear()


if __name__ == "__main__":
    main()

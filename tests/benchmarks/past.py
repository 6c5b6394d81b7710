"""What the past costs: each question to a job store of ten jobs, and to one of a million.

python -m tests.benchmarks.past [JOBS [FOLDER]]

The store is filled by SQL, through the real migrations, with jobs of all states, and reasons, days, names and users as
a site has them.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path

from ingest_cli.jobs.database import open_database
from ingest_cli.jobs.migrations import MIGRATIONS
from ingest_cli.jobs.sqlite_rows import time_text

MANY, FEW, ROUNDS = 1_000_000, 10, 5
DAYS = 730
STAGES = ("open tar", "load metadata", "Policy Validation", "ingest files", "ingest metadata")
USERS = [f"user{number}" for number in range(60)]
COMMANDS = {
    "state N": ["state", "7"],
    "state": ["state"],
    "state --failed": ["state", "--failed"],
    "state --since 2d": ["state", "--since", "2d"],
    "state --source GLOB": ["state", "--source", "*/run-7*"],
    "state --user": ["state", "--user", "user7"],
    "stats": ["stats"],
    "stats --json": ["stats", "--json"],
}
# What a job may come to, and how often it does. The newest are still on their way.
ENDS = {"complete": 92, "duplicate": 3, "failed": 3, "discarded": 1, "superseded": 1, "held": 0.1}
REASONS: dict[str, Callable[[random.Random, str], str]] = {
    "open tar": lambda chance, name: f"{name} is no tar file: it ends after {chance.randrange(10**6)} bytes",
    "load metadata": lambda chance, _: f"metadata record {chance.randrange(10**4)} is no object",
    "Policy Validation": lambda _, name: f"the policy refuses {name!r}: its user is none of the proposal's",
    "ingest files": lambda chance, _: f"'data/{chance.randrange(999)}' hashes to sha1 {chance.getrandbits(160):040x}",
    "ingest metadata": lambda _, __: "the catalogue has no such instrument",
}


def fill(path: Path, jobs: int, *, waiting: int = 0, version: int = len(MIGRATIONS), folder: str = "/srv/drop") -> None:
    """A job store at ``path``, as a program of that version left it, of so many jobs that ended and that wait."""
    with closing(open_database(path, MIGRATIONS[:version], "job store").conn) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        numbered = zip(count(1), _jobs(random.Random(7), jobs, waiting, folder), strict=False)
        while rows := [{"job_id": number, **row} for number, row in islice(numbered, 50_000)]:
            with connection:
                columns = ", ".join(rows[0])
                marks = ", ".join(f":{column}" for column in rows[0])
                connection.executemany(f"INSERT INTO jobs ({columns}) VALUES ({marks})", rows)
                stages = ((row["job_id"], stage, 0.01) for row in rows for stage in STAGES if row["state"] != "queued")
                connection.executemany("INSERT INTO stages VALUES (?, ?, ?)", stages)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _jobs(chance: random.Random, jobs: int, waiting: int, folder: str) -> Iterator[dict[str, object]]:
    now = datetime.now(UTC)
    states = chance.choices(list(ENDS), list(ENDS.values()), k=jobs) + ["queued"] * waiting
    for number, state in enumerate(states):
        updated = time_text(now - timedelta(days=DAYS) * (1 - number / len(states)))
        name = f"{folder}/run-{number}.tar"
        stage = chance.choice(STAGES) if state in ("failed", "held") else "ingest metadata"
        yield {
            "kind": "bundle",
            "source": name,
            "fingerprint": f"{number}:{number * 1000}:{number}",
            "user": USERS[min(int(chance.expovariate(0.1)), len(USERS) - 1)],
            "state": state,
            "task": stage,
            "task_percent": 100,
            "exception": REASONS[stage](chance, name) if state in ("failed", "held") else "",
            "created": updated,
            "updated": updated,
            "began": updated,
            "digest": f"{chance.getrandbits(256):064x}",
            "files": number % 50,
            "bytes": number * 997 % 10**9,
            "attempts": int(state != "queued"),
            "fence": 1,
            "successor": max(1, number - 5) if state in ("duplicate", "superseded") else None,
        }


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else MANY
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as name:
        sites = {number: Path(name, str(number)) for number in (FEW, jobs)}
        for number, folder in sites.items():
            begun = time.monotonic()
            fill(folder / "pacifica-ingest-cli" / "jobs.sqlite3", number)
            print(f"{number:,} jobs made in {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
        for title, words in COMMANDS.items():
            compare(title, words, sites)


def compare(title: str, words: list[str], sites: dict[int, Path]) -> None:
    """Processor time, memory and wall time of a command, turn about."""
    runs: dict[int, list[tuple[float, float, int]]] = {number: [] for number in sites}
    for _ in range(ROUNDS + 1):
        for number, folder in sites.items():
            runs[number].append(run(words, folder))
    told = []
    for number, found in runs.items():
        cpu, wall = (statistics.median(row[column] for row in found[1:]) for column in (0, 1))
        told.append(f"{number:,}: {cpu * 1000:.0f} ms of CPU, {wall * 1000:.0f} ms, {found[-1][2] / 1024:.0f} MiB")
    print(f"{title:20} {'; '.join(told)}", flush=True)


def run(words: list[str], folder: Path) -> tuple[float, float, int]:
    """The processor time, the time by the clock, and the peak memory in KiB of a command."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "ingest_cli", *words]
    process = subprocess.Popen(command, env={**os.environ, "XDG_DATA_HOME": str(folder)}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} failed")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - begun, usage.ru_maxrss


if __name__ == "__main__":
    main()

"""A job store as it is after years."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path

from ingest_cli.jobs.sql_rows import time_text
from ingest_cli.jobs.sqlite_database import open_database
from ingest_cli.jobs.sqlite_migrations import MIGRATIONS

DAYS, FOLDER = 730, "/srv/drop"
STAGES = ("open tar", "load metadata", "Policy Validation", "ingest files", "ingest metadata")
USERS = [f"user{number}" for number in range(60)]
# What a job may come to, and how often it does. The newest are still on their way.
ENDS = {"complete": 92, "duplicate": 3, "failed": 3, "discarded": 1, "superseded": 1, "held": 0.1}
REASONS: dict[str, Callable[[random.Random, str], str]] = {
    "open tar": lambda chance, name: f"{name} is no tar file: it ends after {chance.randrange(10**6)} bytes",
    "load metadata": lambda chance, _: f"metadata record {chance.randrange(10**4)} is no object",
    "Policy Validation": lambda _, name: f"the policy refuses {name!r}: its user is none of the proposal's",
    "ingest files": lambda chance, _: f"'data/{chance.randrange(999)}' hashes to sha1 {chance.getrandbits(160):040x}",
    "ingest metadata": lambda _, __: "the catalogue has no such instrument",
}


def fill(
    path: Path, jobs: int, *, waiting: int = 0, version: int = len(MIGRATIONS), days: int = DAYS, folder: str = FOLDER
) -> None:
    """A job store at ``path``, as a program of that version left it, of so many jobs that ended within so many days,
    and so many that wait. Those of a user, a reason and a day are as many as they are at a site."""
    with closing(open_database(path, MIGRATIONS[:version], "job store").conn) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        numbered = zip(count(1), _jobs(random.Random(7), jobs, waiting, days, folder), strict=False)
        while rows := [{"job_id": number, **row} for number, row in islice(numbered, 50_000)]:
            with connection:
                columns = ", ".join(rows[0])
                marks = ", ".join(f":{column}" for column in rows[0])
                connection.executemany(f"INSERT INTO jobs ({columns}) VALUES ({marks})", rows)
                stages = ((row["job_id"], stage, 0.01) for row in rows for stage in STAGES if row["state"] != "queued")
                connection.executemany("INSERT INTO stages VALUES (?, ?, ?)", stages)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _jobs(chance: random.Random, jobs: int, waiting: int, days: int, folder: str) -> Iterator[dict[str, object]]:
    now = datetime.now(UTC)
    states = chance.choices(list(ENDS), list(ENDS.values()), k=jobs) + ["queued"] * waiting
    for number, state in enumerate(states):
        updated = time_text(now - timedelta(days=days) * (1 - number / len(states)))
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

"""What the past costs: each question to a job store of ten jobs, and to one of a million.

python -m tests.benchmarks.past [JOBS [FOLDER]]

The store is filled by SQL, through the real migrations, with jobs of all states, and reasons, days, names and users as
a site has them.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..support.history import fill

MANY, FEW, ROUNDS = 1_000_000, 10, 5
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

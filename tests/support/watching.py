"""What tests of drop folders share."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ingest_cli.bundle.fingerprint import fingerprint
from ingest_cli.jobs.store import open_store
from ingest_cli.services.factory import connect
from ingest_cli.settings import load_settings

from .bundles import FILES
from .command import Command
from .site import Site, file_of

SETTLE = 0.6


def looks_on(pid: int) -> bool:
    """Whether the kernel tells the process of changes by now."""
    with suppress(FileNotFoundError):
        return any("inotify wd:" in path.read_text() for path in Path(f"/proc/{pid}/fdinfo").iterdir())
    return False


def settled(site: Site, count: int = 1) -> bool:
    """Whether there are so many jobs, and all have ended."""
    if not site.database.exists():
        return False
    jobs = site.jobs()
    return len(jobs) == count and all(job.is_done or job.has_failed for job in jobs)


def once(command: Command, drop: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A single run that has no patience."""
    return command("watch", "--once", "--settle", 0.05, "--patience", 0, drop, *words)


def visible(drop: Path) -> list[str]:
    """The names in a folder that are not hidden."""
    return sorted(path.name for path in drop.iterdir() if not path.name.startswith("."))


def make_folder(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    """A folder that is packed into a bundle of these files."""
    for name, content in (FILES if files is None else files).items():
        path = folder / name.removeprefix("data/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def bare(line: list[str]) -> list[str]:
    """The command line of a process that may read only what it is allowed to."""
    if os.getuid() != 0:
        return line
    if shutil.which("setpriv") is None:
        pytest.skip("root reads everything, and there is no setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *line]


def without_privileges(line: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command line that may read only what it is allowed to."""
    return subprocess.run(bare(line), capture_output=True, text=True, check=False)


def without_inotify(line: list[str]) -> list[str]:
    """The command line of a process for which the kernel has nothing left to tell of files; skips where that is not
    possible."""
    limit = "echo 0 > /proc/sys/user/max_inotify_instances"
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    if subprocess.run(["unshare", "-r", "sh", "-c", limit], capture_output=True, check=False).returncode:
        pytest.skip("this system gives no user namespaces")
    return ["unshare", "-r", "sh", "-c", f'{limit}; exec "$@"', "sh", *line]


def fill_with_ingested(drop: Path, count: int) -> None:
    """So many files that were ingested and stay, as the job store has it; there is nothing in them."""
    settings = load_settings()
    with connect(settings) as services, open_store(settings):  # which makes it
        first = services.unique_id.reserve("upload_job", count)
    rows = []
    for job_id in range(first, first + count):
        path = drop / f"{job_id}.tar"
        path.touch()
        rows.append((job_id, "bundle", str(path), fingerprint(path), "u", "complete", "", ""))
    columns = "job_id, kind, source, fingerprint, user, state, created, updated"
    with closing(sqlite3.connect(file_of(settings))) as connection, connection:
        connection.executemany(f"INSERT INTO jobs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def seconds_of(pid: int) -> float:
    """The processor time of a process, and of those that it started."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_bytes().rpartition(b")")[2].split()
            if pid in (int(stat.parent.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")

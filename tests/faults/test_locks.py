"""A file system that gives no locks: that is said, not that another process has them, and nothing is given up."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.jobs.database import writing
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.settings import Timings

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.pacifica_double import PacificaSite
from ..support.site import Site

# Locks that are held are waited for.
pytestmark = pytest.mark.sweep

SOURCE = Path(__file__).parents[1] / "support" / "no_locks.c"


@pytest.fixture(scope="module")
def no_locks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a program that gets none."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc, which makes a file system without locks")
    library = tmp_path_factory.mktemp("library") / "no_locks.so"
    line = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    made = subprocess.run(line, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a file system without locks cannot be made: {made.stderr.strip()}")
    return {"LD_PRELOAD": str(library)}


def says(command: Command, environment: dict[str, str], *words: object, stdin: bytes = b"") -> str:
    line = command.line(*words, timings={"busy": 0.1})
    done = subprocess.run(line, input=stdin, capture_output=True, env={**os.environ, **environment})
    assert done.returncode == ExitCode.UNREACHABLE, done.stderr
    said = done.stderr.decode()
    assert "Traceback" not in said
    return said


def test_a_database(command: Command, site: Site, no_locks: dict[str, str], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    for _ in range(2):
        assert "its file system gives no locks" in says(command, no_locks, bundle)
        site.ingest(write_bundle(tmp_path / "other.tar", {"data/other": b"x"}))
    assert command(bundle).returncode == 0


def test_a_lock_that_another_process_has_is_told_from_none(command: Command, site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with SqliteJobStore(site.database, Timings()) as store, writing(store._database):
        said = says(command, {}, write_bundle(tmp_path / "c.tar", {"data/c": b"c"}))
    assert f"cannot write to {site.database} now: database is locked" in said


@pytest.mark.parametrize("place", ["spool", "transfer"])
def test_a_file(
    command: Command, site: Site, no_locks: dict[str, str], tmp_path: Path, pacific: PacificaSite, place: str
) -> None:
    """Only what is not in a database: SQLite's own locks are those of another disk."""
    environment = {**no_locks, "ONLY_FLOCK": "1"}
    bundle = write_bundle(tmp_path / "b.tar")
    if place == "spool":
        said = says(command, environment, "-q", "-", stdin=bundle.read_bytes())
        assert f"cannot write into {site.settings.spool}: No locks available" in said
        assert list(site.settings.spool.iterdir()) == []
    else:
        said = says(command, environment, "-q", bundle)
        assert "jobs.sqlite3-transfer: No locks available" in said
        assert site.job(1).is_deferred
    assert command("-q", bundle).returncode == 0
    assert set(pacific.files.values()) == set(FILES.values())

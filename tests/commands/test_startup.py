"""Commands that do little start quickly: what is heavy is imported where it is used."""

import subprocess
import sys

import pytest

from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.settings import Timings, load_settings

HEAVY = {"requests", "urllib3", "tarfile", "concurrent.futures", "jsonschema", "rich.progress", "starlette", "watchdog"}


@pytest.mark.parametrize("words", [["--help"], ["state"], ["config"], ["help", "watch"]])
def test_heavy_modules_are_not_imported(words: list[str]) -> None:
    SqliteJobStore(load_settings().database, Timings()).__exit__(None, None, None)
    program = (
        "import sys\nfrom ingest_cli.cli import app\n"
        f"try: app({words!r})\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stderr.split())

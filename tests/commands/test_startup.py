"""Commands that do little start quickly: what is heavy is imported where it is used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_cli.cli.commands import SUMMARIES, Commands
from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.settings import Timings, load_settings

from ..support.bundles import write_bundle
from ..support.site import file_of

HEAVY = {
    "asyncio",
    "concurrent.futures",
    "jsonschema",
    "pydantic",
    "requests",
    "rich.console",
    "sqlite_utils",
    "starlette",
    "tarfile",
    "urllib3",
    "watchdog",
}
OF_MANY = re.compile(r"^(psycopg|procrastinate|obstore)|\.postgres|\.procrastinate|services\.s3|spool\.(rows|shared)")


@pytest.mark.parametrize("words", [["--help"], ["state"], ["state", "1"], ["config"], ["help", "watch"]])
def test_heavy_modules_are_not_imported(words: list[str]) -> None:
    SqliteJobStore(file_of(load_settings()), Timings()).__exit__(None, None, None)
    program = (
        "import sys\nfrom ingest_cli.cli import app\nfrom ingest_cli.errors import IngestError\n"
        f"try: app({words!r})\nexcept (SystemExit, IngestError): pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stderr.split())


def test_one_machine_needs_nothing_of_many(environment: Path) -> None:
    bundle = str(write_bundle(environment / "b.tar", {"data/a": b"a"}))
    commands = [["--queue", bundle], ["worker", "--once"], ["state"], ["stats"], ["retry", "1"], ["verify", "--all"]]
    commands += [
        ["restore", "1", "--to", str(environment / "back")],
        ["prune"],
        ["doctor"],
        ["hosts"],
        ["find", "--job", "1"],
    ]
    program = (
        "import sys\nfrom ingest_cli.cli import app\nfrom ingest_cli.errors import IngestError\n"
        f"for words in {commands!r}:\n"
        "    try: app(words)\n    except (SystemExit, IngestError): pass\n"
        "from ingest_cli.server.app import application\nfrom ingest_cli.server.spools import spool_of\n"
        "from ingest_cli.settings import load_settings\nspool_of(load_settings()).key('')\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = done.stderr.splitlines()[-1].split()
    assert "ingest_cli.pipeline.run" in found
    assert [name for name in found if OF_MANY.search(name)] == []


def test_a_run_imports_no_command_but_its_own() -> None:
    program = (
        "import sys\nfrom ingest_cli.cli import app, commands\n"
        "try: app(['state', '--help'])\nexcept SystemExit: pass\n"
        'names = {f\'ingest_cli.cli.{name.replace("-", "_")}\' for name in commands.SUMMARIES}\n'
        "print(*names & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["ingest_cli.cli.state"]


def test_the_list_of_commands_says_what_the_help_of_each_begins_with() -> None:
    assert {name: command.help.partition("\n\n")[0] for name, command in Commands().items()} == SUMMARIES

"""ingest-python(7) names all that can be called, and its programs do what is said of them."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import ingest_cli

from ..support.bundles import FILES, write_bundle
from ..support.serving import Server
from ..support.site import Site

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "man" / "ingest-python.7").read_text("utf-8")
EXAMPLES = [ROOT / "tests" / "examples" / name for name in ("nightly.py", "send.py")]
NIGHTLY, SEND = EXAMPLES


Capture = pytest.CaptureFixture[str]


def run(program: Path, *words: object) -> str | int | None:
    """Run it as a program in this process; what it ends with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(program), *map(str, words)])
        try:
            runpy.run_path(str(program), run_name="__main__")
        except SystemExit as ended:
            return ended.code
    return None


def test_the_page_names_all_that_can_be_called() -> None:
    called = re.search(r"^\.Sh WHAT CAN BE CALLED\n(.*?)^\.Sh ", PAGE, re.M | re.S)
    assert called is not None
    named = [name for line in re.findall(r"^\.It Li (.+)$", called[1], re.M) for name in line.split(" , ")]
    assert sorted(named) == sorted(ingest_cli.__all__)


def test_the_page_has_the_programs() -> None:
    """These are files too, so that they are type-checked with all else."""
    shown = re.findall(r"^\.Bd -literal.*\n((?:(?!\.Ed$).*\n)*)\.Ed$", PAGE, re.M)
    assert shown == [path.read_text("utf-8") for path in EXAMPLES]


def test_bundles_of_a_folder(site: Site, tmp_path: Path, capsys: Capture) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    write_bundle(drop / "a.tar", {"data/night/notes.txt": b"Clear sky."})
    (drop / "b.tar").write_bytes(b"no tar")
    write_bundle(drop / "c.tar", FILES)
    assert run(NIGHTLY, drop) == 1
    ingested, refused, other, found = capsys.readouterr().out.splitlines()
    assert ingested == "a.tar: job 1 is complete, 1 files"
    assert refused.startswith(f"b.tar: {drop}/b.tar is not a tar")
    assert refused.endswith(" (never)")
    assert other == f"c.tar: job 2 is complete, {len(FILES)} files"
    assert found == "job 1: data/night/notes.txt: Clear sky."
    site.file(1).write_bytes(b"Dark night")
    assert "data/night/notes.txt" in str(run(NIGHTLY, drop))


@pytest.fixture
def server(environment: Path) -> Iterator[Server]:
    with Server(environment) as server:
        yield server


def test_a_folder_is_sent(server: Server, site: Site, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "run7"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"1")
    (folder / "a.tmp").write_bytes(b"2")
    assert run(SEND, server.url, folder) is None
    assert capsys.readouterr().out == f"{folder}: job 1\n"
    assert site.contents() == {"data/a.txt": b"1"}


@pytest.mark.sweep
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_who_uses_the_package_can_type_check_strictly(tmp_path: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", tmp_path, *EXAMPLES],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout

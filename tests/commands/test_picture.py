"""The picture in the README shows what the program writes."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / ".github" / "ingest.svg"


def shown() -> list[str]:
    """The lines of text of the picture."""
    lines: dict[str, str] = {}
    for text in ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text"):
        line = text.get("clip-path", "")
        lines[line] = lines.get(line, "") + (text.text or "")
    return [alike(text) for line, text in lines.items() if line and text.strip()]


def alike(line: str) -> str:
    """The line without what differs from run to run, which is how far the display was, and without blanks."""
    return "".join(re.sub(r"[━─]+", "━", re.sub(r"\d", "", line)).split())


@pytest.mark.sweep
def test_it_shows_what_the_program_writes() -> None:
    pytest.importorskip("pexpect", reason="pexpect is not installed")
    pytest.importorskip("pyte", reason="pyte is not installed")
    done = subprocess.run(
        [sys.executable, ROOT / ".github" / "picture.py", "--text"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    written = [alike(line) for line in done.stdout.splitlines()]
    assert shown() == [line for line in written if line], "draw it again: .github/picture.py"


def test_it_tells_nothing_of_the_machine_that_drew_it_and_loads_nothing() -> None:
    text = PICTURE.read_text("utf-8")
    assert not re.search(r"/tmp|/root|url\(['\"]?http|href", text)
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)

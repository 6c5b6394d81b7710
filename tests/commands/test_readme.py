"""The README is short, what it links to is there, and what it and the manual show to be typed is understood."""

import re
import shlex
from pathlib import Path

import pytest

from ..support.commands import commands

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "man").iterdir())


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").split()) <= 900


def test_every_link_of_the_readme_is_alive() -> None:
    readme = README.read_text("utf-8")
    titles = re.findall(r"^#+ (.+)$", readme, re.M)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert links
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / link).exists(), link


def commands_in(text: str) -> list[list[str]]:
    """The words of every command of ours that a shell, a unit or a crontab is to run."""
    parts = re.split(r"\n| && | \|", text.replace("\\e\n", " "))
    found = [re.search(r"(?:^|[ =]|bin/)(?:ingest|IngestCMD) ([^>]+)", part) for part in parts]
    return [shlex.split(match[1].strip().strip("'"), comments=True) for match in found if match]


def shown(page: Path) -> str:
    """What a page shows to be typed, in blocks and in single lines."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^(?:```sh|\.Bd -literal[^\n]*)\n(.*?)^(?:```|\.Ed)$", text, re.M | re.S)
    return "\n".join([*blocks, *re.findall(r"^\.Dl (.*)$", text, re.M)])


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: path.name)
def test_every_command_that_is_shown_is_one(path: Path) -> None:
    known = commands()
    for words in commands_in(shown(path)):
        name, rest = (words[0], words[1:]) if words[0] in known else ("ingest", words)
        known[name].make_context(name, rest)

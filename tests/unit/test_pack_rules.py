"""What a pattern of ``--exclude`` matches, and what is left out because systems put it beside a person's files."""

import re
from pathlib import Path

import pytest

from ingest_cli.bundle.pack_rules import LITTER, PackRules, Reason
from ingest_cli.errors import SettingsError

PAGE = Path(__file__).parents[2] / "man" / "ingest-pack.1"
COMPOSED, DECOMPOSED = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.tmp", "a.tmp sub/a.tmp a.tmp/", "a.tmp.txt a.TMP a.tmpx"),
        ("cache", "cache cache/ sub/cache/", "cached xcache"),
        ("cache/", "cache/ sub/cache/", "cache"),
        ("/cache", "cache cache/", "sub/cache"),
        ("./cache/", "cache/", "sub/cache/ cache"),
        ("raw/old", "raw/old sub/raw/old/", "old raw/x/old"),
        ("raw/*.tmp", "raw/a.tmp x/raw/a.tmp", "a.tmp raw/x/a.tmp"),
        ("/raw/*", "raw/a raw/sub/", "raw/sub/a x/raw/a raw/"),
        ("/raw/**", "raw/a raw/sub/a", "x/raw/a"),
        ("raw/**/a", "raw/a raw/x/a raw/x/y/a z/raw/a", "a x/a raw/b"),
        ("**/a", "a x/a x/y/a", "x/ab"),
        ("[ab]?", "a1 x/b2", "c1 a a12"),
        ("*", "a .hidden sub/a", ""),
        (COMPOSED, f"{COMPOSED} {DECOMPOSED}", "cafe"),
        (DECOMPOSED, f"{COMPOSED} {DECOMPOSED}", "cafe"),
    ],
)
def test_patterns(pattern: str, matching: str, others: str) -> None:
    rules = PackRules(exclude=(pattern,))
    assert [name for name in matching.split() if rules.exclusion(name) is not Reason.EXCLUDED] == []
    assert [name for name in others.split() if rules.exclusion(name) is not None] == []


@pytest.mark.parametrize("pattern", ["", "/", "./", "//"])
def test_a_pattern_that_names_nothing(pattern: str) -> None:
    with pytest.raises(SettingsError, match="names no file"):
        PackRules(exclude=(pattern,))


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".DS_Store",
            "._a.txt",
            "THUMBS.DB",
            "Desktop.ini",
            "__MACOSX/",
            "$Recycle.Bin/",
            "System Volume Information/",
        ),
        *(".nfs000000000a2b3c4d00000001", ".Trash-1000/", "lost+found/"),
    ],
)
def test_litter(name: str) -> None:
    for path in (name, f"sub/{name}"):
        assert PackRules().exclusion(path) is Reason.LITTER
        assert PackRules(default_excludes=False).exclusion(path) is None
        assert PackRules(exclude=(name,)).exclusion(path) is Reason.EXCLUDED


@pytest.mark.parametrize("name", ["DS_Store", "my.DS_Store", "thumbs.db.txt", ".nfsrc", ".hidden", "_a", ".DS_Store\n"])
def test_what_is_no_litter(name: str) -> None:
    assert PackRules().exclusion(name) is None


def test_the_page_names_the_litter() -> None:
    text = PAGE.read_text("utf-8").partition(".Fl -no-default-excludes\nis given:\n")[2].partition(".It ")[0]
    names = " ".join(re.findall(r"^\.Pa (.+)$", text, re.M)).removesuffix(" .")
    assert tuple(names.split(" , ")) == LITTER

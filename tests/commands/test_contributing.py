"""What is written for those who carry on is true of the source: every path and name that it gives is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOOKS = sorted((ROOT / ".github").glob("*.md"))
# Where something is yet to be written.
TO_COME = {"ingest_cli/cli/NAME.py", "man/ingest-NAME.1", "tests/commands/test_NAME.py"}


def quoted(book: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", book.read_text("utf-8"), flags=re.M | re.S)
    return set(re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.name)
def test_every_path_is_there(book: Path) -> None:
    paths = {word for word in quoted(book) if re.fullmatch(r"\.?[\w.-]+(/[\w.-]*)+|[\w-]+\.(py|toml|md)", word)}
    for path in paths - TO_COME:
        assert any((folder / path).exists() for folder in (ROOT, ROOT / "ingest_cli")), path


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.name)
def test_every_link_is_alive(book: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", book.read_text("utf-8")):
        assert (book.parent / link).exists(), link


def test_every_name_that_the_map_gives_is_in_the_file_that_it_gives() -> None:
    rows = re.findall(r"`([A-Za-z_]+)`[^`|]*in `(ingest_cli/[\w/.]+)`", (ROOT / ".github/SOURCE.md").read_text("utf-8"))
    assert len(rows) > 4
    for name, path in rows:
        files = [ROOT / path] if (ROOT / path).is_file() else sorted((ROOT / path).glob("*.py"))
        assert any(re.search(rf"\b{name}\b", file.read_text("utf-8")) for file in files), (name, path)


def test_the_map_has_every_wing() -> None:
    text = (ROOT / ".github" / "SOURCE.md").read_text("utf-8")
    wings = {path.parent.name for path in (ROOT / "ingest_cli").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` ", text, re.M)) == wings


def test_every_tier_is_described() -> None:
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")} - {"support"}
    assert set(re.findall(r"^\| `tests/(\w+)` ", text, re.M)) == folders

"""The manual's pages: where they lie, and which one a topic has."""

import re
from pathlib import Path

# Beside the modules in an installed package; beside the package in a checkout.
FOLDERS = (Path(__file__).parents[1] / "man", Path(__file__).parents[2] / "man")


def folder() -> Path:
    """The folder of the pages."""
    return next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])


def topics() -> dict[str, Path]:
    """The page of each topic: a command, or another one such as ``bundle``.

    Where a command has the name, the other page is ``config.5``.
    """
    found: dict[str, Path] = {}
    pages = [*folder().glob("ingest-*.[1-8]"), *folder().glob("pacifica-ingest.1")]
    for page in sorted(pages, key=lambda page: (page.suffix, page.stem)):
        found[f"{_name(page)}{page.suffix}" if _name(page) in found else _name(page)] = page
    return found


def page_of(topic: str) -> Path | None:
    """The page of a topic, which may be written as it stands in the pages: ``ingest-config(5)``."""
    pages = topics()
    every = pages | {f"{_name(page)}{page.suffix}": page for page in pages.values()}
    return every.get(topic.removeprefix("ingest-").replace("(", ".").removesuffix(")"))


def summary(topic: str) -> str | None:
    """What the page of a command says that it does, in a sentence; None where the manual is not there."""
    try:
        found = re.search(r"^\.Nd (.+)$", (folder() / f"ingest-{topic}.1").read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return f"{found[1][0].upper()}{found[1][1:]}." if found is not None else None


def _name(page: Path) -> str:
    return page.stem.removeprefix("ingest-")

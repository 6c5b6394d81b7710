"""``ingest help [TOPIC]``: the manual, even where it is not on the path of ``man``, or where there is no ``man``."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import SettingsError
from .command import command

# Beside the modules in an installed package; beside the package in a checkout.
FOLDERS = (Path(__file__).parents[1] / "man", Path(__file__).parents[2] / "man")
MIN_WIDTH, MAX_WIDTH = 60, 100


def _folder() -> Path:
    return next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])


def topics() -> dict[str, Path]:
    """The page of each topic: a command, or another one such as ``bundle``.

    Where a command has the name, the other page is ``config.5``.
    """
    found: dict[str, Path] = {}
    for page in sorted(_folder().glob("ingest-*.[1-8]"), key=lambda page: (page.suffix, page.stem)):
        found[f"{_name(page)}{page.suffix}" if _name(page) in found else _name(page)] = page
    return found


def summary(topic: str) -> str | None:
    """What the page of a command says that it does, in a line; None where the manual is not there."""
    try:
        found = re.search(r"^\.Nd (.+)$", (_folder() / f"ingest-{topic}.1").read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return f"{found[1][0].upper()}{found[1][1:]}." if found is not None else None


def topic_names() -> list[str]:
    """The topics that a shell completes."""
    return list(topics())


@command
def help(
    topic: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC", help="A command, or another topic such as bundle.", autocompletion=topic_names),
    ] = None,
) -> None:
    """Show the manual page of a command or topic."""
    page = _page(topic) if topic is not None else _folder() / "ingest.1"
    if not sys.stdout.isatty():
        print(_text(page), end="")
    elif not _shown_by_man(page):
        import pydoc

        pydoc.pager(_text(page))


def _name(page: Path) -> str:
    return page.stem.removeprefix("ingest-")


def _page(topic: str) -> Path:
    pages = topics()
    every = pages | {f"{_name(page)}{page.suffix}": page for page in pages.values()}
    # As it stands in the pages, too: ingest-config(5).
    page = every.get(topic.removeprefix("ingest-").replace("(", ".").removesuffix(")"))
    if page is None:
        raise SettingsError(f"there is no manual page {topic!r}; the topics are {', '.join(pages)}")
    return page


def _text(page: Path) -> str:
    import shutil

    from .mdoc import render

    width = min(max(shutil.get_terminal_size().columns, MIN_WIDTH), MAX_WIDTH)
    return render(page.read_text("utf-8"), width)


def _shown_by_man(page: Path) -> bool:
    """Whether a program that knows manual pages has shown this one, in its pager."""
    import shutil
    import subprocess

    from .signals import undisturbed

    with undisturbed():  # Ctrl-C is the pager's
        for name, *options in (["man"], ["mandoc", "-a"]):
            program = shutil.which(name)
            if program is None or _is_stub(Path(program)):
                continue
            # What holds a slash is a file, for the man of Linux as for that of the BSDs.
            if subprocess.run([program, *options, str(page)], check=False).returncode == 0:
                return True
    return False


def _is_stub(program: Path) -> bool:
    """Whether this ``man`` only says that the manual was left out, as in small images of Debian; it exits 0."""
    with program.open("rb") as file:
        return b"minimized" in file.read(4096)

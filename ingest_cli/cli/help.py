"""``ingest help [TOPIC]``: the manual, even where it is not on the path of ``man``, or where there is no ``man``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import SettingsError
from .command import command
from .pages import folder, page_of, topics

MIN_WIDTH, MAX_WIDTH = 60, 100


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
    page = _page(topic) if topic is not None else folder() / "ingest.1"
    if sys.stdout is None or not sys.stdout.isatty():
        print(_text(page), end="")
    elif not _shown_by_man(page):
        import pydoc

        pydoc.pager(_text(page))


def _page(topic: str) -> Path:
    page = page_of(topic)
    if page is None:
        raise SettingsError(f"there is no manual page {topic!r}; the topics are {', '.join(topics())}")
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

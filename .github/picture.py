"""Draws ``.github/ingest.svg``, the picture in the README, from what the program writes to a terminal.

    .venv/bin/python .github/picture.py

Two shells are shown, one above the other: the upper one ingests two bundles and is caught in the middle of the second;
the lower one looks on. What is different each time (times, rates, folders) is put in by hand, so that the picture
changes only where the program does. ``--text`` prints its lines instead.
"""

import io
import os
import re
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.bundles import document_for, write_bundle  # noqa: E402
from tests.support.command import Command  # noqa: E402
from tests.support.pacifica_double import Handler, PacificaSite  # noqa: E402
from tests.support.terminal import Terminal  # noqa: E402

PICTURE = ROOT / ".github" / "ingest.svg"
COLUMNS, WIDE, ROWS = 96, 300, 24
MONDAY, TUESDAY, CAUGHT_AFTER = 12, 48, 31
FILE_BYTES = 1 << 20
PROMPT = Text("$ ", "bold #98c379")
DIVIDER = Text("─" * COLUMNS, "#4b5263")

# In place of what is different each time.
ALIKE = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-24 09:30:12"),
    (r"\d+\.\d [kM]B/s", "64.0 MB/s"),
    (r"\d:\d\d:\d\d left", "0:00:01 left"),
    (r"\b\d+ s ago", "3 s ago"),
]
SHOWN = "/home/ada"
# Pictures in a README load nothing from elsewhere.
FONTS = "'Fira Code', ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def main() -> None:
    """Draw the picture, or print its text."""
    lines = transcript()
    if "--text" in sys.argv:
        print("\n".join(line.plain for line in lines))
        return
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", highlight=False)
    svg = console.export_svg(title="ingest", theme=SVG_EXPORT_THEME, unique_id="ingest")
    svg = re.sub(r"\s*@font-face \{.*?\}\n", "", svg, flags=re.S)
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {FONTS}")
    PICTURE.write_text(re.sub(r"[ \t]+$", "", svg, flags=re.M), "utf-8")


def transcript() -> list[Text]:
    """What stands on the screen, line by line."""
    with short_folder() as folder, PacificaSite() as services:
        make_bundles(folder)
        environment = {**services.environment(), **own_folders(folder)}
        services.seconds_a_file = 0.03
        let_go = hold_after(services, MONDAY + CAUGHT_AFTER)

        def seen(words: str) -> list[Text]:
            # The folder's real name may be long: it is exchanged for a short one below.
            terminal = Terminal(folder, Command.line(*words.split()), columns=WIDE, environment=environment)
            terminal.end()
            return [typed(f"ingest {words}"), *drawn(terminal, WIDE), Text()]

        try:
            working = Terminal(
                folder, Command.line("monday.tar", "tuesday.tar"), columns=COLUMNS, environment=environment
            )
            caught = f"{CAUGHT_AFTER} of {TUESDAY} files stored"
            # Rate and time left are told once the display has seen the number grow.
            working.until(lambda lines: any(caught in line and "left" in line for line in lines))
            upper = [typed("ingest monday.tar tuesday.tar"), *drawn(working)]
            time.sleep(2.0)  # a heartbeat says once a second how far the job is
            lower = seen("state") + seen("check draft.tar")
        finally:
            let_go.set()
        assert working.end() == 0
        # The archive takes one request at a time, and one is kept waiting until here.
        lower += seen("verify 1")
    return [alike(line, folder) for line in [*upper, Text(), DIVIDER, *lower[:-1]]]


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is as long as the one that is shown, so that what stands behind it keeps its column."""
    folder = Path("/tmp", secrets.token_hex(2))
    assert len(str(folder)) == len(SHOWN)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def make_bundles(folder: Path) -> None:
    """Two bundles, and one with two mistakes."""
    for day, count in (("monday", MONDAY), ("tuesday", TUESDAY)):
        scans = {f"data/{day}/scan-{number:03}.dat": os.urandom(FILE_BYTES) for number in range(count)}
        write_bundle(folder / f"{day}.tar", scans)
    files = {"data/spectrum.csv": b"400,0.12\n", "data/run.log": b"ready\n"}
    document = document_for(files)
    document[-1]["mimetype"] = "log"
    write_bundle(folder / "draft.tar", {"data/run.log": files["data/run.log"]}, document)


def own_folders(folder: Path) -> dict[str, str]:
    """Variables by which nothing of this account is read or written."""
    home = folder / "home"
    return {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "XDG_CONFIG_HOME": str(home / "config")}


def hold_after(services: PacificaSite, count: int) -> threading.Event:
    """Have the archive take so many files and keep the next one waiting until the event is set."""
    let_go, taken = threading.Event(), 0

    def hold(handler: Handler) -> bool:
        nonlocal taken
        if handler.command == "PUT" and handler.path != "/ingest":
            taken += 1
            if taken > count:
                let_go.wait(60)
        return False

    services.guard = hold
    return let_go


def typed(command: str) -> Text:
    """A command at its prompt."""
    return Text.assemble(PROMPT, (command, "bold #ffffff"))


def drawn(terminal: Terminal, columns: int = COLUMNS) -> list[Text]:
    """The lines of a terminal, with their colours, as far as something was written."""
    screen = pyte.Screen(columns, ROWS)
    pyte.Stream(screen).feed(dimmed(terminal.raw))
    lines = [Text.assemble(*(cell(screen.buffer[row][column]) for column in range(columns))) for row in range(ROWS)]
    for line in lines:
        line.rstrip()
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def dimmed(raw: str) -> str:
    """The same with dim text in another colour, since the drawn terminal knows none."""
    return re.sub(r"\x1b\[2m", "\x1b[90m", raw)


def cell(char: pyte.screens.Char) -> tuple[str, Style]:
    """A letter and how it looks."""
    colours = {"default": None, "brown": "yellow", "brightblack": "#7f848e"}
    colour = colours.get(char.fg, char.fg)
    return char.data, Style(color=colour, bold=char.bold or None)


def alike(line: Text, folder: Path) -> Text:
    """The line as it is each time the picture is drawn. Styles stay where the text keeps its length."""
    plain = line.plain.replace(str(folder), SHOWN)
    for pattern, text in ALIKE:
        plain = re.sub(pattern, text, plain)
    if plain == line.plain:
        return line
    return Text(plain, spans=[span for span in line.spans if span.end <= len(plain)])


if __name__ == "__main__":
    main()

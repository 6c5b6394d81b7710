"""``ingest help`` shows a page with what the machine has for it, and with nothing at all."""

import re
import sys
from pathlib import Path

import pytest

from ingest_cli.cli.mdoc import MACROS, render
from ingest_cli.cli.pages import topics

from ..support.command import Command
from ..support.terminal import Terminal

PAGES = sorted((Path(__file__).parents[2] / "man").iterdir())
STUB = "#!/bin/sh\necho 'This system has been minimized by removing packages and content'\n"


def test_a_command(command: Command) -> None:
    done = command("help", "watch")
    assert done.returncode == 0
    assert done.stdout.startswith("INGEST-WATCH(1)\n\nNAME\n     ingest-watch - ")
    assert max(map(len, done.stdout.partition("EXAMPLES")[0].splitlines())) > 60


def test_without_a_topic(command: Command) -> None:
    assert command("help").stdout.startswith("INGEST(1)\n")


@pytest.mark.parametrize(
    ("topic", "title"),
    [
        ("bundle", "INGEST-BUNDLE(5)"),
        ("ingest", "INGEST-INGEST(1)"),
        ("ingest-watch", "INGEST-WATCH(1)"),
        ("config", "INGEST-CONFIG(1)"),
        ("config.5", "INGEST-CONFIG(5)"),
        ("ingest-config(5)", "INGEST-CONFIG(5)"),
    ],
)
def test_a_topic(command: Command, topic: str, title: str) -> None:
    assert command("help", topic).stdout.startswith(f"{title}\n")


def test_every_page_is_a_topic() -> None:
    assert sorted(topics().values()) == [page for page in PAGES if page.name != "ingest.1"]


def test_an_unknown_topic_names_those_that_there_are(command: Command) -> None:
    done = command("help", "wathc")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no manual page 'wathc'; the topics are " in done.stderr
    assert all(topic in done.stderr for topic in topics())


def on_a_terminal(environment: Path, programs: dict[str, str], shown: str) -> str:
    """What is to be seen of ``help watch`` with these programs in the path, and no others."""
    folder = environment / "programs"
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    line = [sys.executable, "-m", "ingest_cli", "help", "watch"]
    paths = {"PATH": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    with Terminal(environment, line, environment={**paths, "PAGER": "/bin/cat", "MANPAGER": "/bin/cat"}) as terminal:
        terminal.until(lambda lines: any(shown in line for line in lines))
        assert terminal.raw
        return terminal.raw


def test_man_shows_it(environment: Path) -> None:
    seen = on_a_terminal(environment, {"man": '#!/bin/sh\necho "man of $*"\n'}, "man of ")
    assert re.search(r"man of /\S+/man/ingest-watch\.1\s+$", seen)


def test_mandoc_shows_it_where_man_cannot(environment: Path) -> None:
    mandoc = '#!/bin/sh\necho "mandoc of $*"\n'
    seen = on_a_terminal(environment, {"man": "#!/bin/sh\nexit 16\n", "mandoc": mandoc}, "mandoc of ")
    assert "mandoc of -a /" in seen


@pytest.mark.parametrize(
    "programs", [{}, {"man": STUB}, {"man": "#!/bin/sh\nexit 16\n"}], ids=["none", "stub", "broken"]
)
def test_the_program_itself_shows_it_where_nothing_else_can(environment: Path, programs: dict[str, str]) -> None:
    seen = on_a_terminal(environment, programs, "ingest-deploy(7)")
    assert "INGEST-WATCH(1)" in seen
    assert "minimized" not in seen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("width", [60, 100])
def test_every_page_is_rendered_without_a_trace_of_its_markup(page: Path, width: int) -> None:
    source = page.read_text("utf-8")
    assert source.isascii(), "it is to be read in any encoding"
    text = render(source, width)
    names = "|".join(sorted(MACROS))
    assert not re.findall(rf"^\s*\.(?:{names})\b.*", text, re.M)
    assert not re.findall(r"\\[&(e*-].*", text)
    assert not re.findall(r"(?<=\s)(?:Fl|Ar|Xr|Ns|Ta|Op|Li|Pa|Ev|Ql|Sq|Pq|Bq|Cm)\s.*", text)
    # All but long names, and what stands as it is, which is indented further.
    assert max(len(line) for line in text.splitlines() if re.match(r" {0,8}\S+ ", line)) <= width


def test_a_macro_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="the macro Xx is not known"):
        render(".Sh NAME\n.Xx text\n")


def test_what_is_nested_punctuated_and_escaped() -> None:
    source = r"""
.Dt X 1
.Sh NAME
.Nm x
.Nd a page
.Sh DESCRIPTION
.Nm
takes
.Op Fl n , Fl -number Ar count
.Pq see Xr y 5 ,
.Ar file Ns .bak ,
and \e\&.
.Bl -tag -width Ds
.It Fl a
First.
.Bl -bullet -compact
.It
Inner
.Ql one .
.El
.It Li "long name"
Second.
.El
.Bl -column "a" "b"
.It Sy Head Ta Sy Other
.It Li k Ta
value
.El
"""
    assert render(source, 40).splitlines() == [
        "X(1)",
        "",
        "NAME",
        "     x - a page",
        "",
        "DESCRIPTION",
        "     x takes [-n, --number count] (see",
        "     y(5)), file.bak, and \\.",
        "",
        "     -a    First.",
        "",
        "           * Inner 'one'.",
        "",
        "     long name",
        "           Second.",
        "",
        "     Head  Other",
        "     k     value",
    ]

"""What a person sees: the program in a real pseudo-terminal, its screen as a terminal would draw it."""

import itertools
import json
import os
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_cli.cli.screens import PlainScreen
from ingest_cli.errors import ExitCode

from ..support.bundles import document_for, file_record, transaction, write_bundle
from ..support.command import Command
from ..support.pacifica_double import Handler, PacificaSite
from ..support.terminal import PATIENCE, Terminal

FILES = {f"data/{name}": name.encode() * 100_000 for name in "abc"}


class Held:
    """Holds every request to store a file from the ``first`` on, until told to let go."""

    def __init__(self, site: PacificaSite, first: int = 2) -> None:
        self._go, self._first, self._count = threading.Event(), first, 0
        site.guard = self._hold

    def let_go(self) -> None:
        self._go.set()

    def _hold(self, handler: Handler) -> bool:
        if handler.command == "PUT" and handler.path != "/ingest":
            self._count += 1
            if self._count >= self._first:
                self._go.wait(10 * PATIENCE)
        return False


@pytest.fixture
def held(pacific: PacificaSite) -> Iterator[Held]:
    held = Held(pacific)
    yield held
    held.let_go()


def started(folder: Path, *words: object, columns: int = 80, environment: dict[str, str] | None = None) -> Terminal:
    return Terminal(folder, Command.line(*words), columns=columns, environment=environment)


def is_storing(lines: list[str]) -> bool:
    return any("1 of 3 files stored" in line for line in lines)


def test_a_job_is_shown_while_it_works_and_leaves_a_line(tmp_path: Path, held: Held) -> None:
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    terminal = started(tmp_path, bundle.name)
    headline, details = terminal.until(is_storing)
    assert re.fullmatch(r"b\.tar: ingest files  83%  ━+─+", headline)
    assert details.startswith("1 of 3 files stored  200.0 kB of 300.0 kB")
    assert not terminal.cursor_is_shown
    held.let_go()
    assert terminal.end() == 0
    assert terminal.lines == ["job 1: b.tar is complete, 3 files"]
    assert (terminal.cursor_is_shown, terminal.column) == (True, 0)


def test_several_bundles_say_which_it_is(tmp_path: Path, held: Held) -> None:
    names = [write_bundle(tmp_path / f"{name}.tar", {f"data/{name}": name.encode()}).name for name in "abc"]
    terminal = started(tmp_path, *names)
    lines = terminal.until(lambda lines: any("0 of 1 file stored" in line for line in lines[2:]))
    assert lines[0] == "job 1: a.tar is complete, 1 file"
    assert lines[1].startswith("b.tar: ingest files")
    assert lines[2].startswith("bundle 2 of 3  0 of 1 file stored")
    held.let_go()
    assert terminal.end() == 0
    *lines, summary = terminal.lines
    assert lines == [f"job {number}: {name} is complete, 1 file" for number, name in enumerate(names, 1)]
    assert summary.startswith("ingest: 3 bundles: 3 complete; 3 files, 3 bytes in ")


def of_two(tmp_path: Path) -> list[str]:
    return [write_bundle(tmp_path / f"{name}.tar", {**FILES, "data/d": name.encode()}).name for name in "ab"]


def are_storing(lines: list[str]) -> bool:
    return sum("ingest files" in line for line in lines) == 2


def test_several_at_once_have_a_line_each_and_one_together(tmp_path: Path, held: Held) -> None:
    terminal = started(tmp_path, "--jobs", 2, *of_two(tmp_path), columns=40)
    first, second, whole = terminal.until(are_storing)
    assert first.startswith("a.tar: ingest files  ")
    assert second.startswith("b.tar: ingest files  ")
    assert whole.startswith("0 of 2 done")
    held.let_go()
    assert terminal.end() == 0
    *lines, summary, rest = terminal.lines
    assert sorted(line.partition(": ")[2] for line in lines) == [f"{name}.tar is complete, 4 files" for name in "ab"]
    assert f"{summary} {rest}".startswith("ingest: 2 bundles: 2 complete; 8 files, 600.0 kB in ")
    assert (terminal.cursor_is_shown, terminal.column) == (True, 0)


def test_ctrl_c_leaves_all_to_be_resumed(tmp_path: Path, held: Held) -> None:
    names = of_two(tmp_path)
    terminal = started(tmp_path, "--jobs", 2, *names)
    terminal.until(are_storing)
    terminal.press("c")
    assert terminal.end() == ExitCode.INTERRUPTED
    summary, message = terminal.lines
    assert summary.startswith("ingest: 2 bundles: 2 interrupted; 0 files")
    assert message == "ingest: interrupted; the same command resumes from here"
    assert (terminal.cursor_is_shown, terminal.column) == (True, 0)
    held.let_go()
    again = started(tmp_path, "--jobs", 2, *names)
    assert again.end() == 0
    assert sorted(again.lines)[1].startswith("job 1: ")
    assert sorted(again.lines)[2].startswith("job 2: ")


COLOUR = re.compile(r"\x1b\[(?:\d+;)*[349]\d(?:;\d+)*m")


@pytest.mark.parametrize("wish", [{}, {"NO_COLOR": "1"}], ids=["colour", "NO_COLOR"])
def test_colours_are_those_that_are_wished_for(tmp_path: Path, held: Held, wish: dict[str, str]) -> None:
    terminal = started(tmp_path, write_bundle(tmp_path / "b.tar", FILES).name, environment=wish)
    terminal.until(is_storing)
    held.let_go()
    assert terminal.end() == 0
    assert bool(COLOUR.search(terminal.raw)) == (not wish)


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    terminal = started(tmp_path, write_bundle(tmp_path / "b.tar", FILES).name, environment={"TERM": "dumb"})
    assert terminal.end() == 0
    assert "\x1b" not in terminal.raw
    assert terminal.lines[0] == "b.tar: UPLOADING"
    assert terminal.lines[-1] == "job 1: b.tar is complete, 3 files"


def test_a_narrow_window_shows_stage_and_percent_on_a_line(tmp_path: Path, held: Held) -> None:
    folder = tmp_path / "a-folder-with-quite-a-long-name" / "and-another-one"
    folder.mkdir(parents=True)
    names = [write_bundle(folder / f"{name}.tar", {**FILES, "data/c": name.encode()}) for name in "ab"]
    terminal = started(tmp_path, *names, columns=40)
    headline, details = terminal.until(is_storing)
    assert re.fullmatch(r"….*/a\.tar: ingest files  [ \d]\d%", headline)
    assert details.startswith("bundle 1 of 2  1 of 3 files stored")
    held.let_go()
    assert terminal.end() == 0


def test_an_extremely_narrow_window(tmp_path: Path, held: Held) -> None:
    terminal = started(tmp_path, write_bundle(tmp_path / "b.tar", FILES).name, columns=12)
    terminal.until(lambda lines: any("ingest file" in line for line in lines))
    assert len(terminal.lines) <= 2
    held.let_go()
    assert terminal.end() == 0


def test_a_name_cannot_command_the_terminal(tmp_path: Path, held: Held) -> None:
    terminal = started(tmp_path, write_bundle(tmp_path / "b\x1b[31m\nc.tar", FILES).name)
    assert terminal.until(is_storing)[0].startswith(r"b\x1b[31m\nc.tar: ingest files")
    held.let_go()
    assert terminal.end() == 0


def test_ctrl_c_leaves_the_terminal_clean(tmp_path: Path, held: Held) -> None:
    terminal = started(tmp_path, write_bundle(tmp_path / "b.tar", FILES).name)
    terminal.until(is_storing)
    terminal.press("c")
    assert terminal.end() == ExitCode.INTERRUPTED
    assert terminal.lines[-1] == "ingest: interrupted; the same command resumes from here"
    assert not any("ingest files" in line for line in terminal.lines)
    assert (terminal.cursor_is_shown, terminal.column) == (True, 0)
    held.let_go()
    again = started(tmp_path, "b.tar")
    assert again.end() == 0
    assert again.lines == ["job 1: b.tar is complete, 3 files"]


def test_ctrl_c_twice_leaves_it_clean_at_once(tmp_path: Path, held: Held) -> None:
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    # The first one's grace is as good as endless here, and the file at hand is never stored.
    terminal = Terminal(tmp_path, Command.line(bundle.name, timings={"grace": 3600.0}))
    terminal.until(is_storing)
    terminal.press("c")
    time.sleep(0.3)
    terminal.press("c")
    assert terminal.end() == ExitCode.INTERRUPTED
    assert (terminal.cursor_is_shown, terminal.column) == (True, 0)
    assert not any("ingest files" in line for line in terminal.lines)


@pytest.fixture
def holding(pacific: PacificaSite, tmp_path: Path, command: Command) -> Iterator[None]:
    """Job 1 is stored, and of its files no more than one is given back."""
    assert command(write_bundle(tmp_path / "b.tar", FILES)).returncode == 0
    go, given = threading.Event(), itertools.count()

    def hold(handler: Handler) -> bool:
        if handler.command == "GET" and re.fullmatch(r"/\d+", handler.path) and next(given):
            go.wait(10 * PATIENCE)
        return False

    pacific.guard = hold
    yield
    go.set()


READING = {
    "verify": (("verify", 1), ["ingest: 1 file verified so far: no problems", "ingest: interrupted"]),
    "verify all": (
        ("verify", "--all"),
        [
            "ingest: 1 file verified so far: no problems",
            "ingest: '--all --from 1' resumes from here",
            "ingest: interrupted",
        ],
    ),
    "restore": (
        ("restore", 1, "-o", "r.tar"),
        ["ingest: interrupted; r.tar was not written, and the same command begins anew"],
    ),
    "restore files": (
        ("restore", 1, "--to", "r"),
        ["ingest: interrupted; r was not written, and the same command begins anew"],
    ),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", READING)
def test_what_reads_the_archive_shows_how_far_it_is_and_leaves_nothing_behind(
    tmp_path: Path, holding: None, name: str
) -> None:
    words, said = READING[name]
    before = set(tmp_path.iterdir())
    terminal = started(tmp_path, *words, columns=100)
    headline, details = terminal.until(lambda lines: any(line.startswith("1 of 3 files") for line in lines))
    assert re.fullmatch(r"(verify: job 1|job 1: restore)  33%  ━+─+", headline)
    assert details.startswith("1 of 3 files  100.0 kB of 300.0 kB")
    terminal.press("c")
    assert terminal.end() == ExitCode.INTERRUPTED
    assert terminal.lines == said
    assert (terminal.cursor_is_shown, terminal.column) == (True, 0)
    assert set(tmp_path.iterdir()) == before


ENDLESS = 8 << 30


def test_who_looks_files_up_sees_how_far_it_is_and_what_was_found(tmp_path: Path, command: Command) -> None:
    assert command("-q", write_bundle(tmp_path / "b.tar", {"data/x": b"x"})).returncode == 0
    (tmp_path / "copy").write_bytes(b"x")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(ENDLESS)
    terminal = started(tmp_path, "find", "--file", "copy", "large", columns=100)
    terminal.until(lambda lines: any(line.startswith("1 of 2 files") for line in lines))
    assert terminal.lines[0] == "copy: stored, as data/x of job 1"
    terminal.press("c")
    assert terminal.end() == ExitCode.INTERRUPTED
    assert terminal.lines == ["copy: stored, as data/x of job 1", "ingest: interrupted"]


def endless_bundle(path: Path) -> Path:
    """A bundle with a file that takes long to read, though there is nothing in it."""
    entry = {**file_record("data/x", b""), "size": ENDLESS}
    document = json.dumps([*transaction(), entry]).encode()
    with path.open("wb") as file:
        for name, size, content in (("data/x", ENDLESS, b""), ("metadata.txt", len(document), document)):
            info = tarfile.TarInfo(name)
            info.size = size
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.write(content)
            file.seek(size - len(content) + -size % tarfile.BLOCKSIZE, os.SEEK_CUR)
        file.truncate(file.tell() + 2 * tarfile.BLOCKSIZE)
    return path


def test_a_check_says_how_many_it_came_to(tmp_path: Path) -> None:
    good = write_bundle(tmp_path / "a.tar", FILES)
    terminal = started(tmp_path, "check", good.name, endless_bundle(tmp_path / "b.tar").name)
    lines = terminal.until(lambda lines: any("0 of 1 file" in line for line in lines))
    assert lines[0] == "ingest: a.tar: no problems in 3 files, 300.0 kB"
    assert re.match(r"b\.tar: ingest files  [ \d]\d%  ", lines[1])
    assert lines[2].startswith("bundle 2 of 2  0 of 1 file")
    terminal.press("c")
    assert terminal.end() == ExitCode.INTERRUPTED
    assert terminal.lines == [lines[0], "ingest: interrupted, 1 of 2 bundles checked; the same command begins anew"]


def test_an_interrupted_pack_leaves_what_was_there(tmp_path: Path) -> None:
    folder, bundle = tmp_path / "run", tmp_path / "run.tar"
    folder.mkdir()
    with (folder / "x").open("wb") as file:
        file.truncate(ENDLESS)
    bundle.write_bytes(b"before")
    before = set(tmp_path.iterdir())
    words = ("pack", "run", "--submitter", 1, "--project", "p", "--instrument", 1, "--force")
    terminal = started(tmp_path, *words)
    lines = terminal.until(lambda lines: any("0 of 1 file" in line for line in lines))
    assert re.match(r"run\.tar: pack  [ \d]\d%  ", lines[0])
    terminal.press("c")
    assert terminal.end() == ExitCode.INTERRUPTED
    assert terminal.lines == ["ingest: interrupted; run.tar is as it was, and the same command begins anew"]
    assert bundle.read_bytes() == b"before"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "words",
    [("pack", ".", "--submitter", 1, "--project", "p", "--instrument", 1, "-o", "-"), ("restore", 1, "-o", "-")],
)
def test_no_bundle_is_written_to_a_terminal(tmp_path: Path, words: tuple[object, ...]) -> None:
    terminal = started(tmp_path, *words, columns=100)
    assert terminal.end() == ExitCode.USAGE
    assert terminal.lines == ["ingest: a bundle cannot be shown on a terminal: redirect it, or give -o a file"]


def test_a_backup_leaves_no_trace_of_its_display(tmp_path: Path, command: Command) -> None:
    command(write_bundle(tmp_path / "b.tar", FILES))
    terminal = started(tmp_path, "backup", "kept")
    assert terminal.end() == 0
    assert [line.split(":")[1] for line in terminal.lines] == [
        f" kept/{name}.sqlite3" for name in ("catalogue", "ids", "jobs")
    ]


def test_a_failure_shows_its_error_below_what_was_done(tmp_path: Path) -> None:
    good = write_bundle(tmp_path / "good.tar", FILES)
    bad = write_bundle(tmp_path / "bad.tar", {"data/x": b"y"}, document_for({"data/x": b"x"}))
    terminal = started(tmp_path, good.name, bad.name, columns=200)
    assert terminal.end() == ExitCode.SOME_FAILED
    assert terminal.lines[0] == "job 1: good.tar is complete, 3 files"
    assert terminal.lines[1].startswith("ingest: bad.tar: job 2 failed at 'ingest files': 'data/x' hashes to sha1")
    assert terminal.lines[2].startswith("ingest: 2 bundles: 1 complete, 1 failed; 3 files, 300.0 kB in ")
    assert terminal.lines[3:] == terminal.lines[1:2]
    assert (terminal.cursor_is_shown, terminal.column) == (True, 0)


def test_a_warning_stands_above_the_display(tmp_path: Path, held: Held) -> None:
    files = {**FILES, f"data/{'stray' * 30}": b"?"}
    terminal = started(tmp_path, write_bundle(tmp_path / "b.tar", files, document_for(FILES)).name)
    lines = terminal.until(is_storing)
    assert lines[0].startswith("ingest: warning: 'data/straystray")
    assert lines[-2].startswith("b.tar: ingest files")
    held.let_go()
    assert terminal.end() == 0
    assert terminal.lines[-1] == "job 1: b.tar is complete, 3 files"
    assert f"'data/{'stray' * 30}' is in the bundle" in terminal.raw, "long lines are the terminal's to wrap"


def test_standard_output_is_data_while_standard_error_is_a_terminal(tmp_path: Path, held: Held) -> None:
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    terminal = Terminal(tmp_path, ["sh", "-c", 'exec "$@" > out.txt', "sh", *Command.line(bundle.name)])
    terminal.until(is_storing)
    held.let_go()
    assert terminal.end() == 0
    assert terminal.lines == []
    assert (tmp_path / "out.txt").read_text() == "job 1: b.tar is complete, 3 files\n"


def test_a_long_stage_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen("b.tar", every=0.0)
    screen.stage("ingest files")
    screen.plan(2, 1000)
    screen.checked(500)
    screen.checked(500, 2)
    screen.stored(500)
    assert capsys.readouterr().err.splitlines() == [
        "b.tar: ingest files",
        "b.tar: ingest files, 25%, 0 of 2 files checked, 500 bytes of 1.0 kB",
        "b.tar: ingest files, 50%, 0 of 2 files stored, 0 bytes of 1.0 kB",
        "b.tar: ingest files, 75%, 0 of 2 files stored, 500 bytes of 1.0 kB",
    ]


def test_many_files_are_counted_with_commas(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen("run7", every=0.0)
    screen.plan(4000, 8000)
    screen.checked(4000, 2000)
    assert capsys.readouterr().err == "run7: UPLOADING, 25%, 2,000 of 4,000 files checked, 4.0 kB of 8.0 kB\n"


def test_a_short_stage_says_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen("b.tar")
    screen.stage("ingest files")
    screen.plan(1, 1000)
    screen.checked(1000, 1)
    screen.stored(1000, 1)
    assert capsys.readouterr().err == "b.tar: ingest files\n"

"""In bare or odd surroundings a command does what it does elsewhere, or says in a sentence what it lacks."""

import fcntl
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.settings.options import PLACES

from ..support.bundles import FILES, write_bundle
from ..support.command import Command, untimed
from ..support.forks import FORKS, Running
from ..support.shown import is_stored
from ..support.site import Site, assert_sound
from ..support.surroundings import Said, Surroundings, can_be_without_users
from ..support.waiting import until

# Every kind of surroundings, each in processes of its own.
pytestmark = pytest.mark.sweep

TAME = ["b.tar", "é.tar", "日本.tar", "a b.tar", "[red]b[bold].tar"]
NAMES = [*TAME, "\x1b]0;title\x07.tar", "two\nlines.tar", "gnp.\u202etar"]
ERRORS, ALL = frozenset([2]), frozenset([0, 1, 2])
STREAMS = [frozenset(closed) for count in (1, 2, 3) for closed in itertools.combinations(range(3), count)]


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    """What a login shell has."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    return Surroundings(folder=tmp_path, environment=kept)


def databases(site: Site) -> list[Path]:
    return [site.database, site.catalog, site.database.with_name("ids.sqlite3")]


def assert_well(said: Said) -> None:
    assert said.status == 0, said
    assert b"Traceback" not in said.err, said


@pytest.mark.parametrize(
    "closed",
    [pytest.param(closed, marks=[] if closed in (ERRORS, ALL) else pytest.mark.sweep) for closed in STREAMS],
    ids=lambda closed: ",".join(map(str, sorted(closed))),
)
def test_streams_that_are_closed(here: Surroundings, site: Site, tmp_path: Path, closed: frozenset[int]) -> None:
    """As cron, systemd and containers have it; nothing that is printed lands in a file that has the stream's number."""
    bundle = write_bundle(tmp_path / "b.tar")
    said = replace(here, closed=closed).run("-v", bundle)
    assert_well(said)
    assert (b"is complete" in said.out) == (1 not in closed)
    assert (b"ingest files" in said.err) == (2 not in closed)
    assert b"ingest files" not in said.out
    assert_sound(site, FILES, jobs=1)
    for database in databases(site):
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(
    ("words", "number", "stream"),
    [
        (["-"], 0, "input"),
        (["restore", 1, "-o", "-"], 1, "output"),
        (["pack", ".", "--submitter", 1, "--project", "p", "--instrument", 2, "-o", "-"], 1, "output"),
    ],
)
def test_data_needs_its_stream(here: Surroundings, words: list[object], number: int, stream: str) -> None:
    said = replace(here, closed=frozenset([number])).run(*words)
    assert said.status == ExitCode.USAGE
    assert said.err.decode().startswith(f"ingest: standard {stream} is closed")


def test_workers_have_streams_of_their_own(here: Surroundings, site: Site, tmp_path: Path) -> None:
    assert here.run("--queue", write_bundle(tmp_path / "b.tar")).status == 0
    assert_well(replace(here, closed=ALL).run("worker", "-n", 2, "--until-empty", "-v"))
    assert_sound(site, FILES, jobs=1)


@pytest.mark.parametrize("full", [True, False], ids=["full", "closed pipe"])
@pytest.mark.parametrize(
    "words",
    [
        ["worker", "--until-empty"],
        ["worker", "--until-empty", "--json"],
        ["worker", "--until-empty", "-n", 2, "--json"],
        ["watch", "--once", "--settle", 0, "--json", "drop"],
        ["ingest", "--json", "drop/0.tar", "drop/1.tar"],
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_output_that_cannot_be_written_ends_no_loop(
    command: Command, site: Site, tmp_path: Path, words: list[object], full: bool
) -> None:
    (tmp_path / "drop").mkdir()
    bundles = [write_bundle(tmp_path / "drop" / f"{number}.tar", {f"data/{number}": b"x"}) for number in range(2)]
    if words[0] == "worker":
        assert command("--queue", *bundles).returncode == 0
    status, told = run_with_output(words, tmp_path, "/dev/full" if full else None)
    assert "Traceback" not in told
    assert all(job.is_done for job in site.jobs())
    assert len(site.jobs()) == 2
    if "-n" not in words:
        assert status == (ExitCode.FAILED if full else ExitCode.SUCCESS)
        assert told.count("cannot write standard output: No space left on device") == full


def run_with_output(words: list[object], folder: Path, output: str | None) -> tuple[int, str]:
    """The exit status and the messages of a command whose output goes there, or to nobody."""
    reading, pipe = os.pipe()
    os.close(reading)
    with ExitStack() as stack:
        nobody = stack.enter_context(os.fdopen(pipe, "wb"))
        said = stack.enter_context((folder / "said").open("w+b"))
        out = nobody if output is None else stack.enter_context(Path(output).open("wb"))
        given = stack.enter_context(Path(os.devnull).open("rb"))
        streams = (given.fileno(), out.fileno(), said.fileno())
        status = FORKS.start(list(map(str, words)), folder, streams).wait(60)
        return status, (folder / "said").read_text()


@pytest.mark.parametrize("stream", ["out", "err"])
def test_output_that_does_not_wait_is_waited_for(command: Command, tmp_path: Path, stream: str) -> None:
    """As where a program that shares the terminal has made it so."""
    words = [["help", "ingest"], ["check", *[f"{'x' * 100}{number}" for number in range(100)]]][stream == "err"]
    whole = command(*words)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with (
        os.fdopen(reading, "rb") as pipe,
        (tmp_path / "other").open("wb") as other,
        Path(os.devnull).open("rb") as none,
    ):
        streams = (
            (none.fileno(), writing, other.fileno()) if stream == "out" else (none.fileno(), other.fileno(), writing)
        )
        process = FORKS.start(list(map(str, words)), tmp_path, streams)
        os.close(writing)
        assert pipe.read().decode() == (whole.stdout if stream == "out" else whole.stderr)
        assert process.wait(60) == whole.returncode


@pytest.mark.parametrize("words", [["state"], ["config"], ["help", "ingest"], ["--help"]], ids=lambda words: words[0])
def test_who_stops_reading_is_told_nothing(tmp_path: Path, words: list[object]) -> None:
    run_with_output([write_bundle(tmp_path / "b.tar")], tmp_path, None)
    status, told = run_with_output(words, tmp_path, None)
    assert (status in (ExitCode.SUCCESS, ExitCode.FAILED), told) == (True, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_in_every_encoding(here: Surroundings, tmp_path: Path, encoding: str) -> None:
    bundles = [write_bundle(tmp_path / name, {f"data/{name}": b"x"}) for name in NAMES]
    said = replace(here, environment={**here.environment, "PYTHONIOENCODING": encoding}).run(*bundles)
    assert_well(said)
    assert_readable(said, encoding, lines=len(NAMES))


def assert_readable(said: Said, encoding: str, *, lines: int) -> None:
    """It is text, and commands nothing."""
    for stream in (said.out, said.err):
        assert all(line.isprintable() for line in stream.decode(encoding).split("\n")), stream
    assert said.out.count(b"\n") == lines, said.out


def test_a_name_that_is_no_text(here: Surroundings, tmp_path: Path) -> None:
    bundle = write_bundle(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.tar")))
    said = here.run(bundle)
    assert said.status == ExitCode.FAILED
    assert said.err.endswith(b"is not valid UTF-8: rename the file\n")
    said = here.run("check", bundle)
    assert_well(said)
    assert said.err.startswith(f"ingest: {tmp_path}/\\xff.tar: no problems".encode())
    assert json.loads(here.run("check", "--json", bundle).out)["source"] == str(bundle)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_are_utf_8_in_every_locale(here: Surroundings, tmp_path: Path, encoding: str) -> None:
    """A job that one locale queues, the worker of another one runs."""
    other = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    if encoding == "latin-1":
        other |= {"LC_ALL": "xx_XX", "LOCPATH": str(latin_1_locale(tmp_path / "locales").parent)}
    there = replace(here, environment={**here.environment, **other})
    said = there.run("--queue", write_bundle(tmp_path / "é日.tar"))
    assert_well(said)
    shown = "é日.tar".encode(encoding, "backslashreplace").decode(encoding)
    assert said.out.decode(encoding) == f"job 1: {tmp_path}/{shown} is queued\n"
    said = here.run("worker", "--until-empty")
    assert untimed(said.out.decode()) == [f"job 1: {tmp_path}/é日.tar is complete, 3 files"]
    assert_well(there.run("--queue", write_bundle(tmp_path / "é.tar", {"data/e": b"e"})))
    assert_well(there.run("worker", "--until-empty", "-n", 2))
    assert is_stored(json.loads(there.run("state", "--json", 2).out))


def latin_1_locale(folder: Path) -> Path:
    """A locale that is made for this test."""
    folder.mkdir()
    line = ["localedef", "-c", "-i", "POSIX", "-f", "ISO-8859-1", str(folder / "xx_XX")]
    if shutil.which("localedef") is None or subprocess.run(line, capture_output=True).returncode > 1:
        pytest.skip("no locale of Latin-1 can be made")
    return folder / "xx_XX"


homeless = pytest.mark.skipif(not can_be_without_users(), reason="no program can be hidden from /etc/passwd")


@homeless
def test_without_a_home_the_places_must_be_named(here: Surroundings, tmp_path: Path) -> None:
    bare = replace(here, environment={"PATH": os.environ["PATH"]}, users=False)
    bundle = write_bundle(tmp_path / "b.tar")
    for words in ([bundle], ["worker", "--until-empty"]):
        said = bare.run(*words)
        assert said.status == ExitCode.USAGE
        assert said.err.startswith(b"ingest: there is no home folder: set HOME, or XDG_DATA_HOME, or each of ")
        assert all(place.variable in said.err.decode() for place in PLACES)
    assert_well(bare.run("--help"))
    said = bare.run("config", "--json")
    assert_well(said)
    assert {row["value"] for row in json.loads(said.out) if row["key"] == "path"} == {""}
    completing = {"_INGEST_COMPLETE": "complete_bash", "COMP_WORDS": "ingest state ", "COMP_CWORD": "2"}
    assert_well(replace(bare, environment={**bare.environment, **completing}).run())


@homeless
def test_without_a_home_named_places_are_enough(here: Surroundings, tmp_path: Path) -> None:
    bare = replace(here, environment=places(tmp_path), users=False)
    bundle = write_bundle(tmp_path / "b.tar")
    for words in (["--queue", bundle], ["worker", "-n", 2, "--until-empty"], ["doctor"]):
        assert_well(bare.run(*words))
    assert is_stored(json.loads(bare.run("state", "--json", 1).out))


def places(folder: Path) -> dict[str, str]:
    paths = {place: folder / place.variable for place in PLACES}
    return {place.variable: path.as_uri() if place.key.endswith("url") else str(path) for place, path in paths.items()}


def test_a_working_directory_that_is_gone(here: Surroundings, tmp_path: Path) -> None:
    there = replace(here, gone=True)
    bundle = write_bundle(tmp_path / "b.tar")
    said = there.run("b.tar", bundle)
    assert (said.status, said.err.decode().splitlines()[0]) == (
        ExitCode.SOME_FAILED,
        "ingest: cannot read b.tar: the working directory is gone",
    )
    assert_well(there.run("restore", 1, "--to", tmp_path / "restored"))
    said = there.run("watch", "--once", "drop")
    assert (said.status, said.err) == (1, b"ingest: the working directory is gone: give absolute paths\n")


def test_a_worker_is_replaced_where_the_working_directory_went(
    starting: Callable[..., Running], command: Command, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "place").mkdir()
    pool = Command(tmp_path / "place").start("worker", "-n", 2)
    try:
        until(lambda: len(workers(pool.pid)) == 2)
        (tmp_path / "place").rmdir()
        before = workers(pool.pid)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(workers(pool.pid) - before) == 2)
        assert command("--queue", write_bundle(tmp_path / "b.tar")).returncode == 0
        until(lambda: site.job(1).is_done)
    finally:
        pool.terminate()
        assert pool.wait(60) == ExitCode.SUCCESS


def workers(pid: int) -> set[int]:
    """The children of a process that do its work: not those that have ended, nor the one that multiprocessing keeps."""
    children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return {int(child) for child in itertools.chain(*children) if b"spawn_main" in line_of(child)}


def line_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_without_docstrings_there_is_help(here: Surroundings) -> None:
    said = replace(here, environment={**here.environment, "PYTHONOPTIMIZE": "2"}).run("check", "--help")
    assert_well(said)
    assert b"Report everything that is wrong with bundles." in said.out


def test_what_was_masked_can_be_opened_again(here: Surroundings, site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    assert_well(replace(here, umask=0o777).run(bundle))
    assert_well(replace(here, umask=0).run("restore", 1, "--to", "restored"))
    assert all(path.stat().st_mode & 0o400 for path in site.archive.parent.rglob("*"))
    assert not any(database.stat().st_mode & 0o077 for database in databases(site))


ODD: dict[str, list[dict[str, str]]] = {
    "locale": [
        {},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LANG": "xx_XX.broken"},
    ],
    "terminal": [{}, {"TERM": "dumb"}, {"COLUMNS": "0"}, {"COLUMNS": "1"}, {"COLUMNS": "100000"}, {"NO_COLOR": "1"}],
    "python": [
        {},
        {"PYTHONOPTIMIZE": "2"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONUNBUFFERED": "1"},
        {"PYTHONDEVMODE": "1"},
    ],
    "system": [{}, {"TZ": "Nowhere/At_All"}, {"TMPDIR": "/nonexistent"}, {"PATH": ""}, {"ODD": "\udce9\x1b"}],
}


def odd_surroundings(seed: int, here: Surroundings) -> Surroundings:
    chance = random.Random(seed)
    environment = dict(here.environment)
    if chance.random() < 0.3:
        environment = {**places(here.folder), "PATH": environment["PATH"]}
    for variables in ODD.values():
        environment |= chance.choice(variables)
    return replace(
        here,
        environment=environment,
        closed=chance.choice([frozenset(), frozenset(), *STREAMS]),
        gone=chance.random() < 0.3,
        umask=chance.choice([0o022, 0, 0o077, 0o777]),
        users=chance.random() < 0.7 or "XDG_DATA_HOME" in environment or not can_be_without_users(),
    )


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(n, marks=pytest.mark.sweep) for n in range(2, 60))])
def test_every_command_does_as_ever(here: Surroundings, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    there = odd_surroundings(seed, here)
    bundle = write_bundle(tmp_path / chance.choice(NAMES))
    encoding = there.environment.get("PYTHONIOENCODING", "utf-8")
    lines: dict[tuple[Any, ...], int | None] = {
        (bundle,): 1,
        ("state", "-n", 1): 2,
        ("state", "--json", 1): 1,
        ("check", "--json", bundle): 1,
        ("verify", "--all"): 0,
        ("doctor",): 7,
        ("config", "--json"): None,
        ("--again", "-q", bundle): 0,
        ("worker", "--until-empty"): 0,
        ("watch", "--once", "--settle", 0, tmp_path): None,
    }
    others = chance.sample([words for words in lines if words != (bundle,)], len(lines) - 1 if seed >= 2 else 2)
    for words in [(bundle,), *others]:
        said = there.run(*words)
        assert_well(said)
        count = lines[words] if 1 not in there.closed else 0
        assert_readable(said, encoding, lines=said.out.count(b"\n") if count is None else count)
        if "--json" in words and 1 not in there.closed:
            json.loads(said.out)
    assert is_stored(json.loads(replace(there, closed=frozenset()).run("state", "--json", 1).out))

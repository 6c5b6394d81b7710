"""What is typed is understood, or a sentence says why not: one of ours, with exit code 2 and no job."""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.core import TyperGroup

from ingest_cli.cli import app
from ingest_cli.cli.help_text import HelpText
from ingest_cli.errors import ExitCode, SettingsError

from ..support import make_pages
from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.site import Site

TOP = typer.main.get_command(app)
assert isinstance(TOP, TyperGroup)
COMMANDS = make_pages.commands()
NARROW_AND_WIDE = [40, 41, 53, 60, 79, 80, 99, 100, 140]
# What typer and the libraries below it say by themselves.
FOREIGN = re.compile(
    r"Invalid value|Input should be|No such option|requires an argument|Missing (argument|option)"
    r"|unexpected extra|Usage:|^Error|Traceback|valid (integer|int|float|number)|does not understand",
    re.M,
)
JUNK = st.one_of(
    st.sampled_from(
        ["", "abc", "-", "1.5", "1e400", "nan", "0x10", "9" * 30, "\N{SUPERSCRIPT TWO}", "1 2", "\x1b[31m"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)


def fitting(parameter: Any) -> str:
    """A word that the parameter takes."""
    words = {"ID": "1", "JOB_ID": "1", "NUMBER": "2", "PORT": "0", "BYTES": "1", "PERCENT": "5", "SECONDS": "1"}
    return words.get(parameter.metavar, "word")


def is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def takes_value(parameter: Any) -> bool:
    return not is_option(parameter) or not (parameter.is_flag or parameter.count)


def needed(command: Any, *, but: Any = None) -> list[str]:
    """The words without which the command is not called."""
    words = []
    for parameter in command.params:
        if parameter.required and parameter is not but:
            words += [parameter.opts[0], fitting(parameter)] if is_option(parameter) else [fitting(parameter)]
    return words


def numbers() -> Iterator[Any]:
    """Every parameter of every command that is a number: junk is never one."""
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.metavar in ("JOB_ID", "NUMBER", "PORT", "BYTES", "PERCENT", "SECONDS"):
                yield pytest.param(name, parameter, id=f"{name} {parameter.opts[0]}")


def invoked(name: str, words: list[str]) -> None:
    """What a command does with these words, as far as it reads them."""
    with typer.Context(TOP, info_name="ingest") as top:
        context = COMMANDS[name].make_context(name, words, parent=top)
        COMMANDS[name].invoke(context)


def is_no_number(word: str) -> bool:
    try:
        return not float(word) >= 0
    except ValueError:
        return True


@pytest.mark.parametrize(("name", "parameter"), list(numbers()))
@settings(max_examples=3, deadline=None)
@given(junk=JUNK.filter(is_no_number))
def test_what_is_no_number_is_said_to_be_none(name: str, parameter: Any, junk: str) -> None:
    words = needed(COMMANDS[name], but=parameter)
    words += [f"{parameter.opts[0]}={junk}"] if is_option(parameter) else ["--", junk]
    with pytest.raises(SettingsError) as error:
        invoked(name, words)
    assert not FOREIGN.search(str(error.value))
    assert error.value.exit_code == ExitCode.USAGE
    assert (max(parameter.opts, key=len) if is_option(parameter) else parameter.metavar) in str(error.value)


@pytest.mark.parametrize("name", COMMANDS)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_line_it_is_understood_or_a_sentence_says_why_not(name: str, data: st.DataObject) -> None:
    command = COMMANDS[name]
    spellings = [spelling for parameter in command.params if is_option(parameter) for spelling in parameter.opts]
    word = st.one_of(JUNK, st.sampled_from([*spellings, *COMMANDS, "--no-such", "-Z", "--json=1", "--"]))
    words = data.draw(st.lists(word, max_size=5))
    said = ""
    try:
        with suppress(typer.Exit):  # having shown the help
            command.make_context(name, list(words), parent=typer.Context(TOP, info_name="ingest"))
    except SettingsError as error:  # and no other
        said = "\n".join(error.lines)
    assert not FOREIGN.search(said)


@pytest.mark.parametrize("name", TOP.commands)
def test_the_options_of_a_command_may_stand_before_it(name: str) -> None:
    for option in filter(is_option, COMMANDS[name].params):
        for spelling in option.opts:
            before = [spelling, *([fitting(option)] if takes_value(option) else [])]
            words = TOP.parse_args(typer.Context(TOP, info_name="ingest"), [*before, name, "x"])
            assert words == [*before, "x"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stat"], "no file and no command 'stat'; did you mean 'state'?"),
        (["--quiet", "retri", "3"], "no file and no command 'retri'; did you mean 'retry'?"),
        (["Pack", "x"], "no file and no command 'Pack'; did you mean 'pack'?"),
        (["retyr", "--failed"], "no file and no command 'retyr'; did you mean 'retry'?"),
        (["sate", "-n", "3"], "no file and no command 'sate'; did you mean 'state'?"),
        (["monday.tar", "--failed"], "'ingest' has no option '--failed'"),
        (["veri", "3"], "no file and no command 'veri'; did you mean 'verify'?"),
        (["state", "abc"], "JOB_ID 'abc' is not the number of a job"),
        (["state", "9" * 30], f"JOB_ID '{'9' * 30}' is not the number of a job"),
        (["worker", "-n", "65"], "--workers '65' is not a whole number from 1 to 64"),
        (["watch", ".", "--scan", "0"], "--scan '0' is not a number from 0.1 on"),
        (["state", "--db", ""], "--db is empty: give a FILE"),
        (["state", "--quite"], "'ingest state' has no option '--quite'; did you mean '--quiet'?"),
        (["--again", "state"], "'ingest state' has no option '--again'"),
        (["state", "--db"], "--db needs a value: --db FILE"),
        (["state", "--json=yes"], "--json takes no value"),
        (["help", "a", "b"], "'ingest help' takes only TOPIC: 'b' is too much"),
        (["doctor", "x"], "'ingest doctor' takes only options: 'x' is too much"),
        (["verify", "--sample", "101", "1"], "--sample '101' is not a number from 0 to 100"),
        (["restore"], "'ingest restore' needs JOB_ID"),
        (["config", "int"], "'ingest config' has no command 'int'; did you mean 'init'?"),
        (["job"], "'ingest job' needs --job-id JOB_ID"),
    ],
)
def test_a_mistake(site: Site, words: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        TOP.main(words, prog_name="ingest", standalone_mode=False)
    assert error.value.lines[0] == said
    assert not site.database.exists()


def test_what_is_typed_by_mistake_ends_with_2_and_makes_no_job(command: Command, site: Site) -> None:
    done = command("stat")
    said = "ingest: no file and no command 'stat'; did you mean 'state'?\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert not site.database.exists()


def test_a_file_is_a_bundle_though_its_name_is_nearly_a_command(command: Command, environment: Any) -> None:
    write_bundle(environment / "stat")
    assert command("stat").returncode == 0
    assert command("--", "sate").returncode == 1, "what is said to be a file is one"


def test_options_before_a_command(command: Command, environment: Any) -> None:
    command("--db", environment / "other.db", write_bundle(environment / "b.tar"))
    done = command("--db", environment / "other.db", "--quiet", "state", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"job_id": 1' in done.stdout


def help_of(name: str, width: int) -> str:
    command = COMMANDS.get(name, TOP)
    text = HelpText(width)
    top = typer.Context(TOP, info_name="ingest", help_option_names=["-h", "--help"])
    context = top if command is TOP else command.make_context(name, [], parent=top, resilient_parsing=True)
    command.format_help(context, text)
    return text.getvalue()


@pytest.mark.parametrize(
    "widths", [NARROW_AND_WIDE, pytest.param(range(40, 141), marks=pytest.mark.sweep)], ids=["some", "all"]
)
@pytest.mark.parametrize("name", [*COMMANDS, "ingest --help"])
def test_the_help_fits_the_window_and_no_word_is_cut(name: str, widths: Sequence[int]) -> None:
    whole = help_of(name, 10_000).split()
    for width in widths:
        text = help_of(name, width)
        assert max(map(len, text.splitlines())) <= width, text
        assert text.split() == whole


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_the_help_is_as_wide_as_the_window(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    TOP.main(["upload", "--help"], prog_name="ingest", standalone_mode=False)
    widest = max(map(len, capsys.readouterr().out.splitlines()))
    assert min(columns, 100) * 0.8 <= widest <= columns


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_shows_a_type_of_the_language(name: str) -> None:
    assert not [option.opts for option in COMMANDS[name].params if takes_value(option) and not option.metavar]
    assert not re.search(r"<\w+>|\b(INTEGER|FLOAT|BOOLEAN|int|str|lambda)\b|[<>]=", help_of(name, 100))


# These would go on for ever with what is not wrong; their numbers are tried above.
ENDLESS = {"serve": None, "watch": "--once", "worker": "--until-empty"}


@pytest.mark.sweep
@pytest.mark.parametrize("name", [name for name in COMMANDS if ENDLESS.get(name, "") is not None])
def test_whatever_an_option_is_given_there_is_no_traceback(
    command: Command, environment: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bundle = write_bundle(environment / "b.tar")
    assert command("-q", bundle).returncode == 0
    chance = random.Random(name)
    words = [*name.split(), *needed(COMMANDS[name]), *filter(None, [ENDLESS.get(name)])]
    for option in filter(takes_value, filter(is_option, COMMANDS[name].params)):
        for junk in chance.sample(["", "abc", "-1", "1e400", "nan", "[", "%", "=", "\x1b[31m", "a\nb", "9" * 400], 4):
            done = command(*words, f"{max(option.opts, key=len)}={junk}")
            assert done.returncode in set(ExitCode), (option.opts, junk, done.stderr)
            assert not FOREIGN.search(done.stderr), (option.opts, junk, done.stderr)
            assert "\x1b" not in done.stderr

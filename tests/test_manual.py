"""The manual page and the README say what the program does: no more and no less."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from ingest_cli.cli import app
from ingest_cli.errors import ExitCode
from ingest_cli.settings import ACCESS, OPTIONS, SERVICES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "man" / "ingest.1"
EXIT_CODES = sorted(map(int, ExitCode))


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def options_of_commands() -> dict[str, list[list[str]]]:
    """For every command, and for the program itself under "", its options, each with all its spellings."""
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    commands = {"": top, **top.commands}
    return {
        name: [parameter.opts for parameter in command.params if isinstance(parameter, TyperOption)]
        for name, command in commands.items()
    }


COMMANDS = options_of_commands()
ACCESS_OPTIONS = [option for access in ACCESS.values() for option in access.options]
OTHER_OPTIONS = [option for option in OPTIONS if option not in ACCESS_OPTIONS]
HELP = ["-h", "--help"]


def section(page: str, title: str) -> str:
    found = re.search(rf"^\.S[hs] {title}\n(.*?)(?=^\.S[hs] |\Z)", page, re.M | re.S)
    assert found is not None, f"the page has no section {title}"
    return found[1]


def flags(text: str) -> set[str]:
    """The options that mdoc text names: ``Fl c`` is -c and ``Fl -config`` is --config."""
    return {f"-{name}" for name in re.findall(r"\bFl (-?[a-z][a-z-]*)", text)}


def items(text: str, macro: str = "") -> list[str]:
    """The first words of a list's items, where these are in ``macro``."""
    return re.findall(rf"^\.It {macro}(\S+)", text, re.M)


def synopsis(page: str) -> dict[str, set[str]]:
    """The options that the synopsis gives to each command."""
    usages = re.split(r"^\.Nm\n", section(page, "SYNOPSIS"), flags=re.M)[1:]
    named = [(re.search(r"^\.(?:Op )?Cm (\w+)", usage, re.M), flags(usage)) for usage in usages]
    return {name[1] if name is not None else "": options for name, options in named}


def test_the_page_has_every_command_and_no_other(page: str) -> None:
    assert sorted(items(section(page, "Commands"), "Cm ")) == sorted(set(COMMANDS) - {""})


@pytest.mark.parametrize("name", COMMANDS)
def test_the_synopsis_gives_a_command_its_own_options(page: str, name: str) -> None:
    own = {option[0] for option in COMMANDS[name]} | ({"--help"} if name == "" else set())
    assert synopsis(page)[name] == own


def test_the_page_explains_every_option_in_every_spelling(page: str) -> None:
    known = {frozenset(option) for options in [*COMMANDS.values(), [HELP]] for option in options}
    lines = re.findall(r"^\.It (Fl .*)", section(page, "Options"), re.M)
    assert {frozenset(flags(line)) for line in lines} == known
    assert len(lines) == len(known)


def test_the_page_names_no_option_that_the_program_does_not_know(page: str) -> None:
    known = {spelling for options in [*COMMANDS.values(), [HELP]] for option in options for spelling in option}
    assert flags(page) <= known
    in_examples = set(re.findall(r"(?<= )--?[a-z][a-z-]*", section(page, "EXAMPLES")))
    assert in_examples <= known


def test_the_page_has_every_environment_variable(page: str) -> None:
    ours = {option.variable for option in OTHER_OPTIONS} | {"INGEST_CONFIG", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    assert set(items(section(page, "ENVIRONMENT"), "Ev ")) == ours


def test_the_page_has_every_section_and_key_of_the_configuration(page: str) -> None:
    text = section(page, "ENVIRONMENT")
    for option in OTHER_OPTIONS:
        place = rf"^\.It Ev {option.variable}\n(?:[^.].*\n)+\.Pq Bq {option.section} , Li {option.key} \.$"
        assert re.search(place, text, re.M), option


def test_the_page_has_what_every_service_over_http_takes(page: str) -> None:
    text = section(page, "ENVIRONMENT")
    prefixes = re.findall(r"\b([A-Z]+)_ ", text.partition("has these too")[2].replace("_\n", "_ "))
    assert prefixes == list(SERVICES)
    variables = [f"{prefix}_{key.upper()}" for prefix in prefixes for key in items(text, "Li ")]
    assert variables == [option.variable for option in ACCESS_OPTIONS]


def test_the_page_has_every_exit_code(page: str) -> None:
    assert sorted(map(int, items(section(page, "EXIT STATUS")))) == EXIT_CODES


def test_the_readme_has_the_same_exit_codes(readme: str) -> None:
    table = readme.partition("## Exit codes\n")[2].partition("\n## ")[0]
    assert sorted(map(int, re.findall(r"^\| (\d+) ", table, re.M))) == EXIT_CODES


def test_the_help_has_the_same_exit_codes() -> None:
    text = typer.main.get_command(app).help or ""
    assert sorted(map(int, re.findall(r"^  (\d+) ", text, re.M))) == EXIT_CODES


def test_the_readme_has_every_setting(readme: str) -> None:
    rows = re.findall(r"^\| `\[(\w+)\]` +\| `(\w+)` +\| `(\w+)` ", readme, re.M)
    assert rows == [(option.section, option.key, option.variable) for option in OTHER_OPTIONS]
    table = readme.partition("### Names, secrets and certificates\n")[2].partition("\n#")[0]
    keys = re.findall(r"^\| `(\w+)` ", table, re.M)
    prefixes = re.findall(r"`([A-Z]+)_`", table)
    variables = [f"{prefix}_{key.upper()}" for prefix in prefixes for key in keys]
    assert variables == [option.variable for option in ACCESS_OPTIONS]


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_the_page_is_clean_mdoc() -> None:
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", PAGE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

"""Every command has a manual page: its options are the command's, and its examples work."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ingest_cli.cli import app

from ..support import make_pages
from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.ingeststate import row, write_rows
from ..support.shell import Shell

COMMANDS = make_pages.commands()
OVERVIEW = make_pages.MAN / "ingest.1"
# The commands of another program, which has none of these options.
OLD_NAMES = make_pages.MAN / "pacifica-ingest.1"
PAGES = [OVERVIEW, *(make_pages.page_of(name) for name in COMMANDS)]


def section(page: Path, title: str) -> str:
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", page.read_text("utf-8"), re.M | re.S)
    assert found is not None, f"{page.name} has no section {title}"
    return found[1]


def flags(text: str) -> set[str]:
    """The options that mdoc text names: ``Fl c`` is -c and ``Fl -config`` is --config."""
    return {f"-{name}" for name in re.findall(r"\bFl (-?[a-z][a-z-]*)", text)}


def options_of(command: object) -> set[str]:
    parameters = command.params  # type: ignore[attr-defined]
    return {spelling for parameter in parameters for spelling in parameter.opts if spelling.startswith("-")}


def test_every_command_has_a_page_and_no_other_has() -> None:
    assert {path.name for path in make_pages.MAN.glob("*.1")} == {path.name for path in [*PAGES, OLD_NAMES]}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_the_options_of_its_command(name: str) -> None:
    text = make_pages.page_of(name).read_text("utf-8")
    assert make_pages.with_made_sections(text, name) == text, "run python -m tests.support.make_pages"


def test_the_overview_says_of_every_command_what_its_page_says() -> None:
    said = dict(re.findall(r"^\.It Xr ingest-([a-z-]+) 1\n(.+)$", section(OVERVIEW, "COMMANDS"), re.M))
    assert said == {
        name.replace(" ", "-"): section(make_pages.page_of(name), "NAME").split("\n.Nd ")[1].strip()
        for name in COMMANDS
    }


def test_the_overview_explains_every_common_option_in_every_spelling() -> None:
    lines = re.findall(r"^\.It (Fl .*)", section(OVERVIEW, "OPTIONS"), re.M)
    top = typer.main.get_command(app)
    commands = [top, *COMMANDS.values()]
    known = {
        frozenset(parameter.opts)
        for command in commands
        for parameter in command.params
        if command is top or parameter.opts[0] in make_pages.SHARED
    }
    assert {frozenset(flags(line)) for line in lines} == known | {frozenset(("-h", "--help"))}
    assert len(lines) == len(known) + 1


def test_the_help_says_what_each_command_does_to_the_end(command: Command) -> None:
    _, listed = command("--help").stdout.split("Commands:\n")
    lines = listed.partition("\n\n")[0].splitlines()
    assert {line.split()[0] for line in lines} == {name for name in COMMANDS if " " not in name}
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_option_that_the_program_does_not_know(page: Path) -> None:
    known = {"-h", "--help"}.union(*map(options_of, [typer.main.get_command(app), *COMMANDS.values()]))
    assert flags(page.read_text("utf-8")) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_its_sections_in_order(page: Path) -> None:
    titles = re.findall(r"^\.Sh (.+)$", page.read_text("utf-8"), re.M)
    wanted = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]
    in_order = [title for title in titles if title in wanted]
    assert in_order == [title for title in wanted if title in titles]
    assert set(wanted) - set(titles) <= {"EXIT STATUS"}


def examples(page: Path) -> list[tuple[str, str]]:
    """The commands of a page's examples, each with what it is said to write."""
    found: list[tuple[str, str]] = []
    text = section(page, "EXAMPLES")
    for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$|^\.Dl ([^\n]*)$", text, re.M | re.S):
        for line in (block[0] or block[1]).replace("\\&", "").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif found and found[-1][0].count("END") == 1:
                found[-1] = (f"{found[-1][0]}\n{line}", "")
            elif found:
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def calls(line: str) -> list[list[str]]:
    """The words behind each ``ingest`` in a line for a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in ("|", "&&", ";", ">", "<", "<<"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words[words.index("ingest") + 1 :] for words in commands if "ingest" in words]


EXAMPLES = [(page, line) for page in PAGES for line, _ in examples(page)]


@pytest.mark.parametrize(("page", "line"), EXAMPLES, ids=[f"{page.name}: {line[:40]}" for page, line in EXAMPLES])
def test_an_example_is_understood(page: Path, line: str) -> None:
    for words in calls(line):
        name, rest = (words[0], words[1:]) if words[0] in COMMANDS else ("ingest", words)
        if " ".join(words[:2]) in COMMANDS:
            name, rest = " ".join(words[:2]), words[2:]
        COMMANDS[name].make_context(name, rest)


# What has to be there before the examples of a page are tried.
READY = {
    "ingest.1": "mkdir run7 && echo data > run7/notes.txt",
    "ingest-ingest.1": "cp wednesday.tar run7.tar",
    "ingest-move.1": "",
    "ingest-check.1": "mkdir drop && echo '{}' > policy.json",
    "ingest-state.1": "ingest -q monday.tar tuesday.tar",
    "ingest-job.1": "ingest -q --queue monday.tar",
    "ingest-retry.1": "ingest -q --queue monday.tar",
    "ingest-cancel.1": "ingest -q --queue monday.tar && ingest -q --queue tuesday.tar",
    "ingest-discard.1": "ingest -q --queue monday.tar",
    "ingest-worker.1": "",
    "ingest-watch.1": "mkdir -p drop done runs/run7 && cp monday.tar drop && echo data > runs/run7/notes.txt && echo '"
    '[{"destinationTable": "Transactions.submitter", "value": 10},'
    ' {"destinationTable": "Transactions.project", "value": "1234a"},'
    ' {"destinationTable": "Transactions.instrument", "value": 54}]'
    "' > template.json",
    "ingest-pack.1": "mkdir run7 && echo data > run7/notes.txt",
    "ingest-verify.1": "ingest -q --receipt monday.receipt.json monday.tar && ingest -q tuesday.tar",
    "ingest-restore.1": "ingest -q monday.tar",
    "ingest-ls.1": "ingest -q monday.tar",
    "ingest-cat.1": "ingest -q monday.tar",
    "ingest-find.1": "ingest -q monday.tar && mkdir run7 && tar -xOf monday.tar data/a.txt > run7/notes.txt",
    "ingest-hosts.1": "ingest -q monday.tar",
    "ingest-stats.1": "ingest -q monday.tar",
    "ingest-prune.1": "ingest -q monday.tar && rm monday.tar",
    "ingest-backup.1": "ingest -q monday.tar && mkdir backup",
    "ingest-skip-ids.1": "ingest -q monday.tar",
    "ingest-migrate-store.1": "ingest -q monday.tar && mkdir disk",
    "ingest-import-jobs.1": "",
    "ingest-config.1": "",
    "ingest-config-init.1": "",
    "ingest-deploy.1": "",
    "ingest-doctor.1": "",
    "ingest-events.1": "mkdir -p $XDG_CONFIG_HOME/pacifica-ingest-cli && printf '[notifications]\\ncommand = true\\n'"
    " > $XDG_CONFIG_HOME/pacifica-ingest-cli/config.ini && ingest -q monday.tar",
    "ingest-help.1": "",
}
# What is of another machine, or of many, or does not end by itself.
NOT_TRIED = ("ssh ", "postgresql://", "--priority", "/etc/pacifica", " /srv/drop", "worker --workers")


@pytest.mark.sweep
@pytest.mark.parametrize("name", READY)
def test_the_examples_work(name: str, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME")
    shell = Shell(environment)
    write_rows(environment / "db.sqlite3", [row(1016)])
    for number, bundle in enumerate(("monday", "tuesday", "wednesday")):
        files = {"data/a.txt": b"alpha\n", "data/b.bin": bytes(range(256)) * 8, f"data/{number}": b""}
        write_bundle(environment / f"{bundle}.tar", files)
    shell(READY[name])
    tried = 0
    for line, said in examples(make_pages.MAN / name):
        if any(part in line for part in NOT_TRIED):
            continue
        tried += 1
        written = shell(line)
        if said:
            written = written.replace(f"{environment}/config", "/home/ada/.config")
            _compare(written.replace(str(environment), "/home/ada"), said)
    assert tried


def _compare(written: str, said: str) -> None:
    """Both are the same, but for times, and for what the page leaves out behind three dots."""
    written, said = (re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text) for text in (written, said))
    if said.endswith("...\n"):
        said = said.removesuffix("...\n")
        written = written[: len(said)]
    assert written == said


def test_the_example_in_python_works(environment: Path) -> None:
    found = re.search(r"^\.Sh FROM PYTHON\n\.Bd -literal.*?\n(.*?)^\.Ed$", OVERVIEW.read_text("utf-8"), re.M | re.S)
    assert found is not None
    write_bundle(environment / "monday.tar")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", found[1]],
        cwd=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "job 1: ingest metadata\n"), done.stderr

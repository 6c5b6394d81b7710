"""Completion in real shells: what is installed by the program itself, and what it then offers."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..support.bundles import document_for, write_bundle
from ..support.command import Command
from ..support.terminal import Terminal
from ..support.uploader_json import UPLOADER

SHELLS = ["bash", *(pytest.param(name, marks=pytest.mark.sweep) for name in ("zsh", "fish"))]
SHOWING_HELP = ["zsh", "fish"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, environment: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shell whose user has ``ingest`` in the path and has just installed the completion."""
    name = str(request.param)
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    home, programs = environment / "home", environment / "bin"
    home.mkdir()
    programs.mkdir()
    (home / ".zshrc").write_text("PS1='$ '\n")  # without it zsh asks its new user many questions
    # Without it fish makes completions of all manual pages, in a process that outlives it.
    (environment / "data" / "fish" / "generated_completions").mkdir(parents=True)
    runtime = environment / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))  # else fish keeps something in the folder for temporary files
    (home / ".bashrc").write_text("PS1='$ '\n")
    program = programs / "ingest"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ingest_cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    with Terminal(environment, [name, "-i"]) as terminal:
        terminal.type("ingest --install-completion\n")
        terminal.until(lambda lines: any(line.startswith(f"{name} completion installed") for line in lines))
    return name


@pytest.fixture
def typed(shell: str, environment: Path) -> Iterator[Callable[[str], Terminal]]:
    """Types into a new shell."""
    terminals = []

    def start(text: str) -> Terminal:
        terminal = Terminal(environment, [shell, "-i"])
        terminals.append(terminal)
        # What is typed before the shell is ready may be echoed twice, or lost.
        terminal.until(lambda lines: bool(lines) and lines[-1].endswith(("$", ">", "#")))
        if shell == "zsh":
            # The script that typer installs there is only loaded by the first Tab.
            terminal.type("ingest \t\x15")
        terminal.type(text)
        return terminal

    yield start
    for terminal in terminals:
        terminal.__exit__()


def test_a_command(typed: Callable[[str], Terminal]) -> None:
    typed("ingest do\t").until(lambda lines: "ingest doctor" in lines[-1])


def test_a_topic_of_the_manual(typed: Callable[[str], Terminal]) -> None:
    typed("ingest help bun\t").until(lambda lines: "ingest help bundle" in lines[-1])


def test_all_commands(typed: Callable[[str], Terminal]) -> None:
    terminal = typed("ingest \t\t")
    terminal.until(lambda lines: {"ingest", "retry", "restore", "doctor"} <= set(" ".join(lines[1:]).split()))


def test_a_bundle_without_the_word_ingest(typed: Callable[[str], Terminal], environment: Path) -> None:
    write_bundle(environment / "monday.tar")
    typed("ingest mon\t").until(lambda lines: "ingest monday.tar" in lines[-1])


def test_a_bundle_after_an_option(typed: Callable[[str], Terminal], environment: Path) -> None:
    write_bundle(environment / "monday.tar")
    typed("ingest --again mon\t").until(lambda lines: "ingest --again monday.tar" in lines[-1])


def test_options_of_the_default_command(typed: Callable[[str], Terminal]) -> None:
    typed("ingest --aga\t").until(lambda lines: "ingest --again" in lines[-1])


def test_a_file_of_a_deployment(typed: Callable[[str], Terminal]) -> None:
    typed("ingest deploy systemd ingest.so\t").until(lambda lines: "systemd ingest.socket" in "".join(lines))


def test_options_of_a_command(typed: Callable[[str], Terminal]) -> None:
    typed("ingest worker --unt\t").until(lambda lines: "ingest worker --until-empty" in lines[-1])


def is_shown(line: str, lines: list[str]) -> bool:
    """Whether a line is there, which may be broken at its spaces."""
    return line.replace(" ", "") in "".join(lines).replace(" ", "")


def test_the_options_of_a_site(typed: Callable[[str], Terminal], environment: Path) -> None:
    (environment / "uploader.json").write_text(json.dumps(UPLOADER))
    line = "ingest upload --uploader-config uploader.json --project 1234a"
    typed(f"{line} --instrument-\t").until(lambda lines: is_shown(f"{line} --instrument-regex", lines))
    typed("ingest upload --uploader-config uploader.json --project \t").until(
        lambda lines: "--project" in "".join(lines)
    )
    (environment / "uploader.json").write_text("junk")
    terminal = typed(f"{line} --token-\t")
    lines = terminal.until(lambda lines: is_shown(f"{line} --token-file", lines))
    assert not any("Traceback" in line or "ingest: " in line for line in lines)


def test_the_files_of_a_job(typed: Callable[[str], Terminal], command: Command, environment: Path) -> None:
    names = ["data/sub/b.bin", *(f"data/many/{number}" for number in range(300)), "data/it's here"]
    assert command("-q", write_bundle(environment / "b.tar", dict.fromkeys(names, b"x"))).returncode == 0
    typed("ingest cat 1 su\t").until(lambda lines: "ingest cat 1 sub/b.bin" in lines[-1])
    typed("ingest cat 1 \t\t").until(lambda lines: {"many/", "sub/"} <= set(" ".join(lines).split()))


def test_job_ids_with_what_became_of_them(
    typed: Callable[[str], Terminal], command: Command, shell: str, environment: Path
) -> None:
    command(write_bundle(environment / "good.tar"))
    nasty = environment / "it's [" / "b] $(touch x) `touch x` bad.tar"
    nasty.parent.mkdir()
    command(write_bundle(nasty, {"data/x": b"y"}, document_for({"data/x": b"x"})))
    terminal = typed("ingest state \t\t")
    terminal.until(lambda lines: {"1", "2"} <= set(" ".join(lines[1:]).split()))
    if shell in SHOWING_HELP:
        shown = " ".join(terminal.until(lambda lines: any("failed" in line for line in lines)))
        assert "complete good.tar" in shown
        assert "failed ...?x???touch?x??bad.tar" in shown
    assert not (environment / "x").exists(), "the name of a bundle is no command"
    typed("ingest retry \t").until(lambda lines: "ingest retry 2" in lines[-1])
    typed("ingest verify \t").until(lambda lines: "ingest verify 1" in lines[-1])
    typed("ingest restore \t").until(lambda lines: "ingest restore 1" in lines[-1])
    typed("ingest job --state FAILED --job-id \t\t").until(lambda lines: any("2" in line for line in lines[1:]))


@pytest.mark.sweep
def test_where_there_is_no_store_none_is_made_and_nothing_is_said(
    typed: Callable[[str], Terminal], environment: Path
) -> None:
    (environment / "junk").write_text("junk")
    for words in ("state ", "verify --db no.sqlite3 ", "verify --db junk ", "state --config junk "):
        terminal = typed(f"ingest {words}\t")
        terminal.type("\N{WHITE SMILING FACE}")
        lines = terminal.until(lambda lines: any("\N{WHITE SMILING FACE}" in line for line in lines))
        assert not any("Traceback" in line or "ingest: " in line for line in lines)
    assert not (environment / "data" / "pacifica-ingest-cli").exists()
    assert not (environment / "no.sqlite3").exists()
    assert (environment / "junk").read_text() == "junk"

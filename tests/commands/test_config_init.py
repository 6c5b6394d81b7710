"""``ingest config init`` writes a configuration that counts, and nothing over what was there."""

import json
import re
import stat
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_cli.errors import ExitCode, SettingsError
from ingest_cli.maintenance.config_file import write_config
from ingest_cli.settings import Option, load_settings
from ingest_cli.settings.options import (
    CATALOG_URL,
    DATABASE,
    DEFAULT_USER,
    OPTIONS,
    SERVER_PASSWORD,
    SERVER_TOKEN,
    SERVER_USERNAME,
    UNIQUEID_URL,
)
from ingest_cli.settings.values import values_in
from ingest_cli.settings.writing import config_text

from ..support.bundles import document_for, write_bundle
from ..support.command import Command
from ..support.pacifica_double import PacificaSite
from ..support.terminal import Terminal

PATH = Path("/etc/ingest/config.ini")


@pytest.fixture
def file(environment: Path) -> Path:
    return environment / "config" / "pacifica-ingest-cli" / "config.ini"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_key_is_there_with_its_meaning_and_its_default() -> None:
    text = config_text({}, PATH)
    assert {value.origin for value in values_in(text, PATH)} == {"default"}
    commented = " ".join(line.removeprefix("# ") for line in text.splitlines())
    for value in values_in("", PATH):
        assert f"{value.option.meaning} [{value.option.variable}]" in commented
        assert f"\n#{value.option.key} = {value.text.replace('%', '%%')}".rstrip() in text
    assert max(len(line) for line in text.splitlines() if line.startswith("# ")) <= 80
    all_of_it = re.sub(r"^#(\w+ =)", r"\1", text, flags=re.MULTILINE)
    assert [value.text for value in values_in(all_of_it, PATH)] == [value.text for value in values_in("", PATH)]


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.sampled_from(OPTIONS), st.text(st.characters(codec="utf-8"), max_size=12), max_size=4))
def test_what_was_chosen_is_what_is_read_or_is_refused(chosen: dict[Option, str]) -> None:
    try:
        text = config_text(chosen, PATH)
    except SettingsError:
        return
    read = {value.option: value.text for value in values_in(text, PATH) if value.origin != "default"}
    assert read == {option: value.strip() for option, value in chosen.items() if value.strip()}


@pytest.mark.parametrize("value", ["50%", "%(x)s", "/a\n/b", "# no comment", "a = b", "[x]", "ä"])
def test_what_a_file_can_hold_is_not_refused(value: str) -> None:
    chosen = {DEFAULT_USER: value, SERVER_PASSWORD: value}
    read = {value.option: value.text for value in values_in(config_text(chosen, PATH), PATH)}
    assert [read[option] for option in chosen] == [value, value]


def test_it_counts_and_is_told(command: Command, file: Path, environment: Path) -> None:
    done = command("config", "init", "--yes", "--user", "ada", "--data", "here", "--set", "ingest.retries=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"wrote {file}\nOK   job store ")
    assert mode_of(file) == 0o644
    read = load_settings(environment={"INGEST_CONFIG": str(file)})
    assert (read.user, read.timings.retries) == ("ada", 3)
    assert (read.database, read.archive) == (environment / "here/jobs.sqlite3", environment / "here/archive")
    assert command(write_bundle(environment / "b.tar")).returncode == 0
    assert (environment / "here" / "jobs.sqlite3").is_file()


def test_nothing_that_is_there_is_replaced_unless_that_is_asked_for(command: Command, file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("[server]\ntoken = mine\n")
    refused = command("config", "init", "--yes")
    assert (refused.returncode, file.read_text()) == (ExitCode.USAGE, "[server]\ntoken = mine\n")
    assert f"{file} is there already" in refused.stderr
    assert command("config", "init", "--yes", "--force").returncode == 0
    kept = file.with_name("config.ini.old")
    assert (kept.read_text(), mode_of(kept)) == ("[server]\ntoken = mine\n", 0o600)
    assert not load_settings(config=file).server.token


@pytest.mark.parametrize("words", [["--server"], ["--set", "metadata.ingest_url=http://me:secret@127.0.0.1:9/x"]])
def test_secrets_are_for_the_owner_alone(command: Command, file: Path, words: list[str]) -> None:
    assert command("config", "init", "--yes", *words).returncode == 0
    assert mode_of(file) == 0o600


def test_a_token_is_another_one_each_time_and_never_shown(command: Command, environment: Path) -> None:
    tokens = set()
    for name in ("a.ini", "b.ini"):
        done = command("config", "init", "--yes", "--server", "--config", name)
        token = load_settings(config=environment / name).server.token
        assert token is not None
        assert len(token) > 32
        assert token not in done.stdout + done.stderr
        assert f"for this file to count, give --config {environment / name}" in done.stderr
        tokens.add(token)
    assert len(tokens) == 2


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("words", "saying"),
    [
        ([], "there is nobody to ask: give --yes"),
        (["--yes", "--set", "databse.path=/x"], "there is no 'databse.path'; did you mean 'database.path'?"),
        (["--yes", "--set", "database.path"], "'database.path' is not of the form SECTION.KEY=VALUE"),
        (["--yes", "--set", "ingest.retries=many"], "[ingest] retries: 'many' is not a number"),
    ],
)
def test_what_is_not_understood_is_not_written(command: Command, file: Path, words: list[str], saying: str) -> None:
    done = command("config", "init", *words)
    assert (done.returncode, saying in done.stderr) == (ExitCode.USAGE, True), done.stderr
    assert not file.exists()


@pytest.mark.parametrize(
    ("chosen", "saying"),
    [
        ({UNIQUEID_URL: "ftp://x"}, "[uniqueid] url: 'ftp://x' is neither file:"),
        ({SERVER_USERNAME: "me"}, "username and password go together"),
        ({DATABASE: "/a\n#b"}, "no configuration file can hold this value of [database] path"),
        ({DATABASE: "/a\rb"}, "no configuration file can hold these values"),
    ],
)
def test_what_cannot_be_used_is_not_written(file: Path, chosen: dict[Option, str], saying: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(saying)):
        write_config(chosen, file, replace=False)
    assert not file.exists()


def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(SettingsError, match=r"cannot write /proc/config\.ini: "):
        write_config({}, Path("/proc/config.ini"), replace=False)


def test_options_before_the_word_are_not_lost_in_silence(command: Command, file: Path) -> None:
    done = command("config", "--db", "/x", "init", "--yes")
    assert (done.returncode, file.exists()) == (ExitCode.USAGE, False)
    assert "write --db behind init" in done.stderr


def test_a_word_that_is_no_command_of_the_group_is_told_in_a_sentence(command: Command, file: Path) -> None:
    done = command("config", "innit")
    assert (done.returncode, file.exists()) == (ExitCode.USAGE, False)
    assert done.stderr.startswith("ingest: 'ingest config' has no command 'innit'; did you mean 'init'?\n")


def test_what_wins_over_the_file_is_said(command: Command, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("INGEST_DEFAULT_USER", "grace")
    done = command("config", "init", "--yes", "--user", "ada")
    assert "INGEST_DEFAULT_USER is set, and wins over [ingest] default_user of the file" in done.stderr
    assert "ada" in file.read_text()


def test_drop_folders_are_those_of_the_configuration_unless_others_are_given(
    command: Command, environment: Path, file: Path
) -> None:
    folders = [environment / name for name in ("drop", "done", "other")]
    for folder in folders:
        folder.mkdir()
    drop, done, other = folders
    words = ["--set", f"watch.folders={drop}", "--set", f"watch.done={done}"]
    assert command("config", "init", "--yes", *words).returncode == 0
    once = ("watch", "--once", "--quiet", "--settle", 0)
    write_bundle(drop / "a.tar")
    write_bundle(other / "b.tar", {"data/b": b"b"}, document_for({"data/b": b"b"}))
    assert command(*once).returncode == 0
    assert ([path.name for path in done.iterdir()], (other / "b.tar").exists()) == (["a.tar"], True)
    assert command(*once, "--delete", other).returncode == 0
    assert ([path.name for path in done.iterdir()], (other / "b.tar").exists()) == (["a.tar"], False)


def test_a_service_that_is_down_is_told_and_the_file_is_written(command: Command, file: Path) -> None:
    done = command("config", "init", "--yes", "--set", "policy.ingest_url=http://127.0.0.1:9/ingest")
    assert (done.returncode, file.exists()) == (0, True)
    assert "FAIL policy" in done.stdout
    assert "not everything works yet: 'ingest doctor' checks it again" in done.stderr


def _is_asked(question: str, lines: list[str]) -> bool:
    return len(lines) > 1 and lines[-1].endswith("]") and question in "".join(lines[-3:])


def talk(terminal: Terminal, *answers: tuple[str, str]) -> None:
    """Give each answer once its question is the last one, or what complains of another answer to it stands before."""
    for question, answer in answers:
        terminal.until(partial(_is_asked, question))
        terminal.type(f"{answer}\n")


def test_a_person_is_asked(command: Command, environment: Path, file: Path) -> None:
    drop = environment / "drop"
    with Terminal(environment, command.line("config", "init"), columns=140) as terminal:
        talk(
            terminal,
            ("Who keeps the files", ""),
            ("Folder for the databases", str(environment / "db")),
            ("Folder for the archive", str(environment / "disk")),
            ("User that the policy", "ada"),
            ("Drop folder", str(drop)),
            ("Folder to move to", ""),
            (f"There is no {drop}:", "y"),
            (f"There is no {drop}-done:", ""),
            ("Take bundles from other machines", "perhaps"),
            ("'perhaps' is neither yes nor no", "yes"),
        )
        assert terminal.end() == 0
    read = load_settings(config=file)
    assert (read.database, read.archive) == (environment / "db" / "jobs.sqlite3", environment / "disk")
    assert read.watch.folders == (drop,)
    assert read.watch.done == Path(f"{drop}-done")
    assert drop.is_dir()
    assert (read.user, bool(read.server.token)) == ("ada", True)
    write_bundle(drop / "b.tar")
    assert command("watch", "--once", "--settle", 0).returncode == 0
    assert [path.name for path in Path(f"{drop}-done").iterdir()] == ["b.tar"]


@pytest.mark.sweep
def test_a_person_at_a_site_of_pacifica_has_each_service_tried(command: Command, environment: Path, file: Path) -> None:
    with PacificaSite() as pacific, Terminal(environment, command.line("config", "init"), columns=140) as terminal:
        urls = pacific.environment()
        talk(
            terminal,
            ("Who keeps the files", "pacifica"),
            ("URL of the id service", "ids.example.org"),
            ("URL of the id service", urls["UNIQUEID_URL"]),
            ("URL of the policy service", urls["POLICY_INGEST_URL"]),
            ("URL of the archive interface", urls["ARCHIVEINTERFACE_URL"]),
            ("URL of the metadata service", urls["METADATA_INGEST_URL"]),
            ("Folder for the job store", ""),
            ("User that the policy", ""),
            ("Drop folder", ""),
            ("Take bundles from other machines", ""),
        )
        assert terminal.end() == 0
        assert "'ids.example.org' is not an http(s) URL" in terminal.raw
    chosen = {value.option: value.text for value in load_settings(config=file).values}
    assert [chosen[option] for option in (UNIQUEID_URL, CATALOG_URL)] == [
        urls["UNIQUEID_URL"],
        urls["METADATA_INGEST_URL"],
    ]
    assert chosen[SERVER_TOKEN] == ""


@pytest.mark.sweep
def test_ctrl_c_leaves_everything_as_it_is(command: Command, environment: Path, file: Path) -> None:
    with Terminal(environment, command.line("config", "init")) as terminal:
        talk(terminal, ("Who keeps the files", ""))
        terminal.until(lambda lines: any("Folder for the databases" in line for line in lines))
        terminal.press("c")
        assert terminal.end() == ExitCode.INTERRUPTED
    assert not file.exists()


def test_config_shows_what_is_set_and_where(command: Command, file: Path) -> None:
    said = command("config").stdout.splitlines()
    assert said[0] == f"configuration file: {file}, which is not there: 'ingest config init' writes it"
    assert next(line for line in said if line.startswith("[ingest]")).startswith("[ingest] volume_path = ")
    assert not any("default_user" in line for line in said)
    assert command("config", "init", "--yes", "--server", "--user", "ada").returncode == 0
    said = command("config").stdout.splitlines()
    assert said[0] == f"configuration file: {file}"
    assert said[said.index("[ingest] default_user = ada") + 1].endswith(f"from: {file}; variable: INGEST_DEFAULT_USER")
    assert "[server] token = (hidden)" in said
    whole = command("config", "--all").stdout
    assert len(re.findall(r"^\[\w+\] \w+ = ", whole, re.MULTILINE)) == len(OPTIONS)
    assert len(json.loads(command("config", "--json").stdout)) == len(OPTIONS), "scripts always had all of them"


def test_config_names_the_job_store_that_counts(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_DATABASE_URL", "postgresql://ada:hush@db.example.org/ingest")
    said = command("config").stdout
    assert "[database] url = postgresql://ada@db.example.org/ingest\n" in said
    assert "[database] path" not in said
    assert "[database] path" in command("config", "--all").stdout


def test_a_link_stays_one(command: Command, environment: Path, file: Path) -> None:
    """What it leads to is replaced: somebody keeps it there."""
    kept = environment / "dotfiles" / "ingest.ini"
    kept.parent.mkdir()
    kept.write_text("[ingest]\n")
    file.parent.mkdir(parents=True)
    file.symlink_to(kept)
    assert command("config", "init", "--yes", "--force").returncode == 0
    assert file.is_symlink()
    assert "[database]" in kept.read_text()
    assert kept.with_name("ingest.ini.old").read_text() == "[ingest]\n"

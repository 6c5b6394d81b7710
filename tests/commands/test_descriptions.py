"""Of whom and what a folder is: from where that is known, who is asked, and what is said where nobody knows."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.bundle.description import IDS, Description, read_description
from ingest_cli.errors import ExitCode, SettingsError
from ingest_cli.pipeline.describing import describe
from ingest_cli.settings import load_settings

from ..support.bundles import FILES, write_folder
from ..support.command import Command
from ..support.site import Site

OF = ("--submitter", 10, "--project", "1234a", "--instrument", 54)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "campaign" / "run")


def write(folder: Path, **said: Any) -> None:
    (folder / ".ingest.json").write_text(json.dumps(said))


@pytest.mark.parametrize("seed", range(40))
def test_the_first_that_says_it_counts(tmp_path: Path, run: Path, seed: int) -> None:
    """Options, the environment, the folder's file, that of the folder around it, the configuration file."""
    chance = random.Random(seed)
    said: list[dict[str, Any]] = [
        {name: 10 * rank + number for number, name in enumerate(IDS) if chance.random() < 0.4} for rank in range(5)
    ]
    options, environment, own, around, configured = said
    for folder, of in ((run, own), (run.parent, around)):
        write(folder, **{name: str(value) if name == "project" else value for name, value in of.items()})
    lines = [f"{name} = {value}\n" for name, value in configured.items()]
    (tmp_path / "config.ini").write_text("".join(["[defaults]\n", *lines]))
    variables = {f"INGEST_{name.upper()}": str(value) for name, value in environment.items()}
    settings = load_settings(config=tmp_path / "config.ini", environment={**variables, "HOME": str(tmp_path)})
    found = describe([run, run.parent], Description(**options), settings.defaults)
    expected = {name: next((of[name] for of in said if name in of), None) for name in IDS}
    assert {name: None if getattr(found, name) is None else int(getattr(found, name)) for name in IDS} == expected


def test_keys_and_patterns_come_from_all_and_a_given_key_counts(run: Path) -> None:
    write(run, keys={"Sample": "H2O", "Tag": ["a", "b"]}, exclude=["*.tmp"])
    write(run.parent, keys={"Sample": "other", "Site": "X"}, exclude=["cache/"])
    found = describe([run, run.parent], Description(keys=(("Tag", "c"),)), load_settings().defaults)
    assert sorted(found.keys) == [("Sample", "H2O"), ("Site", "X"), ("Tag", "c")]
    assert sorted(found.exclude) == ["*.tmp", "cache/"]


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("[", "is not JSON"),
        ("[]", 'not an object, such as {"project": "1234a"}'),
        ('{"projct": "a"}', "'projct' is not known"),
        ('{"submitter": "10"}', "'submitter' is not a number: '10'"),
        ('{"submitter": true}', "'submitter' is not a number: True"),
        ('{"instrument": -1}', "'instrument' is not a number: -1"),
        ('{"project": 7}', "'project' is not a text: 7"),
        ('{"keys": ["a"]}', "'keys' is not an object"),
        ('{"keys": {"a": 1}}', "'a' is neither a text nor a list of texts"),
        ('{"exclude": [1]}', "'exclude' is neither a text nor a list of texts"),
        ("[" * 100_000, "is not JSON"),
        ('"' + "x" * (1 << 20) + '"', "is longer than"),
        ('"\\ud800', "is not JSON"),
    ],
)
def test_a_file_that_says_nothing_usable_is_named(run: Path, text: str, saying: str) -> None:
    (run / ".ingest.json").write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_description(run)
    assert str(refused.value).startswith(str(run / ".ingest.json"))
    assert saying in str(refused.value)


def test_a_file_that_is_no_file_is_no_trap(run: Path, tmp_path: Path) -> None:
    (run / ".ingest.json").mkdir()
    with pytest.raises(SettingsError, match="not a regular file"):
        read_description(run)


def test_where_nobody_can_be_asked_the_ways_are_named(command: Command, site: Site, run: Path) -> None:
    done = command(run, "--project", "1234a")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == (
        f"ingest: {run}: submitter and instrument not given: give --submitter and --instrument, set INGEST_SUBMITTER"
        f" and INGEST_INSTRUMENT or [defaults] in the configuration file, or write {run}/.ingest.json\n"
    )
    assert not site.database.exists()


def test_what_stands_in_the_folder_is_enough_and_is_not_stored(command: Command, site: Site, run: Path) -> None:
    write(run, submitter=10, project="1234a", instrument=54, keys={"Sample": "H2O"}, exclude=["empty"])
    done = command(run)
    assert done.returncode == 0, done.stderr
    assert "warning: 1 file or folder of this program left out: .ingest.json" in done.stderr
    assert site.contents() == {name: content for name, content in FILES.items() if name != "data/empty"}
    assert [(pair["key"], pair["value"]) for pair in site.rows("TransactionKeyValue")] == [("Sample", "H2O")]
    assert command("pack", run, "-q", "-o", "b.tar").returncode == 0
    assert command("b.tar").stdout == "job 1: b.tar was ingested before\n"


def test_options_of_folders_are_refused_where_there_is_none(command: Command, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("x")
    for words in (("--project", "a"), ("--dry-run",), ("--each",), ("--exclude", "*.tmp")):
        done = command("b.tar", *words)
        assert done.returncode == ExitCode.USAGE
        assert "b.tar is not a folder, and these options are of folders" in done.stderr
    assert "'ingest check b.tar' checks a bundle" in command("b.tar", "--dry-run").stderr

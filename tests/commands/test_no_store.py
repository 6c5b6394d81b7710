"""What only reads, or changes jobs that are there, makes no store: it names the one that is not there."""

from pathlib import Path

import pytest

from ingest_cli import api
from ingest_cli.errors import ExitCode, SettingsError

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.site import Site

BY_HAND = ["--job-id", 1, "--state", "FAILED", "--task", "ingest files", "--task-percent", 0]
READING: dict[str, list[object]] = {
    "state": ["state"],
    "state of a job": ["state", 1],
    "stats": ["stats"],
    "hosts": ["hosts"],
    "verify": ["verify", 1],
    "verify all": ["verify", "--all"],
    "restore a folder": ["restore", 1, "--to", "restored"],
    "restore a bundle": ["restore", 1, "-o", "restored"],
    "job": ["job", *BY_HAND],
    "retry": ["retry", 1],
    "retry all": ["retry", "--failed"],
    "discard": ["discard", 1],
    "events": ["events"],
    "prune": ["prune", "--yes"],
    "backup": ["backup", "copies"],
}


def all_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.sweep
@pytest.mark.parametrize("words", READING.values(), ids=READING)
def test_nothing_is_made(command: Command, site: Site, tmp_path: Path, words: list[object]) -> None:
    before = all_below(tmp_path)
    done = command(*words)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == f"ingest: there is no job store {site.database} (default: [database] path)\n"
    assert (done.stdout, all_below(tmp_path)) == ("", before)


@pytest.mark.parametrize("named_by", ["command line", "INGEST_DB", "config.ini"])
def test_whatever_names_the_store_is_named(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    path, words = tmp_path / "mistyped" / "jobs.sqlite3", list(READING["state"])
    if named_by == "command line":
        words += ["--db", path]
    elif named_by == "INGEST_DB":
        monkeypatch.setenv("INGEST_DB", str(path))
    else:
        (tmp_path / "config.ini").write_text(f"[database]\npath = {path}\n")
        words += ["--config", tmp_path / "config.ini"]
    done = command(*words)
    assert done.returncode == ExitCode.USAGE
    assert f"there is no job store {path} (" in done.stderr
    assert f"{named_by}: [database] path)" in done.stderr
    assert not path.parent.exists()


@pytest.mark.sweep
@pytest.mark.parametrize(("variable", "name"), [("METADATA_INGEST_URL", "catalogue"), ("UNIQUEID_URL", "id store")])
@pytest.mark.parametrize(
    "words", [READING[name] for name in READING if name.startswith(("verify", "restore", "backup"))]
)
def test_a_catalogue_that_is_not_there_is_named(
    command: Command,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    variable: str,
    name: str,
) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    monkeypatch.setenv(variable, (tmp_path / "mistyped").as_uri())
    before = all_below(tmp_path)
    done = command(*words)
    assert done.returncode == ExitCode.USAGE
    assert f"there is no {name} {tmp_path / 'mistyped'} ({variable}: [" in done.stderr
    assert all_below(tmp_path) == before


def test_an_archive_that_is_not_there(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    api.save_receipt(1, tmp_path / "receipt", settings=site.settings)
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", (tmp_path / "mistyped").as_uri())
    before = all_below(tmp_path)
    for words in (["verify", 1], ["verify", "--receipt", "receipt"], ["restore", 1, "--to", "restored"], ["doctor"]):
        done = command(*words)
        assert done.returncode == ExitCode.UNREACHABLE, done.stderr
        assert f"the archive is not in {tmp_path / 'mistyped'}" in done.stdout + done.stderr
    assert all_below(tmp_path) == before


def test_scripts_are_told_too(site: Site, tmp_path: Path) -> None:
    calls = [
        lambda: api.find_job(1, settings=site.settings),
        lambda: api.verify_job(1, settings=site.settings),
        lambda: api.save_receipt(1, tmp_path / "receipt", settings=site.settings),
        lambda: list(api.discard_jobs([1], settings=site.settings)),
    ]
    for call in calls:
        with pytest.raises(SettingsError, match=r"there is no (job store|catalogue)"):
            call()  # type: ignore[no-untyped-call]
    assert not site.database.parent.exists()


@pytest.mark.parametrize("words", [["worker", "--until-empty"], ["watch", "--once", "."]])
def test_what_takes_jobs_makes_a_store(command: Command, site: Site, words: list[str]) -> None:
    assert command(*words).returncode == 0
    assert site.database.is_file()
    assert command("state").stdout == "no jobs yet\n"

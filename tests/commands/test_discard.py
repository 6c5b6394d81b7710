"""``ingest discard``: an unfinished job is abandoned, and the archive holds nothing of it."""

import json
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from ..support.bundles import FILES, document_for, write_bundle
from ..support.command import Command
from ..support.shown import is_stored
from ..support.site import Site


@pytest.fixture
def no_catalogue(monkeypatch: pytest.MonkeyPatch) -> "pytest.MonkeyPatch":
    """The catalogue is away, so that jobs end with their files stored and nothing recorded."""
    monkeypatch.setenv("METADATA_INGEST_URL", "http://127.0.0.1:9/ingest")
    return monkeypatch


def write_move(document: Path, source: Path) -> Path:
    """A move of one file, as data/a.txt."""
    records = document_for({"data/a.txt": source.read_bytes()})
    records[-1]["source"] = str(source)
    document.write_text(json.dumps(records))
    return document


def test_a_bundle(command: Command, site: Site, tmp_path: Path, no_catalogue: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    assert command(bundle).returncode == 4
    assert len(site.archived()) == len(FILES)
    no_catalogue.delenv("METADATA_INGEST_URL")
    bundle.unlink()
    done = command("discard", 1)
    assert done.returncode == 0, done.stderr
    assert site.archived() == {}
    (job,) = site.jobs()
    assert (job.state, job.reservation) == ("discarded", None)
    assert command("verify", "--all").returncode == 0
    assert command(write_bundle(bundle)).stdout.startswith("job 2:")


def test_a_move(command: Command, site: Site, tmp_path: Path, no_catalogue: pytest.MonkeyPatch) -> None:
    records = document_for(FILES)
    for record in records:
        if record["destinationTable"] == "Files":
            source = tmp_path / record["subdir"].replace("/", "_") / record["name"]
            source.parent.mkdir(exist_ok=True)
            source.write_bytes(FILES[f"{record['subdir']}/{record['name']}"])
            record["source"] = str(source)
    sources = {Path(record["source"]) for record in records if "source" in record}
    (tmp_path / "m.json").write_text(json.dumps(records))
    assert command("move", "m.json").returncode == 4
    assert len(site.archived()) == len(sources)
    no_catalogue.delenv("METADATA_INGEST_URL")
    assert command("discard", 1).returncode == 0
    assert {source.read_bytes() for source in sources} == set(FILES.values())
    assert site.archived() == {}


def test_what_is_complete_is_not_discarded(command: Command, site: Site, tmp_path: Path) -> None:
    assert command(write_bundle(tmp_path / "b.tar")).returncode == 0
    done = command("discard", 1)
    assert done.returncode == 1
    assert "job 1 cannot be discarded: it is recorded in the catalogue" in done.stderr
    assert site.contents() == FILES


def test_what_the_catalogue_holds_is_complete_rather(command: Command, site: Site, tmp_path: Path) -> None:
    """As after a kill between the catalogue's word and the job's."""
    assert command(write_bundle(tmp_path / "b.tar")).returncode == 0
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("UPDATE jobs SET state = 'queued', task_percent = 0")
        connection.execute("INSERT INTO reservations VALUES (1, 1, ?, 0, NULL)", [len(FILES)])
    assert command("discard", 1).returncode == 1
    assert site.contents() == FILES
    assert is_stored(json.loads(command("state", 1, "--json").stdout))


@pytest.mark.parametrize("stands", ["the file that was moved", "another file", "a file modified since"])
def test_the_sources_of_a_move_that_the_catalogue_holds(
    command: Command, site: Site, tmp_path: Path, stands: str
) -> None:
    """As after a kill between the catalogue's word and the removal of the sources, which is made up for."""
    source = tmp_path / "a.txt"
    source.write_bytes(b"moved")
    write_move(tmp_path / "m.json", source)
    assert command("move", "m.json").returncode == 0
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("UPDATE jobs SET state = 'queued', task_percent = 0")
        noted = zlib.compress(json.dumps([str(source)]).encode())
        connection.execute("INSERT INTO reservations VALUES (1, 1, 1, 0, ?)", [noted])
    if stands == "another file":
        source.write_bytes(b"other")
    else:
        source.hardlink_to(site.file(1))
    if stands == "a file modified since":
        source.chmod(0o600)
        source.write_bytes(b"later")
    assert command("discard", 1).returncode == 1
    assert is_stored(json.loads(command("state", 1, "--json").stdout))
    assert source.exists() == (stands != "the file that was moved")
    if stands == "another file":
        assert (source.read_bytes(), site.contents()) == (b"other", {"data/a.txt": b"moved"})


def test_a_job_that_stored_nothing(command: Command, site: Site, tmp_path: Path) -> None:
    assert command(write_bundle(tmp_path / "b.tar", metadata=b"{}")).returncode == 1
    assert command("discard", 1).returncode == 0


def test_a_move_whose_document_is_gone(
    command: Command, site: Site, tmp_path: Path, no_catalogue: pytest.MonkeyPatch
) -> None:
    """Where its files came from was noted before they were moved."""
    source = tmp_path / "a.txt"
    source.write_bytes(FILES["data/a.txt"])
    document = write_move(tmp_path / "m.json", source)
    assert command("move", document).returncode == 4
    no_catalogue.delenv("METADATA_INGEST_URL")
    document.unlink()
    source.unlink()
    assert command("discard", 1).returncode == 0
    assert source.read_bytes() == FILES["data/a.txt"]
    assert site.archived() == {}

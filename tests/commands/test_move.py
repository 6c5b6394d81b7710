"""Moving files that lie on a disk already: a source is never lost."""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import IngestError

from ..support.bundles import file_record, transaction
from ..support.command import Command
from ..support.shown import is_stored
from ..support.site import Site

CONTENTS = {"one": b"1", "two": b"22", "three": b"333"}


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return make_sources(tmp_path / "instrument")


def make_sources(folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in CONTENTS}


def write_document(path: Path, sources: dict[str, Path], **changes: Any) -> Path:
    records = [file_record(f"data/{name}", CONTENTS[name], source=str(source)) for name, source in sources.items()]
    records[1].update(changes)
    path.write_text(json.dumps([*transaction(), *records]))
    return path


def all_stand(sources: dict[str, Path]) -> bool:
    return {name: source.read_bytes() for name, source in sources.items()} == CONTENTS


def test_sources_are_moved_into_the_archive(site: Site, tmp_path: Path, sources: dict[str, Path]) -> None:
    inodes = {name: source.stat().st_ino for name, source in sources.items()}
    job = site.move(write_document(tmp_path / "d.json", sources))
    assert job.is_done
    assert "move files" in site.witness.stages
    assert (site.witness.bytes_checked, site.witness.bytes_stored) == (site.witness.planned, site.witness.planned)
    assert (site.witness.files_checked, site.witness.files_stored) == (len(CONTENTS), len(CONTENTS))
    assert not any(source.exists() for source in sources.values())
    assert site.contents() == {f"data/{name}": content for name, content in CONTENTS.items()}
    for row in site.rows("Files"):
        found = site.file(row["id"]).stat()
        assert found.st_mode & 0o222 == 0
        assert found.st_ino == inodes[row["name"]], "a move within a file system copies nothing"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_sources_on_another_file_system_are_copied_then_removed(site: Site, tmp_path: Path, elsewhere: Path) -> None:
    sources = make_sources(elsewhere / "instrument")
    with pytest.raises(IngestError):
        site.move(write_document(tmp_path / "bad.json", sources, mimetype="bad"))
    assert all_stand(sources)
    assert site.move(write_document(tmp_path / "d.json", sources)).is_done
    assert not any(source.exists() for source in sources.values())
    assert site.contents() == {f"data/{name}": content for name, content in CONTENTS.items()}


def test_sources_on_another_file_system_are_given_back(site: Site, tmp_path: Path, elsewhere: Path) -> None:
    site.move(write_document(tmp_path / "first.json", make_sources(tmp_path / "first")))
    with closing(sqlite3.connect(site.catalog)) as connection, connection:
        connection.execute("INSERT INTO Transactions VALUES (2, 1, 'taken', 1, 'now', 'digest')")
    before = site.archived()
    sources = make_sources(elsewhere / "instrument")
    times = {name: source.stat().st_mtime_ns for name, source in sources.items()}
    with pytest.raises(IngestError, match="refuses transaction 2") as caught:
        site.move(write_document(tmp_path / "d.json", sources, ctime="2020-01-01"))
    assert not hasattr(caught.value, "__notes__")
    assert all_stand(sources)
    assert all(abs(sources[name].stat().st_mtime_ns - time) < 1000 for name, time in times.items())
    assert len(list((elsewhere / "instrument").iterdir())) == len(sources)
    assert site.archived() == before
    assert site.job(2).state == "failed"


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"hashsum": "0" * 40}, "move files"),
        ({"hashsum": "deadbeef"}, "move files"),
        ({"size": 1e30}, "load metadata"),
        ({"source": "/" + "x" * 5000}, "load metadata"),
        ({"size": 5}, "move files"),
        ({"source": "/nonexistent/file"}, "move files"),
        ({"source": "relative"}, "load metadata"),
        ({"source": "/"}, "move files"),
        ({"source": "/tmp/../etc/passwd"}, "load metadata"),
        ({"mimetype": "bad"}, "ingest metadata"),
    ],
)
def test_a_bad_file_leaves_every_source_where_it_was(
    site: Site, tmp_path: Path, sources: dict[str, Path], changes: dict[str, Any], stage: str
) -> None:
    with pytest.raises(IngestError):
        site.move(write_document(tmp_path / "d.json", sources, **changes))
    assert site.jobs()[0].task == stage
    assert all_stand(sources)
    assert site.holds_nothing()


def test_links_and_pairs_are_refused(site: Site, tmp_path: Path, sources: dict[str, Path]) -> None:
    link = tmp_path / "link"
    link.symlink_to(sources["two"])
    with pytest.raises(IngestError):
        site.move(write_document(tmp_path / "link.json", sources, source=str(link)))
    with pytest.raises(IngestError, match="the same source"):
        site.move(write_document(tmp_path / "pair.json", sources, source=str(sources["one"])))
    assert all_stand(sources)


def test_a_source_is_required(site: Site, tmp_path: Path) -> None:
    document = tmp_path / "d.json"
    document.write_text(json.dumps([*transaction(), file_record("data/x", b"x")]))
    with pytest.raises(IngestError, match="has no 'source'"):
        site.move(document)


def test_what_the_catalogue_refuses_at_last_is_given_back(site: Site, tmp_path: Path, sources: dict[str, Path]) -> None:
    site.move(write_document(tmp_path / "first.json", make_sources(tmp_path / "first")))
    with closing(sqlite3.connect(site.catalog)) as connection, connection:
        connection.execute("INSERT INTO Transactions VALUES (2, 1, 'taken', 1, 'now', 'digest')")
    before = site.archived()
    document = write_document(tmp_path / "d.json", sources, ctime="2020-01-01")
    with pytest.raises(IngestError, match="refuses transaction 2"):
        site.move(document)
    assert all_stand(sources)
    assert site.archived() == before
    assert all(os.access(source, os.W_OK) for source in sources.values())


def test_a_move_that_was_done_before_says_so_and_leaves_its_sources(
    command: Command, tmp_path: Path, sources: dict[str, Path]
) -> None:
    document = write_document(tmp_path / "d.json", sources)
    assert command("move", document).returncode == 0
    for name, source in sources.items():
        source.write_bytes(CONTENTS[name])
    copy = tmp_path / "copy.json"
    copy.write_bytes(document.read_bytes())
    for again in (document, copy):
        done = command("move", again)
        assert done.returncode == 0
        assert done.stdout == f"job 1: {again} was ingested before; its sources are left where they are\n"
        assert all_stand(sources)
    state = json.loads(command("state", 2, "--json").stdout)
    assert is_stored(state)
    assert state["exception"] == "the same document was ingested before as job 1; its sources are left where they are"
    shown = command("state", 2).stdout
    assert "duplicate of job 1" in shown
    assert "ingested before" not in shown

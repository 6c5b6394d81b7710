"""Moving over HTTP: what can be promised is kept, and what the archive keeps is named."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_cli.errors import ArchiveError, ExitCode, IngestError, ServiceUnavailable, SourceChanged, SourceMissing
from ingest_cli.services.pacifica import http
from ingest_cli.services.pacifica.catalog import REFUSALS
from ingest_cli.settings import load_settings

from ..support.bundles import file_record, transaction
from ..support.command import Command
from ..support.http_faults import answering, served_then_answering, served_then_dropped
from ..support.pacifica_double import Handler, PacificaSite
from ..support.site import Site

CONTENTS = {"one": b"1", "two": b"22", "three": b"333"}


@pytest.fixture
def pacific(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PacificaSite]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    with PacificaSite() as server:
        server.folder = tmp_path / "archive"
        server.folder.mkdir()
        configure(site, server)
        yield server


def configure(site: Site, pacific: PacificaSite, **environment: str) -> None:
    site.settings = load_settings(environment={**os.environ, **pacific.environment(), **environment})


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "instrument").mkdir()
    found = {name: tmp_path / "instrument" / name for name in CONTENTS}
    for name, source in found.items():
        source.write_bytes(CONTENTS[name])
    return found


@pytest.fixture
def document(tmp_path: Path, sources: dict[str, Path]) -> Path:
    records = [file_record(f"data/{name}", CONTENTS[name], source=str(source)) for name, source in sources.items()]
    path = tmp_path / "move.json"
    path.write_text(json.dumps([*transaction(), *records]))
    return path


def archived(pacific: PacificaSite) -> list[bytes]:
    assert pacific.folder is not None
    return [path.read_bytes() for path in sorted(pacific.folder.iterdir())]


def describe_fully(sources: dict[str, Path]) -> dict[str, bytes]:
    return {name: source.read_bytes() for name, source in sources.items() if source.exists()}


def hidden(handler: Handler) -> bool:
    """The archive says where a file lies, but on its own machine."""
    found = handler.stored()
    if found is None:
        return False
    handler.answer(204, b"", {"X-Content-Length": str(len(found)), "X-Pacifica-File": "/nowhere/here"})
    return True


def test_files_are_moved(site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]) -> None:
    job = site.move(document)
    assert (job.is_done, job.stored) == (True, len(CONTENTS))
    assert archived(pacific) == list(CONTENTS.values())
    assert describe_fully(sources) == {}
    asked = [method for method, path in pacific.requests if method in ("PATCH", "PUT") and path != "/ingest"]
    assert asked == ["PATCH"] * len(CONTENTS)
    assert len(pacific.transactions) == 1


def test_files_are_moved_several_at_once(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    configure(site, pacific, ARCHIVEINTERFACE_TRANSFERS="4")
    assert site.move(document).is_done
    assert archived(pacific) == list(CONTENTS.values())
    assert describe_fully(sources) == {}


def test_a_wrong_hash_is_refused_before_anything_is_moved(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    sources["three"].write_bytes(b"444")
    with pytest.raises(IngestError, match="hashes to"):
        site.move(document)
    assert "PATCH" not in {method for method, _ in pacific.requests}
    assert describe_fully(sources) == {**CONTENTS, "three": b"444"}


@pytest.mark.parametrize("status", [500, 413])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_files_are_given_back_when_one_fails(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], number: int, status: int
) -> None:
    inodes = {name: source.stat().st_ino for name, source in sources.items()}
    pacific.fail("PATCH", number, answering(status, {"message": "no"}))
    with pytest.raises(ArchiveError, match=f"does not move .*: {status}: no"):
        site.move(document)
    assert describe_fully(sources) == CONTENTS
    assert {name: source.stat().st_ino for name, source in sources.items()} == inodes
    assert archived(pacific) == []
    assert site.jobs()[0].state == "failed"
    assert len([path for method, path in pacific.requests if method == "PATCH"]) == number


def test_files_are_given_back_when_the_metadata_is_refused(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    for number in range(1, 1 + REFUSALS):
        pacific.fail("PUT", number, answering(500, {"message": "Unknown project"}))
    with pytest.raises(IngestError, match="Unknown project"):
        site.move(document)
    assert describe_fully(sources) == CONTENTS
    assert archived(pacific) == []


@pytest.mark.parametrize("status", [401, 403, 503])
def test_what_is_not_of_the_file_keeps_what_is_moved(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], status: int
) -> None:
    for number in range(2, 2 + http.TRIES):
        pacific.fail("PATCH", number, answering(status, {}))
    with pytest.raises(ServiceUnavailable, match=str(status)):
        site.move(document)
    assert archived(pacific) == [CONTENTS["one"]]
    pacific.faults.clear()
    assert site.move(document).job_id == site.jobs()[0].job_id
    assert archived(pacific) == list(CONTENTS.values())
    assert describe_fully(sources) == {}


def test_a_moved_file_of_the_wrong_size_is_given_back(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    def growing(_: Handler) -> bool:
        sources["two"].write_bytes(b"longer")
        return False

    pacific.fail("PATCH", 2, growing)
    with pytest.raises(SourceChanged, match=f"{sources['two']} was modified"):
        site.move(document)
    assert describe_fully(sources) == {**CONTENTS, "two": b"longer"}
    assert archived(pacific) == []


def test_what_cannot_be_given_back_is_named_and_gone_on_with(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    pacific.fail("PATCH", 2, answering(500, {"message": "no"}))
    for number in range(1, 10):
        pacific.fail("HEAD", number, hidden)
    with pytest.raises(ArchiveError):
        site.move(document)
    (job,) = site.jobs()
    assert job.state == "held"
    assert "could not be rolled back: file 1" in job.exception
    assert f"moved from {sources['one']}" in job.exception
    assert "/nowhere/here" in job.exception
    assert describe_fully(sources) == {name: CONTENTS[name] for name in ("two", "three")}
    assert archived(pacific) == [CONTENTS["one"]]
    pacific.faults.clear()
    again = site.move(document)
    assert (again.job_id, again.is_done) == (job.job_id, True)
    assert archived(pacific) == list(CONTENTS.values())
    assert describe_fully(sources) == {}


def test_an_archive_that_does_not_say_where_a_file_lies_keeps_it(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    pacific.folder = None
    pacific.fail("PATCH", 2, answering(500, {"message": "no"}))
    with pytest.raises(ArchiveError):
        site.move(document)
    assert pacific.files == {1: CONTENTS["one"]}
    (job,) = site.jobs()
    assert job.state == "held"
    assert "the archive still holds file 1" in job.exception
    again = site.move(document)
    assert (again.job_id, again.is_done) == (job.job_id, True)
    assert list(pacific.files.values()) == list(CONTENTS.values())


def test_a_file_of_this_machine_is_not_taken_for_the_archives(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    bystander = tmp_path / "bystander"
    bystander.write_bytes(b"x")

    def pointing(handler: Handler) -> bool:
        found = handler.stored()
        if found is None:
            return False
        handler.answer(204, b"", {"X-Content-Length": str(len(found)), "X-Pacifica-File": str(bystander)})
        return True

    pacific.fail("PATCH", 2, answering(500, {"message": "no"}))
    for number in range(1, 10):
        pacific.fail("HEAD", number, pointing)
    with pytest.raises(ArchiveError) as caught:
        site.move(document)
    assert "is on another machine" in "".join(caught.value.__notes__)
    assert bystander.read_bytes() == b"x"
    assert describe_fully(sources) == {name: CONTENTS[name] for name in ("two", "three")}
    assert archived(pacific) == [CONTENTS["one"]]
    pacific.faults.clear()
    assert site.move(document).is_done
    assert bystander.read_bytes() == b"x"
    assert archived(pacific) == list(CONTENTS.values())


def test_a_file_that_has_come_to_stand_at_the_source_is_left_there(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    def replacing(handler: Handler) -> bool:
        sources["one"].write_bytes(b"a new one")
        return answering(500, {"message": "no"})(handler)

    pacific.fail("PATCH", 2, replacing)
    with pytest.raises(ArchiveError) as caught:
        site.move(document)
    assert f"another file is at {sources['one']} now" in "".join(caught.value.__notes__)
    assert sources["one"].read_bytes() == b"a new one"
    assert archived(pacific) == [CONTENTS["one"]]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_answer_lost_after_the_move(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], number: int
) -> None:
    pacific.fail("PATCH", number, served_then_dropped)
    with pytest.raises(ServiceUnavailable):
        site.move(document)
    assert len(archived(pacific)) == number
    job = site.move(document)
    assert (job.job_id, job.is_done) == (1, True)
    assert archived(pacific) == list(CONTENTS.values())
    assert describe_fully(sources) == {}
    assert [path for method, path in pacific.requests if method == "PATCH"] == ["/1", "/2", "/3"]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxys_answer_to_a_move_that_was_done(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], status: int
) -> None:
    pacific.fail("PATCH", 2, served_then_answering(status))
    with pytest.raises(ServiceUnavailable, match=str(status)):
        site.move(document)
    assert site.move(document).is_done
    assert archived(pacific) == list(CONTENTS.values())
    assert describe_fully(sources) == {}
    assert [path for method, path in pacific.requests if method == "PATCH"] == ["/1", "/2", "/3"]


@pytest.mark.parametrize("part", [b"", b"3", CONTENTS["three"]])
def test_a_copy_that_a_failed_move_left_is_deleted(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], part: bytes
) -> None:
    def copying(handler: Handler) -> bool:
        place = handler.place()
        assert place is not None
        place.write_bytes(part)
        return answering(500, {"message": "disk full"})(handler)

    pacific.fail("PATCH", 3, copying)
    with pytest.raises(ArchiveError, match="disk full"):
        site.move(document)
    assert describe_fully(sources) == CONTENTS
    assert archived(pacific) == []
    assert site.jobs()[0].state == "failed"


def test_a_file_moved_with_its_answer_lost_behind_a_failure_is_given_back(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    configure(site, pacific, ARCHIVEINTERFACE_TRANSFERS="4")
    moved = threading.Event()

    def fault(handler: Handler) -> bool:
        if handler.command != "PATCH":
            return False
        if handler.path == "/1":
            assert moved.wait(10)
            return answering(500, {"message": "no"})(handler)
        if handler.path == "/3":
            served_then_dropped(handler)
            moved.set()
            return True
        return False

    pacific.guard = fault
    with pytest.raises(ArchiveError, match="no"):
        site.move(document)
    assert describe_fully(sources) == CONTENTS
    assert archived(pacific) == []


def test_what_stands_in_the_way_of_giving_back_is_named(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    def blocking(handler: Handler) -> bool:
        sources["one"].mkdir()
        return answering(500, {"message": "no"})(handler)

    pacific.fail("PATCH", 2, blocking)
    with pytest.raises(ArchiveError) as caught:
        site.move(document)
    said = "".join(caught.value.__notes__)
    assert f"file 1 (the archive still holds file 1: another file is at {sources['one']} now)" in said
    assert archived(pacific) == [CONTENTS["one"]]
    assert site.jobs()[0].state == "held"


def test_a_file_of_this_machine_goes_back_where_the_archive_cannot_say_whose_it_is(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    bystander = tmp_path / "bystander"
    bystander.write_bytes(b"x")
    asked = [0]

    def fault(handler: Handler) -> bool:
        if handler.command != "HEAD" or "PATCH" not in {method for method, _ in pacific.requests}:
            return False
        asked[0] += 1
        if asked[0] == 1:  # that confirms the first move
            return False
        if not bystander.exists():
            return answering(503, {})(handler)
        handler.answer(204, b"", {"X-Content-Length": "1", "X-Pacifica-File": str(bystander)})
        return True

    pacific.fail("PATCH", 2, answering(500, {"message": "no"}))
    pacific.guard = fault
    with pytest.raises(IngestError):
        site.move(document)
    assert bystander.read_bytes() == b"x"
    assert archived(pacific) == [CONTENTS["one"]]
    assert site.jobs()[0].is_deferred


@pytest.fixture
def remote(site: Site, pacific: PacificaSite, sources: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Where the sources lie since only the archive's machine sees them under their paths."""
    configure(site, pacific, ARCHIVEINTERFACE_REMOTE_SOURCES="yes")
    pacific.root = tmp_path / "archives machine"
    here = sources["one"].parent
    there = pacific.root / here.relative_to("/")
    there.parent.mkdir(parents=True)
    here.rename(there)
    return {name: there / name for name in CONTENTS}


def test_files_that_only_the_archive_sees_are_moved(
    command: Command,
    pacific: PacificaSite,
    document: Path,
    remote: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in pacific.environment().items():
        monkeypatch.setenv(variable, value)
    assert command("move", document).returncode == ExitCode.FAILED
    assert "PATCH" not in {method for method, _ in pacific.requests}
    done = command("move", "--remote-sources", document)
    assert done.returncode == 0, done.stderr
    assert "warning: the files are not visible from here: their hashes are not checked" in done.stderr
    assert archived(pacific) == list(CONTENTS.values())
    assert describe_fully(remote) == {}


def test_sources_that_are_not_visible_are_asked_for(
    site: Site, pacific: PacificaSite, document: Path, remote: dict[str, Path]
) -> None:
    configure(site, pacific)
    with pytest.raises(SourceMissing, match="cannot read the source"):
        site.move(document)
    assert describe_fully(remote) == CONTENTS


def test_a_remote_file_of_the_wrong_size_is_named(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], remote: dict[str, Path]
) -> None:
    remote["two"].write_bytes(b"longer")
    with pytest.raises(ArchiveError, match="file 2") as caught:
        site.move(document)
    assert str(sources["two"]) in str(caught.value)
    assert f"moved from {sources['one']}" in "".join(caught.value.__notes__)
    assert not pacific.transactions
    assert describe_fully(remote) == {"three": CONTENTS["three"]}
    assert archived(pacific) == [CONTENTS["one"], b"longer"]
    assert site.jobs()[0].state == "held"


def test_what_stands_here_under_a_remote_path_says_nothing_of_it(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path], remote: dict[str, Path]
) -> None:
    sources["one"].parent.mkdir()
    for name, source in sources.items():
        source.write_bytes(CONTENTS[name])
    pacific.fail("PATCH", 2, answering(500, {"message": "no"}))
    with pytest.raises(ArchiveError) as caught:
        site.move(document)
    assert "file 1 (the archive still holds file 1, moved from" in "".join(caught.value.__notes__)
    assert describe_fully(sources) == CONTENTS
    assert describe_fully(remote) == {name: CONTENTS[name] for name in ("two", "three")}
    assert archived(pacific) == [CONTENTS["one"]]
    assert site.jobs()[0].state == "held"


def test_a_remote_source_that_is_missing_is_the_archives_word(
    site: Site, pacific: PacificaSite, document: Path, remote: dict[str, Path]
) -> None:
    remote["one"].unlink()
    with pytest.raises(ArchiveError, match="Can't move posix file"):
        site.move(document)
    assert archived(pacific) == []
    assert not pacific.transactions


def test_an_answer_lost_after_a_move_of_remote_sources(
    site: Site, pacific: PacificaSite, document: Path, remote: dict[str, Path]
) -> None:
    pacific.fail("PATCH", 2, served_then_dropped)
    with pytest.raises(ServiceUnavailable):
        site.move(document)
    job = site.move(document)
    assert (job.job_id, job.is_done) == (1, True)
    assert archived(pacific) == list(CONTENTS.values())
    assert "their hashes are not checked" in site.witness.warnings[0]
    assert [path for method, path in pacific.requests if method == "PATCH"] == ["/1", "/2", "/3"]


def test_an_archive_of_this_machine_has_no_remote_sources(command: Command, document: Path) -> None:
    done = command("move", "--remote-sources", document)
    assert done.returncode == ExitCode.USAGE
    assert "[archiveinterface] remote_sources" in done.stderr
    assert "is on this machine" in done.stderr

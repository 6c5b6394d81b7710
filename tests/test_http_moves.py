"""Moving over HTTP: what can be promised is kept, and what the archive keeps is named."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_cli.errors import ArchiveError, IngestError, ServiceUnavailable
from ingest_cli.services import http
from ingest_cli.settings import load_settings

from .bundles import file_record, transaction
from .pacifica_double import Handler, PacificaSite
from .site import Site
from .test_http_services import answering, served_then_dropped

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


def standing(sources: dict[str, Path]) -> dict[str, bytes]:
    return {name: source.read_bytes() for name, source in sources.items() if source.exists()}


def hidden(handler: Handler) -> bool:
    """The archive says where a file lies, but on its own machine."""
    found = handler.stored()
    if found is None:
        return False
    handler.answer(204, b"", {"X-Content-Length": str(len(found)), "X-Pacifica-File": "/nowhere/here"})
    return True


def test_files_are_moved(site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]) -> None:
    assert site.move(document).complete
    assert archived(pacific) == list(CONTENTS.values())
    assert standing(sources) == {}


def test_a_wrong_hash_is_refused_before_anything_is_moved(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    sources["three"].write_bytes(b"444")
    with pytest.raises(IngestError, match="hashes to"):
        site.move(document)
    assert "PATCH" not in {method for method, _ in pacific.requests}


def test_files_are_given_back_when_one_fails(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    pacific.fail("PATCH", 3, answering(500, {"message": "no"}))
    with pytest.raises(ArchiveError, match="does not move"):
        site.move(document)
    assert standing(sources) == CONTENTS
    assert archived(pacific) == []
    assert not site.jobs()[0].resumable


def test_a_moved_file_of_the_wrong_size_is_given_back(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    configure(site, pacific, ARCHIVEINTERFACE_REMOTE_SOURCES="yes")
    sources["two"].write_bytes(b"longer")
    with pytest.raises(ArchiveError, match="holds 6 bytes as file 2, but 2 were sent"):
        site.move(document)
    assert standing(sources) == {**CONTENTS, "two": b"longer"}
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
    assert job.resumable
    assert "could not be taken back from the archive: file 1" in job.exception
    assert standing(sources) == {name: CONTENTS[name] for name in ("two", "three")}
    pacific.faults.clear()
    assert site.move(document).job_id == job.job_id
    assert archived(pacific) == list(CONTENTS.values())


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
    assert "is another machine's" in "".join(caught.value.__notes__)
    assert bystander.read_bytes() == b"x"
    assert not sources["one"].exists()


def test_an_answer_lost_after_the_move(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    pacific.fail("PATCH", 2, served_then_dropped)
    with pytest.raises(ServiceUnavailable):
        site.move(document)
    assert site.move(document).complete
    assert archived(pacific) == list(CONTENTS.values())
    assert len([path for method, path in pacific.requests if method == "PATCH"]) == len(CONTENTS)


def test_an_answer_lost_after_a_move_of_remote_sources(
    site: Site, pacific: PacificaSite, document: Path, sources: dict[str, Path]
) -> None:
    configure(site, pacific, ARCHIVEINTERFACE_REMOTE_SOURCES="yes")
    pacific.fail("PATCH", 2, served_then_dropped)
    with pytest.raises(ServiceUnavailable):
        site.move(document)
    assert site.move(document).complete
    assert archived(pacific) == list(CONTENTS.values())
    assert "their hashes are not checked" in site.witness.warnings[0]

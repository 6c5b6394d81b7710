"""Pacifica's services, each by itself: what they answer is believed where it proves something, and nothing is touched
that may be another's."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest_cli.bundle.metadata import Document
from ingest_cli.errors import (
    ArchiveError,
    CatalogRefused,
    FileRefused,
    LeaseLost,
    RollbackFailed,
    ServiceUnavailable,
    SourceChanged,
)
from ingest_cli.services.pacifica import http
from ingest_cli.services.pacifica.archive import PacificaArchive
from ingest_cli.services.pacifica.catalog import PacificaCatalog
from ingest_cli.settings import Confirm, Endpoint

from ..support.bundles import FILES, document_for
from ..support.contents import Contents
from ..support.http_faults import PROXY_PAGE, answering, dropped, served_then_answering, served_then_dropped
from ..support.pacifica_double import Handler, PacificaSite


@pytest.fixture
def archive(pacific: PacificaSite) -> Iterator[PacificaArchive]:
    archive = PacificaArchive(Endpoint(url=pacific.url))
    yield archive
    archive.close()


@pytest.fixture
def contents(tmp_path: Path) -> Iterator[Contents]:
    with Contents(tmp_path) as contents:
        yield contents


def asked(pacific: PacificaSite, *methods: str) -> list[str]:
    return [f"{method} {path}" for method, path in pacific.requests if method in methods]


LARGE = bytes(3 << 20)


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_an_archive_that_says_that_it_took_less_has_not_stored_the_file(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, data: bytes
) -> None:
    pacific.stores_nothing = {1}
    writer = archive.writer(range(1, 2), 1, resumed=False)
    with pytest.raises(ServiceUnavailable, match=f"with total_bytes {len(data) - 1} instead of {len(data)}"):
        writer.put(1, contents(data))
    assert asked(pacific, "PUT", "DELETE", "HEAD") == ["PUT /1", *["DELETE /1", "PUT /1"] * (http.TRIES - 1)]
    assert writer.resent == http.TRIES
    pacific.stores_nothing = set()
    writer.put(1, contents(data))
    assert pacific.files == {1: data}


@pytest.mark.parametrize(
    "answer",
    [{"message": "File added to archive"}, {"total_bytes": "5"}, {"total_bytes": 6}, [], b"<html>stored</html>"],
)
def test_an_answer_without_the_length_that_was_sent_proves_nothing(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, answer: object
) -> None:
    pacific.fail("PUT", 1, answering(201, answer))
    archive.writer(range(1, 2), 1, resumed=False).put(1, contents(b"small"))
    assert asked(pacific, "PUT") == ["PUT /1"] * 2
    assert pacific.files == {1: b"small"}


@pytest.mark.parametrize(("confirm", "looks"), [("sample", [16, 32]), ("all", list(range(1, 33)))])
def test_stored_sizes_are_asked_for(
    pacific: PacificaSite, contents: Contents, confirm: Confirm, looks: list[int]
) -> None:
    writer = PacificaArchive(Endpoint(url=pacific.url), confirm=confirm).writer(range(1, 33), 1, resumed=False)
    for file_id in range(1, 33):
        writer.put(file_id, contents(b"small"))
    for _ in range(2):
        writer.flush()
    assert asked(pacific, "HEAD") == [f"HEAD /{file_id}" for file_id in looks]


@pytest.mark.parametrize(
    ("confirm", "size", "wrong"), [("sample", 5, 16), ("sample", 5, 7), ("sample", len(LARGE), 2), ("all", 5, 1)]
)
def test_a_stored_size_that_differs_is_found_and_nothing_is_deleted(
    pacific: PacificaSite, contents: Contents, confirm: Confirm, size: int, wrong: int
) -> None:
    pacific.stores_less = {wrong}
    writer = PacificaArchive(Endpoint(url=pacific.url), confirm=confirm).writer(range(1, 41), 1, resumed=False)

    def store() -> None:
        for file_id in range(1, wrong + 1):
            writer.put(file_id, contents(bytes(size)))
        writer.flush()

    with pytest.raises(ArchiveError, match=f"holds {size - 1:,} bytes of file {wrong}, of {size:,} bytes"):
        store()
    assert asked(pacific, "DELETE") == []
    assert list(pacific.files) == list(range(1, wrong + 1))


def test_what_the_archive_refuses_for_good_stays_for_the_rollback(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents
) -> None:
    pacific.fail("PUT", 1, served_then_answering(413))
    writer = archive.writer(range(1, 2), 1, resumed=False)
    with pytest.raises(ArchiveError, match="refuses"):
        writer.put(1, contents(b"small"))
    assert asked(pacific, "PUT", "DELETE") == ["PUT /1"]
    writer.delete(1)
    assert pacific.files == {}


def test_a_rollback_that_lost_its_job_while_it_waited_deletes_nothing(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, tmp_path: Path
) -> None:
    def lost() -> None:
        raise LeaseLost("the job is another's")

    archive.writer(range(1, 2), 1, resumed=False).put(1, contents(b"small"))
    writer = archive.writer(range(1, 2), 1, resumed=True, require=lost)
    with pytest.raises(LeaseLost):
        writer.delete(1)
    (tmp_path / "source").write_bytes(b"small")
    with pytest.raises(LeaseLost):
        writer.move_back(1, tmp_path / "source")
    with pytest.raises(LeaseLost):
        writer.move(1, tmp_path / "source", 5, None)
    assert asked(pacific, "PATCH") == []
    assert pacific.files == {1: b"small"}
    assert asked(pacific, "DELETE") == []


def test_a_resumed_run_deletes_before_it_sends(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents
) -> None:
    pacific.files = {1: b"of an earlier run"}
    writer = archive.writer(range(1, 3), 2, resumed=True)
    for file_id in (1, 2):
        writer.put(file_id, contents(b"small"))
    assert asked(pacific, "PUT", "DELETE") == ["DELETE /1", "PUT /1", "DELETE /2", "PUT /2"]


def test_small_files_are_known_to_be_right_before_anything_is_sent(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents
) -> None:
    for data in (b"small", b""):
        with pytest.raises(FileRefused):
            archive.writer(range(1, 2), 2, resumed=True).put(1, contents(data, recorded=b"other"))
    assert pacific.requests == []


def losing(after: int) -> Callable[[int], None]:
    """Loses the job once so many bytes were read, and whoever asks then hears of it."""
    read = [0]

    def observe(length: int) -> None:
        read[0] += length
        if read[0] >= after:
            raise LeaseLost("the job is another's")

    return observe


def lost_when_asked_again() -> Callable[[int], None]:
    """The job is still this run's when it asks first, and another's from then on."""
    asked = [0]

    def observe(length: int) -> None:
        asked[0] += 1
        if asked[0] > 1:
            raise LeaseLost("the job is another's")

    return observe


def test_a_run_that_loses_its_job_in_the_midst_of_a_file_deletes_nothing(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents
) -> None:
    with pytest.raises(LeaseLost):
        archive.writer(range(1, 2), 1, resumed=False).put(1, contents(LARGE, observe=losing(3 << 20)))
    assert asked(pacific, "DELETE") == []


@pytest.mark.parametrize("data", [b"small", b"", LARGE], ids=["small", "empty", "large"])
@pytest.mark.parametrize("fault", [dropped, PROXY_PAGE])
def test_a_run_that_loses_its_job_between_two_tries_deletes_nothing(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, data: bytes, fault: Callable[[Handler], bool]
) -> None:
    is_lost = threading.Event()

    def observe(_: int) -> None:
        if is_lost.is_set():
            raise LeaseLost("the job is another's")

    def losing_too(handler: Handler) -> bool:
        is_lost.set()
        return fault(handler)

    pacific.fail("PUT", 1, losing_too)
    with pytest.raises(LeaseLost):
        archive.writer(range(1, 2), 1, resumed=False).put(1, contents(data, observe=observe))
    assert asked(pacific, "PUT", "DELETE") == ["PUT /1"]


@pytest.mark.parametrize("method", ["put", "move", "move_back", "release", "delete"])
@pytest.mark.parametrize("file_id", [4, 8])
def test_nothing_is_asked_of_the_archive_outside_of_the_ids(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, tmp_path: Path, method: str, file_id: int
) -> None:
    writer = archive.writer(range(5, 8), 1, resumed=True)
    arguments = {
        "put": (contents(b"small"),),
        "move": (tmp_path / "content-0", 5, None),
        "move_back": (tmp_path / "content-0",),
        "release": (tmp_path / "content-0", None),
        "delete": (),
    }
    with pytest.raises(
        ArchiveError,
        match=f"file {file_id} in the archive does not belong to this job, which has reserved files 5 to 7",
    ):
        getattr(writer, method)(file_id, *arguments[method])
    assert pacific.requests == []


def test_a_job_without_files_has_no_ids(archive: PacificaArchive) -> None:
    with pytest.raises(ArchiveError, match="has reserved no files"):
        archive.writer(range(0), 1, resumed=False).delete(1)


@pytest.fixture
def folder(pacific: PacificaSite, tmp_path: Path) -> Path:
    """Where the archive keeps its files, in the sight of this machine."""
    pacific.folder = tmp_path / "archive"
    pacific.folder.mkdir()
    return pacific.folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "run.dat"
    path.write_bytes(b"measured")
    os.utime(path, (1, 1))
    return path


def hidden(handler: Handler) -> bool:
    """The archive's paths are those of its own machine."""
    found = handler.stored() if handler.command == "HEAD" else None
    if found is None:
        return False
    handler.answer(204, b"", {"X-Content-Length": str(len(found)), "X-Pacifica-File": "/nowhere/here"})
    return True


def written_to(source: Path) -> Callable[[Handler], bool]:
    def fault(_: Handler) -> bool:
        source.write_bytes(b"MEASURED")
        return False

    return fault


def test_a_source_that_is_written_to_while_it_is_moved_goes_back(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, folder: Path, source: Path
) -> None:
    pacific.fail("PATCH", 1, written_to(source))
    with pytest.raises(SourceChanged, match=f"{source} was modified while the archive moved it"):
        archive.writer(range(1, 2), 1, resumed=False).move(1, source, 8, contents.of(source))
    assert source.read_bytes() == b"MEASURED"
    assert list(folder.iterdir()) == []


def test_a_source_that_is_written_to_is_found_where_the_archives_paths_are_not_seen(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, folder: Path, source: Path
) -> None:
    pacific.fail("PATCH", 1, written_to(source))
    pacific.guard = hidden
    with pytest.raises(RollbackFailed, match=f"the archive still holds file 1, moved from {source}"):
        archive.writer(range(1, 2), 1, resumed=False).move(1, source, 8, contents.of(source))
    assert (folder / "1").read_bytes() == b"MEASURED"


def copying(data: bytes) -> Callable[[Handler], bool]:
    """The archive lies on another file system than the source."""

    def fault(handler: Handler) -> bool:
        place = handler.place()
        assert place is not None
        source = Path(json.loads(handler.body())["path"])
        place.write_bytes(data)
        source.unlink()
        handler.answer(200, {"message": "File Moved Successfully"})
        return True

    return fault


def test_a_copy_by_the_archive_is_hashed(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, folder: Path, source: Path
) -> None:
    pacific.fail("PATCH", 1, copying(b"measured"))
    archive.writer(range(1, 2), 1, resumed=False).move(1, source, 8, contents.of(source))
    assert asked(pacific, "PATCH", "HEAD", "GET") == ["PATCH /1", "HEAD /1", "GET /1"]
    assert not source.exists()


def test_a_copy_by_the_archive_that_is_wrong_is_found(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, folder: Path, source: Path
) -> None:
    pacific.fail("PATCH", 1, copying(b"meaSured"))
    with pytest.raises(SourceChanged, match=f"moved from {source} is not the one that was hashed"):
        archive.writer(range(1, 2), 1, resumed=False).move(1, source, 8, contents.of(source))
    assert source.read_bytes() == b"meaSured"


def test_what_was_renamed_is_not_read_again(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, folder: Path, source: Path
) -> None:
    archive.writer(range(1, 2), 1, resumed=False).move(1, source, 8, contents.of(source))
    assert asked(pacific, "PATCH", "HEAD", "GET") == ["PATCH /1", "HEAD /1"]


def test_an_archive_that_holds_nothing_after_a_move(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, folder: Path, source: Path
) -> None:
    pacific.fail("PATCH", 1, answering(200, {"message": "File Moved Successfully"}))
    with pytest.raises(ArchiveError, match="does not hold file 1 after it moved"):
        archive.writer(range(1, 2), 1, resumed=False).move(1, source, 8, contents.of(source))
    assert source.read_bytes() == b"measured"


def test_a_run_that_lost_its_job_moves_nothing_back(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, folder: Path, source: Path
) -> None:
    """The heir moves the file between the archive's refusal and the moment in which the first run hears of it."""
    pacific.fail("PATCH", 1, served_then_answering(500))
    content = contents.of(source, observe=lost_when_asked_again())
    with pytest.raises(LeaseLost):
        archive.writer(range(1, 2), 1, resumed=False).move(1, source, 8, content)
    assert (folder / "1").read_bytes() == b"measured"
    assert not source.exists()


def test_a_run_that_lost_its_job_while_it_waited_moves_nothing(
    pacific: PacificaSite, archive: PacificaArchive, contents: Contents, folder: Path, source: Path
) -> None:
    pacific.fail("PATCH", 1, answering(429, {}))
    content = contents.of(source, observe=lost_when_asked_again())
    with pytest.raises(LeaseLost):
        archive.writer(range(1, 2), 1, resumed=False).move(1, source, 8, content)
    assert asked(pacific, "PATCH") == ["PATCH /1"]
    assert source.read_bytes() == b"measured"


@pytest.fixture
def catalog(pacific: PacificaSite) -> Iterator[PacificaCatalog]:
    catalog = PacificaCatalog(Endpoint(url=f"{pacific.url}/ingest"))
    yield catalog
    catalog.close()


DOCUMENT = Document.parse(json.dumps(document_for(FILES)).encode())
LOOK, LISTING, SEND = "GET /transactions?_id=9", "GET /files?transaction_id=9", "PUT /ingest"


@pytest.mark.parametrize(
    ("requests", "sequence"),
    [
        (1, [SEND, LOOK, SEND]),
        (2, [SEND, LOOK, LOOK, SEND]),
        (http.TRIES + 1, [SEND, *[LOOK] * (http.TRIES + 1), SEND]),
    ],
)
def test_a_metadata_service_whose_database_comes_back_records_the_document(
    pacific: PacificaSite, catalog: PacificaCatalog, requests: int, sequence: list[str]
) -> None:
    pacific.ill_for = requests
    catalog.record(DOCUMENT, 9, 1, fence=1)
    assert asked(pacific, "PUT", "GET") == sequence
    assert list(pacific.transactions) == [9]


def test_a_metadata_service_that_stays_ill_has_refused_nothing(pacific: PacificaSite, catalog: PacificaCatalog) -> None:
    pacific.ill_for = 1000
    with pytest.raises(ServiceUnavailable):
        catalog.record(DOCUMENT, 9, 1, fence=1)
    assert asked(pacific, "PUT") == [SEND]


def test_a_metadata_service_that_is_well_and_answers_500_twice_refuses_the_document(
    pacific: PacificaSite, catalog: PacificaCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.2)
    pacific.unknown_projects = {"1234a"}
    begun = time.monotonic()
    with pytest.raises(CatalogRefused, match="refuses transaction 9: 500: Internal Server Error"):
        catalog.record(DOCUMENT, 9, 1, fence=1)
    assert time.monotonic() - begun < 2
    assert asked(pacific, "PUT", "GET") == [SEND, LOOK, SEND, LOOK]


def test_a_500_of_a_metadata_service_that_was_ill_is_not_counted(
    pacific: PacificaSite, catalog: PacificaCatalog
) -> None:
    pacific.unknown_projects = {"1234a"}
    pacific.ill_for = 2
    with pytest.raises(CatalogRefused):
        catalog.record(DOCUMENT, 9, 1, fence=1)
    assert asked(pacific, "PUT", "GET") == [SEND, LOOK, LOOK, SEND, LOOK, SEND, LOOK]


@pytest.mark.parametrize("fault", [served_then_dropped, *map(served_then_answering, (500, 502, 504, 429, 200))])
def test_a_document_that_went_in_is_not_sent_again(
    pacific: PacificaSite, catalog: PacificaCatalog, fault: Callable[[Handler], bool]
) -> None:
    pacific.fail("PUT", 1, fault)
    catalog.record(DOCUMENT, 9, 1, fence=1)
    assert asked(pacific, "PUT", "GET") == [SEND, LOOK, LISTING]


def test_a_look_stands_before_every_second_sending(pacific: PacificaSite, catalog: PacificaCatalog) -> None:
    for number in range(1, http.TRIES):
        pacific.fail("PUT", number, PROXY_PAGE)
    catalog.record(DOCUMENT, 9, 1, fence=1)
    assert asked(pacific, "PUT", "GET") == [*[SEND, LOOK] * (http.TRIES - 1), SEND]


def test_a_document_whose_answer_is_lost_is_left_to_a_later_run(
    pacific: PacificaSite, catalog: PacificaCatalog
) -> None:
    """The service may be at work on it still, and does not like it twice."""
    pacific.fail("PUT", 1, dropped)
    with pytest.raises(ServiceUnavailable):
        catalog.record(DOCUMENT, 9, 1, fence=1)
    assert asked(pacific, "PUT", "GET") == [SEND, LOOK]


def test_ids_that_are_in_use_by_another_document_are_a_refusal(pacific: PacificaSite, catalog: PacificaCatalog) -> None:
    pacific.transactions = {9: []}
    with pytest.raises(CatalogRefused, match="duplicated ID values"):
        catalog.record(DOCUMENT, 9, 1, fence=1)
    assert asked(pacific, "PUT") == [SEND]

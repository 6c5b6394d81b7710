"""A service that takes a request and never answers is given up soon, and a slow one that goes on is not."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest_cli.bundle.metadata import Document
from ingest_cli.errors import ServiceUnavailable, SettingsError
from ingest_cli.jobs.stages import INGEST_FILES, INGEST_METADATA, POLICY_VALIDATION
from ingest_cli.services.pacifica import catalog, http, writer
from ingest_cli.services.pacifica.archive import PacificaArchive
from ingest_cli.services.pacifica.catalog import PacificaCatalog
from ingest_cli.services.pacifica.policy import PacificaPolicy
from ingest_cli.settings import Endpoint, load_settings

from ..support.bundles import FILES, document_for, write_bundle
from ..support.contents import Contents
from ..support.pacifica_double import Handler, PacificaSite
from ..support.site import Site

TIMEOUT = 0.2
# What a busy machine may add to the timeouts of a service that is given up.
SOON_SECONDS = 5.0


@pytest.fixture
def until_the_end() -> Iterator[threading.Event]:
    """Set once the test is over, for what hangs until then."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def pacific(site: Site, monkeypatch: pytest.MonkeyPatch, until_the_end: threading.Event) -> Iterator[PacificaSite]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    with PacificaSite() as server:
        environment = {**server.environment(), "INGEST_SERVICE_TIMEOUT": str(TIMEOUT)}
        site.settings = load_settings(environment={**os.environ, **environment})
        yield server
        until_the_end.set()


@pytest.fixture
def contents(tmp_path: Path) -> Iterator[Contents]:
    with Contents(tmp_path) as contents:
        yield contents


def silent(until_the_end: threading.Event, *methods_and_paths: tuple[str, str]) -> Callable[[Handler], bool]:
    """Takes these requests, and answers none."""

    def guard(handler: Handler) -> bool:
        if not any((handler.command, handler.path) == asked for asked in methods_and_paths):
            return False
        handler.body()
        until_the_end.wait(60)
        handler.drop()
        return True

    return guard


JOB_ID, FILE_IDS = "/getid?range=1&mode=upload_job", f"/getid?range={len(FILES)}&mode=file"


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("asked", "stage"),
    [
        (("GET", JOB_ID), None),
        (("POST", "/policy"), POLICY_VALIDATION),
        (("GET", FILE_IDS), None),
        (("PUT", "/2"), INGEST_FILES),
        (("PUT", "/ingest"), INGEST_METADATA),
    ],
    ids=["ids of jobs", "policy", "ids of files", "archive", "metadata"],
)
def test_a_service_that_never_answers_is_asked_twice_and_the_job_deferred(
    site: Site,
    pacific: PacificaSite,
    until_the_end: threading.Event,
    tmp_path: Path,
    asked: tuple[str, str],
    stage: str | None,
) -> None:
    pacific.guard = silent(until_the_end, asked, ("DELETE", "/2"), ("GET", "/transactions?_id=1"))
    begun = time.monotonic()
    with pytest.raises(ServiceUnavailable, match=r"timed out after 0\.\d s"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert time.monotonic() - begun < 2 * TIMEOUT + SOON_SECONDS
    assert pacific.requests.count(asked) <= http.HANGS
    for job in site.jobs():
        assert job.is_deferred
        assert stage in (None, job.task)
    pacific.guard = None
    assert site.ingest(tmp_path / "b.tar").is_done
    assert len(pacific.transactions) == 1


def test_a_service_that_hangs_is_asked_once_by_the_jobs_that_follow(
    pacific: PacificaSite, until_the_end: threading.Event
) -> None:
    pacific.guard = silent(until_the_end, ("POST", "/policy"))
    document = Document.parse(json.dumps(document_for(FILES)).encode())
    endpoint = Endpoint(url=f"{pacific.url}/policy", timeout=TIMEOUT)
    with closing(PacificaPolicy(endpoint, "X-Http-Authed-User")) as policy:
        for asked in (2, 3, 4):
            with pytest.raises(ServiceUnavailable):
                policy.check(document, "dmlb2001")
            assert len(pacific.requests) == asked
        pacific.guard = None
        policy.check(document, "dmlb2001")
        pacific.guard = silent(until_the_end, ("POST", "/policy"))
        with pytest.raises(ServiceUnavailable):
            policy.check(document, "dmlb2001")
        assert len(pacific.requests) == 7, "what has answered is given its second chance again"


def test_a_metadata_service_has_time_for_each_file(pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "WORK_SECONDS_A_FILE", 10.0)

    def slow(handler: Handler) -> bool:
        if handler.command == "PUT":
            time.sleep(3 * TIMEOUT)
        return False

    pacific.guard = slow
    document = Document.parse(json.dumps(document_for(FILES)).encode())
    with closing(PacificaCatalog(Endpoint(url=f"{pacific.url}/ingest", timeout=TIMEOUT))) as service:
        service.record(document, 1, 1, fence=1)
    assert [method for method, _ in pacific.requests] == ["PUT"]


# Until so much is read, the system lets nobody send more: what moves comes in pieces of this length.
WINDOW_BYTES = 1 << 20


def slowly(handler: Handler) -> bool:
    """Takes a body over a longer time than a service may be silent, but never stands still for so long."""
    if handler.command == "HEAD":
        return False
    left, pieces = int(handler.headers["Content-Length"]), []
    while left:
        pieces.append(handler.rfile.read(min(left, 1 << 16)))
        left -= len(pieces[-1])
        time.sleep(2 * TIMEOUT * len(pieces[-1]) / WINDOW_BYTES)
    handler.server.files[1] = b"".join(pieces)
    handler.answer(201, {"total_bytes": len(handler.server.files[1])})
    return True


@pytest.mark.parametrize("kind", ["file", pytest.param("document", marks=pytest.mark.sweep)])
def test_a_body_may_take_as_long_as_its_bytes_move(pacific: PacificaSite, contents: Contents, kind: str) -> None:
    pacific.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    pacific.guard = slowly
    data = os.urandom((5 if kind == "file" else 12) * WINDOW_BYTES)
    endpoint, begun = Endpoint(url=pacific.url, timeout=4 * TIMEOUT), time.monotonic()
    if kind == "file":
        with closing(PacificaArchive(endpoint)) as archive:
            archive.writer(range(1, 2), 1, resumed=False).put(1, contents(data))
    else:
        with closing(http.HttpService("the policy service", endpoint)) as service:
            service.request("POST", "/policy", body=data, repeatable=False)
    assert time.monotonic() - begun > 2 * endpoint.timeout
    assert pacific.files == {1: data}


def test_an_archive_that_takes_no_more_of_a_file_is_given_up(
    pacific: PacificaSite, contents: Contents, until_the_end: threading.Event
) -> None:
    def stuck(handler: Handler) -> bool:
        until_the_end.wait(60)
        handler.drop()
        return True

    pacific.guard = stuck
    begun = time.monotonic()
    with (
        closing(PacificaArchive(Endpoint(url=pacific.url, timeout=TIMEOUT))) as archive,
        pytest.raises(ServiceUnavailable, match=r"does not store .*: timed out after"),
    ):
        archive.writer(range(1, 2), 1, resumed=False).put(1, contents(bytes(12 << 20)))
    assert time.monotonic() - begun < 2 * TIMEOUT + SOON_SECONDS
    assert [method for method, _ in pacific.requests] == ["PUT", "DELETE"]


def test_an_archive_has_time_for_a_file_after_its_last_byte(
    pacific: PacificaSite, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WORK_BYTES", 1 << 10)
    pacific.seconds_a_file = 3 * TIMEOUT
    with closing(PacificaArchive(Endpoint(url=pacific.url, timeout=TIMEOUT))) as archive:
        archive.writer(range(1, 2), 1, resumed=False).put(1, contents(bytes(1 << 14)))
    assert [method for method, _ in pacific.requests] == ["PUT"]


def test_an_archive_that_stops_in_the_midst_of_a_file_that_is_read_is_given_up(
    pacific: PacificaSite, until_the_end: threading.Event
) -> None:
    def breaking_off(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"half")
        until_the_end.wait(60)
        handler.drop()
        return True

    pacific.guard = breaking_off
    with (
        closing(PacificaArchive(Endpoint(url=pacific.url, timeout=TIMEOUT))) as archive,
        pytest.raises(ServiceUnavailable, match="fails: timed out after"),
    ):
        list(archive.read(1))


def test_a_service_that_is_down_is_asked_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with PacificaSite() as gone:
        url = gone.url
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    document = Document.parse(json.dumps(document_for(FILES)).encode())
    with (
        closing(PacificaCatalog(Endpoint(url=url))) as service,
        pytest.raises(ServiceUnavailable, match="Connection refused"),
    ):
        service.record(document, 1, 1, fence=1)
    assert len(waits) == http.TRIES - 1
    assert 3 < sum(waits) < 6.5


@pytest.mark.parametrize("text", ["0", "-1", "soon", "1e3", "nan", "86401", "0.0", "٣"])
def test_a_timeout_that_is_none_is_named(text: str) -> None:
    environment = {**os.environ, "INGEST_SERVICE_TIMEOUT": text}
    with pytest.raises(SettingsError, match=r"^INGEST_SERVICE_TIMEOUT: \[ingest\] service_timeout: .* seconds up to"):
        load_settings(environment=environment)


def test_the_timeout_is_that_of_each_service() -> None:
    environment = {"UNIQUEID_URL": "http://x", "POLICY_INGEST_URL": "http://x", "INGEST_SERVICE_TIMEOUT": "2.5"}
    settings = load_settings(environment={**os.environ, **environment})
    assert settings.service_timeout == 2.5
    for endpoint in (settings.unique_id, settings.policy):
        assert isinstance(endpoint, Endpoint)
        assert endpoint.timeout == 2.5


def test_an_answer_that_comes_a_byte_at_a_time_is_given_up(pacific: PacificaSite) -> None:
    """None of its bytes is long in coming."""

    def dripping(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" ")
                time.sleep(TIMEOUT / 4)
        except OSError:
            return True

    pacific.guard = dripping
    endpoint, begun = Endpoint(url=f"{pacific.url}/policy", timeout=TIMEOUT), time.monotonic()
    document = Document.parse([json.dumps(document_for(FILES)).encode()])
    with (
        closing(PacificaPolicy(endpoint, "X-Http-Authed-User")) as service,
        pytest.raises(ServiceUnavailable, match="timed out after"),
    ):
        service.check(document, "ada")
    assert time.monotonic() - begun < 2 * TIMEOUT + SOON_SECONDS

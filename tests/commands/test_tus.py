"""Uploads that can be resumed, by the protocol tus 1.0.0."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.orphans import orphans
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.spool import SpoolKind
from ingest_cli.jobs.store import open_store
from ingest_cli.server.uploads import MAX_UPLOADS

from ..support.bundles import FILES, write_bundle
from ..support.serving import PATIENCE, Server, serving_apart
from ..support.site import Site
from ..support.tus import PIECE, V, append, begin, create, offset
from ..support.waiting import until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all that is answered without a bundle."""
    folder = tmp_path_factory.mktemp("shared")
    with serving_apart(folder, made=lambda: None) as (server, _):
        yield server


@pytest.fixture
def server(environment: Path) -> Iterator[Server]:
    with Server(environment) as server:
        yield server


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return write_bundle(tmp_path / "b.tar").read_bytes()


def test_a_bundle_in_pieces(server: Server, site: Site, content: bytes) -> None:
    url = create(server, len(content))
    for at in range(0, len(content), 4000):
        assert offset(url) == at
        answer = append(url, at, content[at : at + 4000])
        assert answer.status_code == 204
        assert answer.headers["Upload-Offset"] == str(min(at + 4000, len(content)))
    job_id = int(answer.headers["Ingest-Job-Id"])
    assert server.settled(job_id)["state"] == "OK"
    assert site.contents() == FILES
    again = append(url, len(content), b"")
    assert again.headers["Ingest-Job-Id"] == str(job_id), "an answer that was lost can be asked for again"
    assert requests.head(url, headers=V, timeout=PATIENCE).headers["Ingest-Job-Id"] == str(job_id)
    assert len(site.jobs()) == 1


def test_a_connection_that_breaks_keeps_what_came(server: Server, site: Site, content: bytes) -> None:
    url = create(server, len(content))
    with server.connected() as connection:
        begin(site, connection, url, len(content), content[:1234])
    until(lambda: offset(url) == 1234)
    assert append(url, 1234, content[1234:]).status_code == 204


def test_a_server_that_is_killed_keeps_what_came(environment: Path, site: Site, content: bytes) -> None:
    with Server(environment) as server:
        url = create(server, len(content))
        append(url, 0, content[:5000])
        server.kill()
    with Server(environment) as again:
        url = again.url + url.removeprefix(server.url)
        assert offset(url) == 5000
        answer = append(url, 5000, content[5000:])
        assert again.settled(int(answer.headers["Ingest-Job-Id"]))["state"] == "OK"
    assert site.contents() == FILES


def test_an_upload_that_became_whole_but_no_job_is_made_one(environment: Path, site: Site, content: bytes) -> None:
    with Server(environment) as server:
        url = create(server, len(content))
        (path,) = site.settings.spool.glob("resumable-*.tar")
        server.kill()
    path.write_bytes(content)
    with Server(environment) as again:
        answer = requests.head(again.url + url.removeprefix(server.url), headers=V, timeout=PATIENCE)
        assert again.settled(int(answer.headers["Ingest-Job-Id"]))["state"] == "OK"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("PATCH", {**PIECE, "Upload-Offset": "3"}, 409),
        ("PATCH", {**PIECE, "Upload-Offset": "x"}, 400),
        ("PATCH", PIECE, 400),
        ("PATCH", {**V, "Upload-Offset": "0"}, 415),
        ("PATCH", {"Content-Type": PIECE["Content-Type"], "Upload-Offset": "0"}, 412),
        ("HEAD", {}, 412),
        ("HEAD", {"Tus-Resumable": "0.2.2"}, 412),
        ("DELETE", {}, 412),
        ("GET", V, 405),
    ],
)
def test_what_is_wrong(shared: Server, method: str, headers: dict[str, str], status: int) -> None:
    url = create(shared, 10)
    answer = requests.request(method, url, headers=headers, data=b"x" if method == "PATCH" else None, timeout=PATIENCE)
    assert answer.status_code == status
    assert offset(url) == 0


@pytest.mark.parametrize("name", ["0" * 32, "..%2f..%2fetc%2fpasswd", "x", "%00"])
def test_an_upload_that_there_is_not(shared: Server, name: str) -> None:
    assert requests.head(f"{shared.url}/files/{name}", headers=V, timeout=PATIENCE).status_code == 404


@pytest.mark.sweep
@pytest.mark.parametrize("length", ["", "-1", "x", "1" * 30, "٣"])
def test_a_length_that_is_none(server: Server, site: Site, length: str) -> None:
    headers = {**V, "Upload-Length": length.encode().decode("latin-1")}
    assert requests.post(f"{server.url}/files", headers=headers, timeout=PATIENCE).status_code == 400
    assert list(site.settings.spool.glob("*")) == []


def test_more_than_was_announced(server: Server, site: Site) -> None:
    url = create(server, 10)
    assert append(url, 0, bytes(11)).status_code == 413
    assert requests.patch(
        url, data=iter([bytes(20)]), headers={**PIECE, "Upload-Offset": "0"}, timeout=PATIENCE
    ).status_code in (204, 413)
    (path,) = site.settings.spool.glob("resumable-*.tar")
    assert path.stat().st_size <= 10


def test_two_that_write_at_once(server: Server, site: Site, content: bytes) -> None:
    url = create(server, len(content))
    with server.connected() as connection:
        begin(site, connection, url, len(content))
        with ThreadPoolExecutor() as pool:
            others = [
                pool.submit(append, url, 0, b"x"),
                pool.submit(requests.delete, url, headers=V, timeout=PATIENCE),
            ]
            assert [other.result().status_code for other in others] == [423, 423]
        connection.sendall(content)
        assert connection.recv(12) == b"HTTP/1.1 204"


def test_going_on_before_the_server_knows_that_the_connection_broke(server: Server, site: Site, content: bytes) -> None:
    url = create(server, len(content))
    with ThreadPoolExecutor() as pool:
        with server.connected() as connection:
            begin(site, connection, url, len(content), content[:1234])
            answer = pool.submit(append, url, 1234, content[1234:])
            time.sleep(0.5)
            assert not answer.done()
        assert answer.result().status_code == 204


@pytest.mark.sweep
@pytest.mark.parametrize("servers", [1, 2])
def test_many_that_end_an_upload_at_once_make_one_job(
    server: Server, environment: Path, site: Site, content: bytes, servers: int
) -> None:
    """They send its last bytes, or nothing more, or ask how far it is; at one server, or at two of one spool."""
    with ExitStack() as stack, ThreadPoolExecutor(30) as pool:
        urls = [server.url, *(stack.enter_context(Server(environment)).url for _ in range(servers - 1))]
        for job_id in (1, 2, 3):
            path = create(server, len(content)).removeprefix(server.url)
            append(server.url + path, 0, content[:-5])

            def end(number: int, path: str = path) -> requests.Response:
                url = urls[number % servers] + path
                if number % 3 == 0:
                    return append(url, len(content) - 5, content[-5:])
                return requests.head(url, headers=V, timeout=PATIENCE)

            answers = list(pool.map(end, range(30)))
            assert {answer.status_code for answer in answers} <= {200, 204, 409}
            answers = list(
                pool.map(lambda number, path=path: append(urls[number % servers] + path, len(content), b""), range(30))
            )
            assert {answer.headers["Ingest-Job-Id"] for answer in answers} == {str(job_id)}
    assert len(site.jobs()) == 3


def test_an_upload_that_ends_while_the_queue_is_full_waits(environment: Path, site: Site, content: bytes) -> None:
    holder = replace(this_process(), host="elsewhere", namespace="another")
    with Server(environment, "--max-waiting", 1) as server, open_store(site.settings) as store:
        url = create(server, len(content))
        append(url, 0, content[:-1])
        other = store.submit(77, kind=JobKind.BUNDLE, source="/elsewhere", fingerprint="", user="u", holder=holder)
        for answer in (append(url, len(content) - 1, content[-1:]), requests.head(url, headers=V, timeout=PATIENCE)):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        headers = {**V, "Upload-Length": "1"}
        assert requests.post(f"{server.url}/files", headers=headers, timeout=PATIENCE).status_code == 503
        store.undo(other.fence, JobState.FAILED, "UPLOADING", "given up")
        answer = requests.head(url, headers=V, timeout=PATIENCE)
        assert server.settled(int(answer.headers["Ingest-Job-Id"]))["state"] == "OK"


GB = 1_000_000_000


def announce(server: Server, user: str, length: int) -> requests.Response:
    headers = {**V, "Upload-Length": str(length), "X-Http-Authed-User": user}
    return requests.post(f"{server.url}/files", headers=headers, timeout=PATIENCE)


def test_no_more_is_promised_than_there_is_room_for(
    environment: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one user has only announced leaves the others half of the room."""
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    free = shutil.disk_usage(environment).free
    if free < 60 * GB:
        pytest.skip("other tests could make a difference on a disk as small as this")

    with Server(environment, "--reserve", free - 50 * GB) as server, ExitStack() as stack:
        first = announce(server, "mallory", 22 * GB)
        assert [first.status_code, announce(server, "mallory", 22 * GB).status_code] == [201, 201]
        answer = announce(server, "mallory", 22 * GB)
        assert answer.status_code == 507
        assert "22.0 GB" in answer.json()["message"]
        assert int(answer.headers["Retry-After"]) > 0
        assert announce(server, "ada", 40 * GB).status_code == 507
        assert announce(server, "ada", 20 * GB).status_code == 201
        head = (
            f"POST /upload HTTP/1.1\r\nHost: localhost\r\nX-Http-Authed-User: %s\r\nContent-Length: {20 * GB}\r\n\r\n"
        )
        for user, status in [("mallory", b"507"), ("ben", None), ("ben", b"507")]:
            connection = stack.enter_context(server.connected())
            connection.sendall((head % user).encode())
            if status is not None:
                assert connection.recv(12).endswith(status)
            else:
                until(lambda: list(site.settings.spool.glob("received-*")))
        headers = {**V, "X-Http-Authed-User": "mallory"}
        deleted = requests.delete(server.url + first.headers["Location"], headers=headers, timeout=PATIENCE)
        assert deleted.status_code == 204
        assert announce(server, "mallory", 2 * GB).status_code == 201
    assert len(list(site.settings.spool.glob("resumable-*.tar"))) == 3


@pytest.mark.sweep  # some hundred uploads, each of them durable
def test_a_client_has_so_many_uploads_open(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")

    with Server(environment) as server, ThreadPoolExecutor(8) as pool:
        most = MAX_UPLOADS // 2
        statuses = Counter(pool.map(lambda _: announce(server, "mallory", 10).status_code, range(most + 20)))
        assert statuses == {201: most, 503: 20}
        assert announce(server, "ada", 10).status_code == 201
    with Server(environment) as again:
        statuses = Counter(announce(again, user, 10).status_code for user in ("mallory", "ada"))
        assert statuses == {503: 1, 201: 1}, "they are open still"


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"{}", b'{"length": "x", "user": 1}', b'{"user": "u"}'])
def test_a_record_that_is_none(shared: Server, record: bytes) -> None:
    url = create(shared, 10)
    (path,) = shared.log.parent.rglob(f"resumable-{url.rpartition('/')[2]}.json")
    path.write_bytes(record)
    assert requests.head(url, headers=V, timeout=PATIENCE).status_code == 404
    assert append(url, 0, b"x").status_code == 404


def test_an_upload_whose_file_is_gone_is_none(shared: Server) -> None:
    url = create(shared, 10)
    (path,) = shared.log.parent.rglob(f"resumable-{url.rpartition('/')[2]}.tar")
    path.unlink()
    assert requests.head(url, headers=V, timeout=PATIENCE).status_code == 404
    assert append(url, 0, b"x").status_code == 409
    assert append(url, 10, b"").status_code == 404


def test_an_upload_that_is_given_up(server: Server, site: Site) -> None:
    url = create(server, 10)
    assert requests.delete(url, headers=V, timeout=PATIENCE).status_code == 204
    assert requests.head(url, headers=V, timeout=PATIENCE).status_code == 404
    assert list(site.settings.spool.glob("*")) == []


def test_limits_hold_here_too(environment: Path) -> None:
    with Server(environment, "--max-upload", 100) as server:
        headers = {**V, "Upload-Length": "101"}
        assert requests.post(f"{server.url}/files", headers=headers, timeout=PATIENCE).status_code == 413
    with Server(environment, "--reserve", 1 << 60) as server:
        headers = {**V, "Upload-Length": "1"}
        assert requests.post(f"{server.url}/files", headers=headers, timeout=PATIENCE).status_code == 507


def test_uploads_that_nothing_was_added_to_are_swept_up(environment: Path, site: Site) -> None:
    with Server(environment) as server:
        create(server, 10)
        create(server, 10)
    old, _ = sorted(site.settings.spool.glob("resumable-*.tar"))
    past = time.time() - SpoolKind.RESUMABLE.untouched.total_seconds() - 1
    for path in (old, old.with_suffix(".json")):
        os.utime(path, (past, past))
    with open_store(site.settings) as store:
        assert orphans(site.settings.spool, store) == [old.with_suffix(".json"), old]
    with Server(environment) as server:
        until(lambda: not old.exists())
        assert requests.get(f"{server.url}/healthz", timeout=PATIENCE).ok
    assert len(list(site.settings.spool.glob("resumable-*"))) == 2


def test_the_released_client(server: Server, site: Site, content: bytes, tmp_path: Path) -> None:
    client = pytest.importorskip("tusclient.client", reason="tuspy is not installed").TusClient(f"{server.url}/files")
    with (tmp_path / "b.tar").open("rb") as bundle:
        first = client.uploader(file_stream=bundle, chunk_size=3000)
        first.upload_chunk()
        assert offset(first.url) == 3000
        client.uploader(file_stream=bundle, chunk_size=3000, url=first.url).upload()
    (job,) = site.jobs()
    assert server.settled(job.job_id)["state"] == "OK"
    assert site.contents() == FILES

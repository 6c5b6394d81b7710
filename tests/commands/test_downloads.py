"""What is stored is had back over HTTP: byte for byte or not to its end, in parts, and by those who may have it."""

import hashlib
import io
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
import requests

from ingest_cli import api
from ingest_cli.server.streams import MAX_STREAMS

from ..support.bundles import FILES, file_record, members, transaction, write_bundle
from ..support.command import Command
from ..support.pacifica_double import PacificaSite
from ..support.serving import PATIENCE, Server, serving_apart
from ..support.site import Site
from ..support.waiting import until

LARGE = random.Random(1).randbytes(2_500_001)
# Neither is the other, though an expression in which "." is no line feed takes the second for the first.
LINES = {"data/line": b"line", "data/line\n": b"line feed", "data/\nline": b"line feed before"}
ODD = 'data/ü b/what? #1%20 "it\'s"; <x>.txt'
HELD = {"data/large.bin": LARGE, **FILES, **LINES, ODD: b"odd\n", f"data/{'long/' * 40}name": b"long"}
CURL = shutil.which("curl")


def bundle_with(folder: Path, files: dict[str, bytes], **changes: object) -> Path:
    document = [*transaction(), *(file_record(path, content, **changes) for path, content in files.items())]
    return write_bundle(folder / f"{len(list(folder.iterdir()))}.tar", files, document)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Site]]:
    """A server and its site, for all the requests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")

    def fill() -> Site:
        site = Site(folder / "data" / "pacifica-ingest-cli")
        site.ingest(bundle_with(folder, HELD))
        for _ in ("job 2", "its duplicate"):
            site.ingest(bundle_with(folder, {"data/other": b"other"}))
        for kind in ("text/html", "image/svg+xml", "text/x y"):
            site.ingest(bundle_with(folder, {f"data/{kind.replace('/', '')}": b"<script>"}, mimetype=kind))
        return site

    with serving_apart(folder, made=fill, INGEST_DOWNLOADS="yes") as shared:
        yield shared


@pytest.fixture(scope="module")
def restored(shared: tuple[Server, Site]) -> bytes:
    out = io.BytesIO()
    api.restore_bundle(1, out, settings=shared[1].settings)
    return out.getvalue()


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_DOWNLOADS", "yes")


def get(server: Server, path: str, method: str = "GET", **headers: str) -> requests.Response:
    return requests.request(method, server.url + path, headers=headers, timeout=PATIENCE)


def test_a_job_is_had_as_the_bundle_that_restore_makes(shared: tuple[Server, Site], restored: bytes) -> None:
    server, _ = shared
    answer = get(server, "/jobs/1/bundle")
    assert answer.content == restored
    assert answer.headers["Content-Type"] == "application/x-tar"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="job-1.tar"'
    head = get(server, "/jobs/1/bundle", "HEAD")
    told = ("Content-Length", "ETag", "Accept-Ranges", "Content-Type", "Content-Disposition")
    assert [head.headers[name] for name in told] == [answer.headers[name] for name in told]
    assert int(head.headers["Content-Length"]) == len(restored)
    assert head.content == b""


def test_each_file_is_had_by_its_name_and_by_its_id(shared: tuple[Server, Site]) -> None:
    server, _ = shared
    listed = get(server, "/jobs/1/files").json()
    assert [(file["path"], file["size"]) for file in listed] == [(path, len(data)) for path, data in HELD.items()]
    for file in listed:
        data = HELD[file["path"]]
        for name in (quote(file["path"]), str(file["id"])):
            answer = get(server, f"/jobs/1/files/{name}")
            assert answer.content == data
            assert answer.headers["ETag"] == f'"sha1-{hashlib.sha1(data).hexdigest()}"'
            assert answer.headers["Repr-Digest"] == f"sha=:{b64encode(hashlib.sha1(data).digest()).decode()}:"
            assert answer.headers["Last-Modified"] == formatdate(1480428545, usegmt=True)
            assert answer.headers["Content-Type"] == "text/plain"
    name = ODD.rpartition("/")[2]
    odd = get(server, f"/jobs/1/files/{quote(ODD)}").headers["Content-Disposition"]
    assert odd == f"attachment; filename=\"what_ _1_20 _it_s__ _x_.txt\"; filename*=UTF-8''{quote(name, safe='')}"
    document = get(server, "/jobs/1/files/metadata.txt")
    assert {record.get("name") for record in document.json()} >= {"large.bin", "a.txt"}


@pytest.mark.parametrize(
    "path",
    [
        *("/jobs/99/bundle", "/jobs/0/bundle", "/jobs/-1/bundle", "/jobs/x/bundle", f"/jobs/{'9' * 30}/bundle"),
        *("/jobs/1/files/data", "/jobs/1/files/data/none", "/jobs/1/files/99999"),
        *(
            "/jobs/1/files/data/../data/a.txt/",
            "/jobs/1/files/%2e%2e/%2e%2e/etc/passwd",
            "/jobs/1/files/%2fetc%2fpasswd",
        ),
        *("/jobs/1/files/data/a.txt%00", "/status/transactions/by_id/99", "/status/transactions/by_id/x"),
    ],
)
def test_what_is_not_there_is_404(shared: tuple[Server, Site], path: str) -> None:
    server, _ = shared
    status, error = server.exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (status, error["traceback"]) == (404, "")


def test_a_file_of_another_job_is_not_one_of_this(shared: tuple[Server, Site]) -> None:
    server, _ = shared
    (file,) = get(server, "/jobs/2/files").json()
    assert get(server, f"/jobs/2/files/{file['id']}").content == b"other"
    assert get(server, f"/jobs/1/files/{file['id']}").status_code == 404


def test_a_duplicates_id_stands_for_what_it_repeats(shared: tuple[Server, Site], tmp_path: Path) -> None:
    server, site = shared
    assert site.job(3).duplicate_of == 2
    first, second = get(server, "/jobs/2/bundle"), get(server, "/jobs/3/bundle")
    assert (first.content, first.headers["ETag"]) == (second.content, second.headers["ETag"])
    (tmp_path / "had.tar").write_bytes(first.content)
    had = members(tmp_path / "had.tar")
    assert (had.pop("data/other"), list(had)) == (b"other", ["metadata.txt"])


def test_a_browser_opens_nothing_of_what_others_have_stored(shared: tuple[Server, Site]) -> None:
    server, _ = shared
    for job_id, kind in enumerate(("text/html", "image/svg+xml", "application/octet-stream"), 4):
        (file,) = get(server, f"/jobs/{job_id}/files").json()
        answer = get(server, f"/jobs/{job_id}/files/{file['id']}")
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]


# Ranges


def expected(size: int, asked: str) -> tuple[int, int, int]:
    """The status, and which bytes come: what RFC 9110, 14 says, in the words of a test."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if found is None or asked == "bytes=-":
        return 200, 0, size
    first, last = found.groups()
    if not first:
        start, stop = size - min(size, int(last)), size
    else:
        if last and int(last) < int(first):
            return 200, 0, size
        start, stop = int(first), min(size, int(last or size) + 1)
    return (416, 0, 0) if start >= stop else (206, start, stop)


def ranges(random: random.Random, size: int) -> Iterator[str]:
    """Headers of all kinds."""
    yield from ("bytes=0-", "bytes=-1", "bytes=-0", "bytes=0-0", f"bytes={size}-", f"bytes=-{size + 1}", "bytes=-")
    yield from ("bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=0x0-1", "bytes", "bytes=0--1")
    yield from (f"bytes={'9' * 18}-", f"bytes=0-{'9' * 18}", f"bytes={'9' * 40}-")
    for _ in range(20):
        start = random.randrange(size + 2)
        # Blocks and their neighbours are where a tar changes from one thing to another.
        near = random.choice([start, start // 512 * 512, start // 512 * 512 + 511, size - random.randrange(20000)])
        stop = random.choice([near, near + random.randrange(3000), random.randrange(size + 2)])
        yield random.choice([f"bytes={max(0, near)}-{max(0, stop)}", f"bytes={max(0, near)}-", f"bytes=-{start}"])


@pytest.mark.parametrize("seed", [7, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(100, 120))])
def test_any_range_is_that_part_of_the_whole(shared: tuple[Server, Site], restored: bytes, seed: int) -> None:
    server, _ = shared
    chance = random.Random(seed)
    wholes = {"bundle": restored, "files/data/large.bin": LARGE, "files/data/a.txt": FILES["data/a.txt"]}
    with requests.Session() as session:
        for name, whole in wholes.items():
            url = f"{server.url}/jobs/1/{name}"
            head = session.head(url, timeout=PATIENCE).headers
            tag = head["ETag"]
            for asked in ranges(chance, len(whole)):
                given = {tag: True, f"W/{tag}": False, '"other"': False, formatdate(0, usegmt=True): False}
                if "Last-Modified" in head:
                    given[head["Last-Modified"]] = True
                if_range = chance.choice([None, None, *given])
                headers = {"Range": asked} | ({} if if_range is None else {"If-Range": if_range})
                answer = session.get(url, headers=headers, timeout=PATIENCE)
                status, start, stop = expected(len(whole), asked)
                if if_range is not None and not given[if_range]:
                    status, start, stop = 200, 0, len(whole)
                elif len(asked) > 30 + len("bytes="):
                    status, start, stop = 200, 0, len(whole)  # no number of bytes
                assert answer.status_code == status, headers
                if status == 416:
                    assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"
                    continue
                assert answer.content == whole[start:stop], headers
                told = answer.headers.get("Content-Range")
                assert told == (f"bytes {start}-{stop - 1}/{len(whole)}" if status == 206 else None)


def test_what_a_client_has_is_not_sent_again(shared: tuple[Server, Site]) -> None:
    server, _ = shared
    path = "/jobs/1/files/data/a.txt"
    tag = get(server, path, "HEAD").headers["ETag"]
    then, earlier = formatdate(1480428545, usegmt=True), formatdate(1480428544, usegmt=True)
    for headers, status in [
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": f'"other", W/{tag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": then}, 200),
        ({"If-Modified-Since": then}, 304),
        ({"If-Modified-Since": earlier}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Match": tag}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f"W/{tag}"}, 412),
        ({"If-Match": '"other"'}, 412),
        ({"If-Unmodified-Since": then}, 200),
        ({"If-Unmodified-Since": earlier}, 412),
        ({"If-None-Match": tag, "Range": "bytes=0-1"}, 304),
    ]:
        for method in ("GET", "HEAD"):
            answer = get(server, path, method, **headers)
            assert answer.status_code == status, headers
            assert answer.content == (b"alpha\n" if (method, status) == ("GET", 200) else answer.content)
            assert status == 412 or answer.headers["ETag"] == tag
    assert get(server, path, "HEAD", Range="bytes=0-1").status_code == 200, "a range is for GET"


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_resumes(shared: tuple[Server, Site], restored: bytes, tmp_path: Path) -> None:
    server, _ = shared
    for already in (0, 1, 700_001, len(restored) - 1):
        (tmp_path / "b.tar").write_bytes(restored[:already])
        words = ["curl", "-sS", "-f", "-C", "-", "-o", str(tmp_path / "b.tar"), f"{server.url}/jobs/1/bundle"]
        assert subprocess.run(words, timeout=PATIENCE, check=False).returncode == 0
        assert (tmp_path / "b.tar").read_bytes() == restored


# What is not what was recorded


def flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def received(answer: requests.Response) -> tuple[int, bool]:
    """How many bytes arrive, and whether the client takes them for all."""
    got = 0
    try:
        for piece in answer.iter_content(10_000):
            got += len(piece)
    except requests.exceptions.RequestException:
        return got, False
    return got, True


def test_what_is_damaged_never_comes_to_its_end(
    environment: Path, site: Site, tmp_path: Path, downloads: None, command: Command
) -> None:
    files = {"data/large": LARGE, "data/small": b"small", "data/gone": b"gone", "data/sound": b"sound"}
    site.ingest(bundle_with(tmp_path, files))
    flip(site.file(1))
    flip(site.file(2))
    site.file(3).unlink()
    with Server(environment) as server:
        size = int(get(server, "/jobs/1/bundle", "HEAD").headers["Content-Length"])
        for path, whole, headers in [
            ("bundle", size, {}),
            ("files/data/large", len(LARGE), {}),
            ("files/data/large", len(LARGE) - 1_000_000, {"Range": "bytes=1000000-"}),
        ]:
            answer = requests.get(f"{server.url}/jobs/1/{path}", headers=headers, stream=True, timeout=PATIENCE)
            assert answer.status_code in (200, 206)
            got, is_whole = received(answer)
            assert (0 < got < whole, is_whole) == (True, False)
        for name in ("small", "gone"):
            assert get(server, f"/jobs/1/files/data/{name}").status_code == 500
        assert get(server, "/jobs/1/files/data/sound").content == b"sound"
        assert get(server, "/jobs/1/bundle", Range="bytes=0-99").status_code == 206
        if CURL is not None:
            done = subprocess.run(["curl", "-sS", "-o", tmp_path / "x", f"{server.url}/jobs/1/bundle"], check=False)
            assert done.returncode == 18, "a partial file"
        log = server.log.read_text()
    assert log.count("file 1, 'data/large', does not match the catalogue: see 'ingest verify'") >= 3
    assert "/jobs/1/files/data/gone: " in log
    assert "Traceback" not in log
    assert "ASGI" not in log


# Over servers and clients that come and go


def begun(server: Server, stack: ExitStack, path: str, received: int = 1000) -> tuple[socket.socket, bytes]:
    """A download of which only the beginning is read, with its body so far."""
    connection = stack.enter_context(server.connected())
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    got = b""
    while len(got.partition(b"\r\n\r\n")[2]) < received:
        piece = connection.recv(received)
        assert piece, got
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 20"), head
    return connection, body


@pytest.fixture
def vast(site: Site, tmp_path: Path, downloads: None) -> bytes:
    """A bundle that no buffers hold, stored as job 1, with its bytes as they come back."""
    site.ingest(bundle_with(tmp_path, {"data/vast": LARGE * 8}))
    out = io.BytesIO()
    api.restore_bundle(1, out, settings=site.settings)
    return out.getvalue()


@pytest.mark.sweep
def test_a_download_is_resumed_at_another_server(environment: Path, vast: bytes) -> None:
    with Server(environment) as server, ExitStack() as stack:
        tag = get(server, "/jobs/1/bundle", "HEAD").headers["ETag"]
        connection, body = begun(server, stack, "/jobs/1/bundle", 300_000)
        server.kill()
        while piece := connection.recv(1 << 20):
            body += piece
    assert len(body) < len(vast)
    with Server(environment) as server:
        rest = get(server, "/jobs/1/bundle", **{"Range": f"bytes={len(body)}-", "If-Range": tag})
    assert rest.status_code == 206
    assert body + rest.content == vast


@pytest.mark.sweep
def test_slow_clients_keep_nobody_waiting_and_leave_their_places(
    environment: Path, vast: bytes, tmp_path: Path, site: Site
) -> None:
    with Server(environment) as server:
        with ExitStack() as stack:
            for _ in range(MAX_STREAMS // 2):
                begun(server, stack, "/jobs/1/bundle")
            refused = get(server, "/jobs/1/bundle")
            assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
            assert get(server, "/jobs/1/bundle", "HEAD").status_code == 200
            state = server.settled(server.upload(write_bundle(tmp_path / "b.tar"))["job_id"])
            assert state["state"] == "OK"
        until(lambda: get(server, "/jobs/1/bundle").status_code == 200)


def test_the_log_tells_how_much_was_sent(environment: Path, vast: bytes) -> None:
    with Server(environment, "--log-format", "json") as server, ExitStack() as stack:
        get(server, "/jobs/1/bundle")
        get(server, "/jobs/1/bundle", "HEAD")
        connection, _ = begun(server, stack, "/jobs/1/bundle")
        connection.close()
        until(lambda: server.log.read_text().count("/jobs/1/bundle") == 3)
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    whole, head, part = [line["sent"] for line in lines]
    assert (whole, head) == (len(vast), 0)
    assert 1000 <= part < len(vast)


@pytest.mark.sweep
def test_a_server_that_ends_breaks_downloads_off(environment: Path, vast: bytes) -> None:
    with Server(environment) as server, ExitStack() as stack:
        connection, body = begun(server, stack, "/jobs/1/bundle")
        told = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE)
        assert time.monotonic() - told < 10
        while piece := connection.recv(1 << 20):
            body += piece
        assert len(body) < len(vast)
        log = server.log.read_text()
    assert "Traceback" not in log
    assert "without completing" not in log


# Archives over HTTP


@pytest.mark.sweep
def test_an_archive_over_http_does_not_wait_for_a_slow_client(
    environment: Path, pacific: PacificaSite, tmp_path: Path, downloads: None
) -> None:
    with Server(environment) as server, ExitStack() as stack:
        job_id = server.settled(server.upload(bundle_with(tmp_path, {"data/vast": LARGE * 8}))["job_id"])["job_id"]
        connection, _ = begun(server, stack, f"/jobs/{job_id}/files/data/vast")
        # The archive takes one request at a time, from all processes.
        state = server.settled(server.upload(write_bundle(tmp_path / "b.tar"))["job_id"])
        assert state["state"] == "OK"
        connection.close()
        path = f"/jobs/{job_id}/files/data/vast"
        assert get(server, path).content == LARGE * 8
        assert get(server, path, Range="bytes=7000000-7000009").content == (LARGE * 8)[7000000:7000010]
        pacific.files[1] = pacific.files[1][:-1] + b"!"
        with pytest.raises(requests.exceptions.RequestException):
            get(server, path)


# Access


def test_nothing_is_had_unless_the_site_says_so(environment: Path, site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with Server(environment) as server:
        for path in ("bundle", "files", "files/data/a.txt", "files/1"):
            assert get(server, f"/jobs/1/{path}").status_code == 403
        assert get(server, "/status/transactions/by_id/1").status_code == 403
        assert get(server, "/jobs/1").json()["downloadable"] is False


def test_a_user_has_what_was_recorded_in_the_users_name(
    environment: Path, tmp_path: Path, downloads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    monkeypatch.setenv("INGEST_READERS", "curator")
    monkeypatch.setenv("INGEST_DEFAULT_USER", "nobody")
    bundle, paths = write_bundle(tmp_path / "b.tar"), ("/jobs/1/bundle", "/jobs/1/files/1", "/jobs/1/files")

    def statuses(server: Server, *paths: str, **headers: str) -> set[int]:
        return {get(server, path, **headers).status_code for path in paths}

    def by(user: str) -> dict[str, str]:
        return {"X-Http-Authed-User": user}

    with Server(environment) as server:
        server.settled(server.upload(bundle, **by("ann"))["job_id"])
        assert statuses(server, *paths, **by("ann")) == {200}
        assert statuses(server, *paths, **by("curator")) == {200}
        assert statuses(server, *paths, **by("bob")) == {403}
        # Whoever has the document has a duplicate, but not the files.
        again = server.settled(server.upload(bundle, **by("bob"))["job_id"])["job_id"]
        assert get(server, f"/jobs/{again}").json()["duplicate_of"] == 1
        assert statuses(server, f"/jobs/{again}/bundle", **by("bob")) == {403}
        assert statuses(server, f"/jobs/{again}/bundle", **by("curator")) == {200}
        assert get(server, f"/jobs/{again}", **by("bob")).json()["downloadable"] is False
        # Of a request that names no user it is not known whose it is, nor so of the jobs that came by such ones.
        anyones = server.settled(server.upload(write_bundle(tmp_path / "c.tar", {"data/c": b"c"}))["job_id"])["job_id"]
        assert statuses(server, f"/jobs/{anyones}/bundle") == {403}
        assert statuses(server, f"/jobs/{anyones}/bundle", **by("nobody")) == {403}


@pytest.mark.sweep
def test_what_the_job_store_has_forgotten_is_for_readers(
    environment: Path, tmp_path: Path, downloads: None, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    monkeypatch.setenv("INGEST_READERS", "curator")
    with Server(environment) as server:
        server.settled(server.upload(write_bundle(tmp_path / "b.tar"), **{"X-Http-Authed-User": "ann"})["job_id"])
        assert command("prune", "--older-than", "0d", "--yes").returncode == 0
        assert get(server, "/jobs/1").status_code == 404
        listed = get(server, "/jobs/1/files", **{"X-Http-Authed-User": "curator"}).json()
        assert len(listed) == len(FILES)
        cart = f"{server.url}/{uuid4()}"
        for user, statuses in [("ann", (404, 403)), ("", (404, 403)), ("curator", (200, 201))]:
            named = {"X-Http-Authed-User": user} if user else {}
            made = requests.post(cart, json={"fileids": listed}, headers=named, timeout=PATIENCE)
            assert (get(server, "/jobs/1/bundle", **named).status_code, made.status_code) == statuses

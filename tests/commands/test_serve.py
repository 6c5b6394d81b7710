"""``ingest serve``: Pacifica's uploaders do not notice the change, and nothing that was answered with 200 is lost."""

import hashlib
import json
import os
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from ingest_cli import __version__
from ingest_cli.errors import ExitCode
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.store import open_store

from ..support.bundles import FILES, file_record, transaction, write_bundle
from ..support.command import Command
from ..support.loopback import lasting_port
from ..support.pacifica_double import Handler, PacificaSite
from ..support.serving import OCTETS, PATIENCE, Server, serving_apart
from ..support.shown import is_stored
from ..support.site import Site, assert_sound
from ..support.waiting import until

STATE_KEYS = ["job_id", "state", "task", "task_percent", "complete", "updated", "created", "exception"]
JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture
def server(environment: Path) -> Iterator[Server]:
    with Server(environment) as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Site]]:
    """One server, and its site, for all the requests that leave nothing there."""
    folder = tmp_path_factory.mktemp("shared")
    with serving_apart(
        folder, "--move-from", folder / "in", made=partial(Site, folder / "data" / "pacifica-ingest-cli")
    ) as shared:
        yield shared


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Site]]:
    """One that asks for credentials."""
    folder = tmp_path_factory.mktemp("guarded")
    with serving_apart(
        folder,
        made=partial(Site, folder / "data" / "pacifica-ingest-cli"),
        INGEST_SERVER_TOKEN="t0ken",
        INGEST_SERVER_USERNAME="ada",
        INGEST_SERVER_PASSWORD="löve",
    ) as guarded:
        yield guarded


def spooled(site: Site) -> list[str]:
    return sorted(path.name for path in site.settings.spool.glob("*"))


def until_spool_is_empty(site: Site) -> None:
    until(lambda: spooled(site) == [])


def assert_error(answer: requests.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()
    assert list(error) == ["status", "message", "traceback", "version"]
    assert error["status"].startswith(f"{status} ")
    assert (error["traceback"], error["version"]) == ("", __version__)
    assert error["message"]
    return error


# Pacifica's requests and answers.


def test_it_says_that_it_runs(shared: tuple[Server, Site]) -> None:
    server, _ = shared
    answer = requests.get(server.url, timeout=PATIENCE)
    assert (answer.status_code, answer.json()) == (200, {"message": "Pacifica Ingest Up and Running"})


@pytest.mark.parametrize("path", ["upload", "ingest"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_bundle_is_taken_and_ingested(server: Server, site: Site, tmp_path: Path, path: str, chunked: bool) -> None:
    content = write_bundle(tmp_path / "b.tar").read_bytes()
    body = iter([content[:700], content[700:]]) if chunked else content
    answer = requests.post(f"{server.url}/{path}", data=body, headers=OCTETS, timeout=PATIENCE)
    assert answer.status_code == 200
    state = answer.json()
    assert list(state) == STATE_KEYS
    assert (state["job_id"], state["state"], state["task_percent"]) == (1, "OK", "0.00000")
    settled = server.settled(1)
    assert (settled["complete"], settled["task_percent"], settled["exception"]) == (True, "100.00000", "")
    assert site.contents() == FILES
    until_spool_is_empty(site)


def test_a_document_to_move_is_taken(environment: Path, site: Site, tmp_path: Path) -> None:
    source = tmp_path / "in" / "one"
    source.parent.mkdir()
    source.write_bytes(b"1")
    document = json.dumps([*transaction(), file_record("data/one", b"1", source=str(source))])
    with Server(environment, "--move-from", source.parent) as server:
        answer = requests.post(f"{server.url}/move", data=document, headers=JSON_TYPE, timeout=PATIENCE)
        assert answer.status_code == 200
        assert list(answer.json()) == STATE_KEYS
        assert server.settled(1)["state"] == "OK"
    assert site.contents() == {"data/one": b"1"}
    assert not source.exists()


def test_a_bad_bundle_fails_as_pacificas_would(server: Server, site: Site, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("no tar")
    job_id = server.upload(tmp_path / "b.tar")["job_id"]
    state = server.settled(job_id)
    assert (state["state"], state["task"], state["task_percent"], state["complete"]) == (
        "FAILED",
        "open tar",
        "0.00000",
        True,
    )
    assert state["exception"]
    assert len(spooled(site)) == 1, "retry can use it"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/get_state", {}, None, 400),
        ("GET", "/get_state?job_id=abc", {}, None, 400),
        ("GET", "/get_state?job_id=1.5", {}, None, 400),
        ("GET", "/get_state?job_id=", {}, None, 400),
        ("GET", "/get_state?job_id=-1", {}, None, 404),
        ("GET", "/get_state?job_id=0", {}, None, 404),
        ("GET", "/get_state?job_id=99", {}, None, 404),
        ("GET", "/get_state?job_id=99999999999999999999999", {}, None, 404),
        ("GET", f"/get_state?job_id={'9' * 5000}", {}, None, 404),
        ("GET", "/nowhere", {}, None, 404),
        ("GET", "/upload", {}, None, 405),
        ("DELETE", "/get_state?job_id=1", {}, None, 405),
        ("POST", "/upload", {"Content-Type": "application/x-www-form-urlencoded"}, "s3cret", 415),
        ("POST", "/upload", {"Content-Type": "multipart/form-data; boundary=x"}, "s3cret", 415),
        ("POST", "/move", {"Content-Type": "text/plain"}, "s3cret", 415),
        ("POST", "/move", JSON_TYPE, "s3cret", 400),
        ("POST", "/move", JSON_TYPE, iter([b"[]"]), 411),
        ("GET", "/jobs?count=x", {}, None, 400),
        ("GET", "/jobs/abc", {}, None, 400),
        ("GET", "/jobs/0", {}, None, 404),
    ],
)
def test_what_is_wrong_is_said_in_an_object(
    shared: tuple[Server, Site], method: str, path: str, headers: dict[str, str], body: Any, status: int
) -> None:
    server, site = shared
    answer = requests.request(method, server.url + path, data=body, headers=headers, timeout=PATIENCE)
    assert_error(answer, status)
    assert "s3cret" not in answer.text
    assert site.jobs() == []
    assert spooled(site) == []


def test_a_number_that_no_job_can_have_is_named_as_it_was_given(shared: tuple[Server, Site]) -> None:
    answer = requests.get(f"{shared[0].url}/get_state?job_id=99999999999999999999999", timeout=PATIENCE)
    assert answer.json()["message"] == "there is no job '99999999999999999999999'"


# A body on its way.


def test_an_upload_cut_off_halfway_leaves_nothing(server: Server, site: Site) -> None:
    for request in (b"Content-Length: 1000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n186A0\r\n"):
        with server.connected() as connection:
            connection.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\n" + request + bytes(70000))
            until(lambda: len(spooled(site)) == 1)
    until_spool_is_empty(site)
    assert site.jobs() == []


def test_an_upload_that_the_server_dies_under_is_swept_up(environment: Path, site: Site, tmp_path: Path) -> None:
    with Server(environment) as server, server.connected() as connection:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123")
        until(lambda: spooled(site))
        server.kill()
        assert len(spooled(site)) == 1
    with Server(environment):
        until_spool_is_empty(site)
    assert site.jobs() == []


def test_a_second_server_leaves_the_uploads_of_the_first(server: Server, environment: Path, site: Site) -> None:
    with server.connected() as connection:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123")
        until(lambda: spooled(site))
        (site.settings.spool / "received-left.tar").touch()
        with Server(environment):
            until(lambda: len(spooled(site)) == 1)
        connection.sendall(b"456789")
        until(lambda: site.jobs())
        assert len(site.jobs()) == 1


@pytest.mark.parametrize(("digest", "status"), [(hashlib.sha256, 200), (hashlib.sha512, 200), (None, 400)])
def test_a_digest_that_comes_along_is_checked(server: Server, tmp_path: Path, digest: Any, status: int) -> None:
    content = write_bundle(tmp_path / "b.tar").read_bytes()
    name = "sha-512" if digest is hashlib.sha512 else "sha-256"
    value = b64encode((digest or hashlib.sha256)(content if digest else b"other").digest()).decode()
    answer = requests.post(
        f"{server.url}/upload",
        data=content,
        headers={**OCTETS, "Content-Digest": f"{name}=:{value}:"},
        timeout=PATIENCE,
    )
    assert answer.status_code == status, answer.text


def test_a_body_that_is_too_long(environment: Path, site: Site) -> None:
    with Server(environment, "--max-upload", 1000) as server:
        for body in (bytes(1001), iter([bytes(600), bytes(600)])):
            assert_error(requests.post(f"{server.url}/upload", data=body, headers=OCTETS, timeout=PATIENCE), 413)
        assert spooled(site) == []
        assert requests.post(f"{server.url}/upload", data=bytes(1000), headers=OCTETS, timeout=PATIENCE).ok


def test_a_disk_that_must_not_fill_up(environment: Path, site: Site, tmp_path: Path) -> None:
    with Server(environment, "--reserve", 1 << 60) as server:
        content = write_bundle(tmp_path / "b.tar").read_bytes()
        for body in (content, iter([content])):
            assert_error(requests.post(f"{server.url}/upload", data=body, headers=OCTETS, timeout=PATIENCE), 507)
        assert requests.get(f"{server.url}/healthz", timeout=PATIENCE).status_code == 503
        assert spooled(site) == []


def test_a_queue_that_is_full(environment: Path, site: Site, tmp_path: Path) -> None:
    with Server(environment, "--max-waiting", 1, "--workers", 1) as server:
        with open_store(site.settings) as store:
            # A job of another machine's worker, which lives.
            holder = replace(this_process(), host="elsewhere", namespace="another")
            store.submit(77, kind=JobKind.BUNDLE, source="/elsewhere", fingerprint="", user="u", holder=holder)
        answer = requests.post(f"{server.url}/upload", data=b"x", headers=OCTETS, timeout=PATIENCE)
        assert_error(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0


def test_ids_that_are_not_to_be_had(
    environment: Path, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNIQUEID_URL", "http://127.0.0.1:1")
    with Server(environment) as server:
        answer = requests.post(f"{server.url}/upload", data=b"x", headers=OCTETS, timeout=PATIENCE)
        assert_error(answer, 503)
        assert "Retry-After" in answer.headers
        assert "127.0.0.1:1" not in answer.text
        assert "127.0.0.1:1" in server.log.read_text()


def test_two_uploads_at_once_and_ids_for_one_at_a_time(
    environment: Path, pacific: PacificaSite, tmp_path: Path
) -> None:
    """As the released id service has it on SQLite. One more client asks it, as another server would."""
    database, refused = threading.Lock(), threading.Event()

    def locked(handler: Handler) -> bool:
        if not handler.path.startswith("/getid"):
            return False
        if not database.acquire(blocking=False):
            refused.set()
            handler.answer(500, {"message": "database is locked"})
            return True
        try:
            refused.wait(PATIENCE)  # of the first, until another has come
            handler.serve_get()
        finally:
            database.release()
        return True

    pacific.guard = locked
    bundles = [write_bundle(tmp_path / f"{number}.tar", {"data/x": b"%d" % number}) for number in range(6)]
    with Server(environment, "--workers", 2) as one, Server(environment) as another, ThreadPoolExecutor(6) as pool:
        uploads = [
            pool.submit(server.upload, bundle) for server, bundle in zip((one, another) * 3, bundles, strict=True)
        ]
        job_ids = [upload.result()["job_id"] for upload in uploads]
        assert len(set(job_ids)) == len(bundles)
        assert all(is_stored(one.settled(job_id)) for job_id in job_ids)
    assert refused.is_set()
    assert len(pacific.transactions) == len(bundles)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000, 431),
        (b"GET /" + b"x" * 200_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(20_000)), 431),
        (b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    ],
)
def test_what_is_no_request(shared: tuple[Server, Site], request_bytes: bytes, status: int) -> None:
    server, _ = shared
    answered, error = server.exchange(request_bytes)
    assert answered == status
    assert list(error) == ["status", "message", "traceback", "version"]


def test_pipelined_requests_are_answered_in_turn(shared: tuple[Server, Site]) -> None:
    server, _ = shared
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server.connected() as connection:
        connection.sendall(request * 3)
        received = b""
        while received.count(b"Up and Running") < 3:
            piece = connection.recv(65536)
            assert piece
            received += piece


# Who may.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "evil.example"}, 400),
        ({"Host": "localhost.evil.example"}, 400),
        ({"Host": "["}, 400),
        ({"Origin": "http://localhost:8066"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_of_other_sites_get_nothing(shared: tuple[Server, Site], headers: dict[str, str], status: int) -> None:
    server, _ = shared
    answer = requests.get(server.url, headers=headers, timeout=PATIENCE)
    assert answer.status_code == status
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


def test_another_name_can_be_allowed(environment: Path) -> None:
    with Server(environment, "--allow-host", "ingest.example") as server:
        assert requests.get(server.url, headers={"Host": "ingest.example"}, timeout=PATIENCE).ok


def user_of(server: Server, site: Site, bundle: Path, **headers: str) -> str:
    return site.job(server.upload(bundle, **headers)["job_id"]).user


def test_a_users_name_is_believed_only_from_a_trusted_proxy(
    environment: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    claim = {"X-Http-Authed-User": "dmlb2001"}
    with Server(environment) as server:
        assert user_of(server, site, bundle, **claim) == site.settings.user
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "10.0.0.0/8 127.0.0.1")
    with Server(environment) as server:
        assert user_of(server, site, bundle, **claim) == "dmlb2001"
        assert user_of(server, site, bundle) == site.settings.user


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("claim", "user"), [("Иван".encode(), "Иван"), (b"Andr\xe9", "André"), (b"x" * 300, None), (b"a\x7fb", None)]
)
def test_the_name_of_a_user_is_one_that_can_be_shown(
    environment: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claim: bytes, user: str | None
) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    body = write_bundle(tmp_path / "b.tar").read_bytes()
    head = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nX-Http-Authed-User: %s\r\nContent-Length: %d\r\n\r\n"
    with Server(environment) as server:
        status, _ = server.exchange(head % (claim, len(body)) + body)
        assert status == (400 if user is None else 200)
        assert [job.user for job in site.jobs()] == ([] if user is None else [user])


def test_a_claimed_user_goes_to_the_policy(
    environment: Path, pacific: PacificaSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    with Server(environment) as server:
        server.settled(server.upload(write_bundle(tmp_path / "b.tar"), **{"X-Http-Authed-User": "ada"})["job_id"])
    assert pacific.users == ["ada"]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer t0ken"}, 200),
        ({"Authorization": "bearer t0ken"}, 200),
        ({"Authorization": "Basic " + b64encode("ada:löve".encode()).decode()}, 200),
        ({"Authorization": "Basic " + b64encode(b"ada:wrong").decode()}, 401),
        ({"Authorization": "Basic !"}, 401),
        ({"X-Http-Authed-User": "ada"}, 401),
    ],
)
def test_credentials(guarded: tuple[Server, Site], given: dict[str, str], status: int) -> None:
    server, site = guarded
    answer = requests.post(f"{server.url}/upload", data=b"x", headers={**OCTETS, **given}, timeout=PATIENCE)
    assert answer.status_code == status
    assert requests.get(f"{server.url}/healthz", timeout=PATIENCE).ok
    if status == 401:
        assert_error(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    else:
        job = site.job(answer.json()["job_id"])
        assert job.user == ("ada" if "Basic" in given["Authorization"] else site.settings.user)


def test_others_may_reach_it_only_when_it_is_said_who_may(command: Command) -> None:
    done = command("serve", "--host", "0.0.0.0", "--port", 0)
    assert done.returncode == ExitCode.USAGE
    assert "trusted_proxies" in done.stderr


def test_a_port_that_is_taken(command: Command, server: Server) -> None:
    done = command("serve", "--port", server.port)
    assert done.returncode == ExitCode.USAGE
    assert "Address already in use" in done.stderr


def test_files_are_moved_from_allowed_folders_only(environment: Path, site: Site, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    sources = [tmp_path / place / "one" for place in ("in", "out")]
    for source in sources:
        source.write_bytes(b"1")
    with Server(environment, "--move-from", tmp_path / "in") as server:
        for source, status in [(sources[1], 403), (tmp_path / "in" / "link" / "one", 403), (sources[0], 200)]:
            document = json.dumps([*transaction(), file_record("data/one", b"1", source=str(source))])
            answer = requests.post(f"{server.url}/move", data=document, headers=JSON_TYPE, timeout=PATIENCE)
            assert answer.status_code == status, source
        job_id = answer.json()["job_id"]
        assert server.settled(job_id)["state"] == "OK"
    assert [source.exists() for source in sources] == [False, True]


# Operations.


def test_health_and_metrics(server: Server, tmp_path: Path) -> None:
    server.settled(server.upload(write_bundle(tmp_path / "b.tar"))["job_id"])
    assert requests.get(f"{server.url}/healthz", timeout=PATIENCE).json() == {"status": "ok"}
    answer = requests.get(f"{server.url}/metrics", timeout=PATIENCE)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert samples['ingest_jobs{state="complete"}'] == "1"
    assert samples['ingest_files{state="complete"}'] == str(len(FILES))
    assert samples['ingest_bytes{state="complete"}'] == str(sum(map(len, FILES.values())))
    assert float(samples['ingest_stage_seconds_total{stage="ingest files"}']) > 0


def test_the_log_as_json(environment: Path) -> None:
    with Server(environment, "--log-format", "json") as server:
        requests.get(f"{server.url}/x%0Ay?token=s3cret", timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not (lines := [line for line in server.log.read_text().splitlines() if line.startswith("{")]):
            assert time.monotonic() < deadline
    (line,) = map(json.loads, lines)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/x\ny", 404)
    assert "s3cret" not in server.log.read_text()


def test_it_stops_gracefully(environment: Path, site: Site, tmp_path: Path) -> None:
    """An upload under way is finished."""
    content = write_bundle(tmp_path / "b.tar").read_bytes()
    with Server(environment) as server, server.connected() as connection:
        head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content[:1000])
        until(lambda: spooled(site))
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(content[1000:])
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert server.process.wait(PATIENCE) == 0
    assert len(site.jobs()) == 1


def test_a_restart_goes_on_with_what_was_queued(environment: Path, site: Site, tmp_path: Path) -> None:
    with Server(environment) as server:
        server.upload(write_bundle(tmp_path / "b.tar"))
        server.kill()
    with Server(environment) as server:
        assert server.settled(1)["state"] == "OK"
        until_spool_is_empty(site)
    assert site.contents() == FILES


@pytest.mark.sweep
def test_many_clients_and_a_server_that_is_killed_twice(environment: Path, site: Site, tmp_path: Path) -> None:
    """All that were answered with 200 are complete, exactly once."""
    files = {f"data/{number:03}": os.urandom(200 + (number % 7 == 0) * 300_000) for number in range(200)}
    bundles = [write_bundle(tmp_path / f"{name[5:]}.tar", {name: content}) for name, content in files.items()]
    answered: dict[Path, int] = {}
    port = lasting_port()

    def upload_until_answered(bundle: Path) -> None:
        deadline = time.monotonic() + 4 * PATIENCE
        while bundle not in answered:
            assert time.monotonic() < deadline
            try:
                with bundle.open("rb") as body:
                    url = f"http://127.0.0.1:{port}/upload"
                    answer = requests.post(url, data=body, headers=OCTETS, timeout=PATIENCE)
                    if answer.status_code == 200:
                        answered[bundle] = answer.json()["job_id"]
            except requests.RequestException:
                time.sleep(0.05)

    with ThreadPoolExecutor(32) as clients:
        done = [clients.submit(upload_until_answered, bundle) for bundle in bundles]
        for share in (40, 120):
            with Server(environment, "--quiet", port=port) as server:
                deadline = time.monotonic() + 4 * PATIENCE
                while len(answered) < share:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                server.kill()
        with Server(environment, "--quiet", port=port) as server:
            for future in done:
                future.result()
            for job_id in answered.values():
                assert server.settled(job_id)["state"] == "OK"
            until_spool_is_empty(site)
    assert len(answered) == len(bundles)
    transactions = len(site.rows("Transactions"))
    assert transactions == len(bundles), "an upload whose answer was lost and that was sent again is stored once"
    assert_sound(site, files, len(site.jobs()), transactions)

"""``ingest serve`` and a stranger with curl: whatever one client sends, the others are answered, and soon."""

import random
import re
import resource
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import requests

from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.store import open_store
from ingest_cli.server.admission import MAX_RECEPTIONS
from ingest_cli.server.protocol import MAX_PIPELINED
from ingest_cli.server.serve import MAX_CONNECTIONS
from ingest_cli.settings import load_settings

from ..support.bundles import write_bundle
from ..support.environment import scrub
from ..support.onlooker import SOON_SECONDS, Onlooker, most_bytes
from ..support.pacifica_double import Handler, PacificaSite
from ..support.serving import OCTETS, PATIENCE, Server
from ..support.shown import is_stored
from ..support.site import Site
from ..support.waiting import until

# Every kind of client, and many of them.
pytestmark = pytest.mark.sweep

JSON_TYPE = {"Content-Type": "application/json"}
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all that needs none of its own. It asks for credentials."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        scrub(patch, folder)
        patch.setenv("INGEST_SERVER_TOKEN", "t0ken")
        patch.setenv("INGEST_SERVER_USERNAME", "ada")
        patch.setenv("INGEST_SERVER_PASSWORD", "secret")
        server = stack.enter_context(Server(folder, "--move-from", folder))
        patch.undo()
        yield server


def status_of(server: Server, request: bytes, patience: float = SOON_SECONDS) -> int:
    """The status of the answer to these bytes; 0 where the connection is closed without one."""
    with server.connected() as connection:
        connection.settimeout(patience)
        with suppress(ConnectionError):
            connection.sendall(request)
        answer = b""
        with suppress(ConnectionError):
            answer = connection.recv(4096)
    return int(answer.split()[1]) if answer else 0


# Headers, paths and queries: what is read of them is read in one go.

FILLERS = {
    "letters": "a" * 60_000,
    "digits": "1" * 60_000,
    "parentheses": "(" * 30_000 + ")" * 30_000,
    "commas": "," * 60_000,
    "quotes": '"' * 60_000,
    "equals": "=:" * 30_000,
    "names": "a=:" * 20_000,
    "digests": "sha-256=:AAAA:," * 4_000,
    "dashes": "a-" * 30_000,
    "blanks": f"a{' ' * 59_000}b",
    "backslashes": "\\" * 60_000,
    "brackets": "[" * 60_000,
    "colons": ":" * 60_000,
    "slashes": "/" * 60_000,
    "percents": "%" * 60_000,
    "accents": "\xe9" * 60_000,
    "base64": f"Basic {'A' * 60_000}",
    "parameters": "a;" * 30_000,
}
HEADERS = [
    *("Host", "Origin", "Authorization", "Content-Type", "Content-Digest", "Accept", "Expect", "Connection", "Cookie"),
    *("Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "X-Http-Authed-User", "Range", "Date"),
    *("Upload-Concat", "Upload-Checksum", "Upload-Defer-Length", "X-HTTP-Method-Override"),
]


@pytest.mark.parametrize("header", HEADERS)
def test_a_long_header_is_read_as_fast_as_a_short_one(shared: Server, header: str) -> None:
    requested = [("POST", "/upload", "application/octet-stream"), ("POST", "/files", "application/octet-stream")]
    requested.append(("PATCH", f"/files/{'0' * 32}", "application/offset+octet-stream"))
    with Onlooker(shared) as onlooker:
        for filler in FILLERS.values():
            for method, path, kind in requested:
                given = {"Host": "localhost", "Authorization": "Bearer t0ken", "Content-Type": kind, **TUS}
                given |= {"Content-Length": "1", "Upload-Offset": "0", header: filler}
                lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
                status = status_of(shared, "\r\n".join([*lines, "", "x"]).encode("latin-1"))
                assert status == 200 or 400 <= status < 500, (header, filler[:10], method, status)
    onlooker.assert_it_was_well()


@pytest.mark.parametrize(
    "path",
    [
        *(f"/get_state?job_id={'1' * 50_000}", f"/get_state?{'a=b&' * 15_000}", f"/jobs?count=-{'9' * 50_000}"),
        *(f"/jobs/{'%41' * 20_000}", f"/{'a/' * 30_000}", f"/files/{'a' * 60_000}", f"/?{'%' * 60_000}"),
        *("/jobs/\xff", "/\x00", "/get_state?job_id=%ff%00", "//jobs/1", "http://elsewhere/jobs", "*", "é"),
        *("/files/..%2f..%2fetc", "/get_state?job_id=%EF%BC%91", "/jobs?count=1&count=x"),
    ],
)
def test_an_odd_path_is_answered(shared: Server, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t0ken\r\n\r\n"
    assert status_of(shared, head.encode("utf-8")) in (200, 400, 404, 405)


def test_what_is_quoted_of_a_request_is_short(shared: Server) -> None:
    long = "x" * 50_000
    for headers, path in [({"Host": long}, "/"), ({"Content-Type": long}, "/upload"), ({}, f"/{long}")]:
        answer = requests.post(
            shared.url + path, headers={"Authorization": "Bearer t0ken", **headers}, data=b"x", timeout=PATIENCE
        )
        assert 400 <= answer.status_code < 500
        assert len(answer.text) < 2000
    assert max(map(len, shared.log.read_text().splitlines())) < 2000


# A document that is not what it seems.


def braces(length: int) -> bytes:
    return b"[" + b"{}," * ((length - 4) // 3) + b"{}]"


@pytest.mark.parametrize(
    ("length", "records"), [(24_000_000, 3_000_000), pytest.param(190_000_000, 190_000_000, marks=pytest.mark.sweep)]
)
def test_a_document_is_never_there_as_a_whole(environment: Path, length: int, records: int) -> None:
    bodies = [b'[{"a":' + b"[" * length, b'[{"a":[' + b"{}," * (length // 3), b" " * length, braces(records) + b"x"]
    with Server(environment, "--move-from", environment) as server:
        before = most_bytes(server)
        with Onlooker(server) as onlooker:
            for body in bodies:
                answer = requests.post(f"{server.url}/move", data=body, headers=JSON_TYPE, timeout=PATIENCE)
                assert answer.status_code == 400, answer.text
        onlooker.assert_it_was_well()
        assert most_bytes(server) - before < 150_000_000


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (b"[]", 200),
        (b" [ {} , {} ] \n", 200),
        (b"\xef\xbb\xbf[{}]", 200),
        ('[{"key": "ü😀", "value": [1.5, null, "\\u00e9"]}]'.encode(), 200),
        ('[{"key": "ü😀"}]'.encode("utf-16"), 200),
        (b"[" + b"{}," * 300_000 + b"{}]", 200),
        (b"", 400),
        (b"[", 400),
        (b"[{}", 400),
        (b"[{},]", 400),
        (b"[{} {}]", 400),
        (b"[{}]]", 400),
        (b"[{}] x", 400),
        (b"[1]", 400),
        (b"{}", 400),
        (b'[{"a": }]', 400),
        (b"\xff\xfe\xfd", 400),
        (b'[{"a": "\xff"}]', 400),
        (b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", 400),
        (b'[{"a": ' + b"1" * 10_000 + b"}]", 400),
        (b'[{"a": "' + b"x" * 3_000_000 + b'"}]', 400),
    ],
)
def test_a_document_is_a_list_of_records(shared: Server, document: bytes, status: int) -> None:
    headers = {"Authorization": "Bearer t0ken", **JSON_TYPE}
    answer = requests.post(f"{shared.url}/move", data=document, headers=headers, timeout=PATIENCE)
    assert answer.status_code == status, answer.text


# Connections, and bodies that do not come.


def test_an_upload_that_stalls_keeps_nobody_else_from_uploading(
    environment: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    bundle = write_bundle(tmp_path / "b.tar")
    most = MAX_RECEPTIONS // 2
    with Server(environment) as server, ExitStack() as stack:
        begun = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nX-Http-Authed-User: mallory\r\nContent-Length: 9\r\n\r\nx"
        for _ in range(most):
            stack.enter_context(server.connected()).sendall(begun)
        until(lambda: len(list(site.settings.spool.glob("*"))) == most)
        with bundle.open("rb") as body:
            answer = requests.post(
                f"{server.url}/upload",
                data=body,
                headers={**OCTETS, "X-Http-Authed-User": "mallory"},
                timeout=PATIENCE,
            )
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert server.settled(server.upload(bundle, **{"X-Http-Authed-User": "ada"})["job_id"])["state"] == "OK"
        stack.close()
        until(lambda: not list(site.settings.spool.glob("*")))
        assert server.upload(bundle, **{"X-Http-Authed-User": "mallory"})["state"] == "OK"


@contextmanager
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + 1000
    if before[1] not in (resource.RLIM_INFINITY,) and before[1] < wanted:
        pytest.skip("this account may not have as many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_that_only_wait_make_room(environment: Path, tmp_path: Path) -> None:
    with many_descriptors(), Server(environment) as server, ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 100):
            stack.enter_context(server.connected()).sendall(b"GET / HTTP/1.1\r\nX: a")
        assert requests.get(f"{server.url}/healthz", timeout=PATIENCE).ok
        assert server.upload(write_bundle(tmp_path / "b.tar"))["state"] == "OK"


def test_requests_that_come_before_the_answers_are_few(shared: Server) -> None:
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t0ken\r\n\r\n"
    before = most_bytes(shared)
    with Onlooker(shared) as onlooker, ExitStack() as stack:
        connections = [stack.enter_context(shared.connected()) for _ in range(200)]
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with suppress(ConnectionError):
                connection.sendall(request * 600)
        until(lambda: onlooker.answers.total() > 3)
    onlooker.assert_it_was_well()
    assert most_bytes(shared) - before < 100_000_000
    assert status_of(shared, request * (MAX_PIPELINED // 2)) == 200


def test_the_smallest_chunks(environment: Path, site: Site) -> None:
    """Each costs as much as a large one, and the others only their turn."""
    with Server(environment) as server, Onlooker(server) as onlooker:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: send_in_small_chunks(server), range(4)))
        until(lambda: onlooker.answers.total() and not list(site.settings.spool.glob("received-*.tar")))
    onlooker.assert_it_was_well()


def send_in_small_chunks(server: Server) -> None:
    with server.connected() as connection, suppress(ConnectionError):
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            connection.sendall(b"1\r\nx\r\n" * 10_000)


def test_an_id_service_that_hangs_holds_up_only_who_needs_an_id(
    environment: Path, pacific: PacificaSite, tmp_path: Path
) -> None:
    bundle, hangs, may_answer = write_bundle(tmp_path / "b.tar"), threading.Event(), threading.Event()

    def hanging(handler: Handler) -> bool:
        if handler.path.startswith("/getid") and "upload_job" in handler.path and not may_answer.is_set():
            hangs.set()
            assert may_answer.wait(PATIENCE)
        return False

    with Server(environment) as server, ThreadPoolExecutor() as pool:
        job_id = server.upload(bundle)["job_id"]
        pacific.guard = hanging
        uploading = pool.submit(server.upload, bundle)
        assert hangs.wait(PATIENCE)
        begun = time.monotonic()
        assert server.settled(job_id)["state"] == "OK"
        for path in ("healthz", "jobs", f"jobs/{job_id}", "metrics"):
            assert requests.get(f"{server.url}/{path}", timeout=SOON_SECONDS).ok
        assert time.monotonic() - begun < 2 * SOON_SECONDS
        may_answer.set()
        uploading.result()


def test_a_locked_job_store_holds_up_only_who_enters_a_job(environment: Path, site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with Server(environment) as server, ThreadPoolExecutor() as pool:
        job_id = server.upload(bundle)["job_id"]
        server.settled(job_id)
        with closing(sqlite3.connect(site.database, isolation_level=None)) as another:
            another.execute("BEGIN IMMEDIATE")
            uploading = pool.submit(server.upload, bundle)
            until(lambda: list(site.settings.spool.glob("*")))
            for path in ("healthz", "jobs", f"jobs/{job_id}", "metrics", f"get_state?job_id={job_id}"):
                assert requests.get(f"{server.url}/{path}", timeout=SOON_SECONDS).ok
            assert not uploading.done()
            another.execute("ROLLBACK")
        uploading.result()


# What is told of a job.


def test_no_client_gets_a_traceback(environment: Path, site: Site, tmp_path: Path) -> None:
    """Not of a job that an earlier version noted one of, either; and nothing without end."""
    stories = {
        1: (
            "Traceback (most recent call last):\n  File x, line 1, in y\nOverflowError: int too large\n",
            "OverflowError: ",
        ),
        2: ("x" * 1_000_000, "xxx"),
    }
    with open_store(site.settings) as store:
        for job_id in stories:
            path = write_bundle(tmp_path / f"{job_id}.tar")
            store.submit(job_id, kind=JobKind.BUNDLE, source=str(path), fingerprint="", user="u", holder=None)
    with closing(sqlite3.connect(site.database)) as connection, connection:
        for job_id, (story, _) in stories.items():
            connection.execute("UPDATE jobs SET state = 'failed', exception = ? WHERE job_id = ?", (story, job_id))
    with Server(environment) as server:
        for job_id, (_, beginning) in stories.items():
            said = [server.state(job_id), requests.get(f"{server.url}/jobs/{job_id}", timeout=PATIENCE).json()]
            for state in said:
                assert state["exception"].startswith(beginning)
                assert len(state["exception"]) < 5000
                assert "File x" not in state["exception"]


# The end.


def stalled_head(server: Server, stack: ExitStack) -> None:
    stack.enter_context(server.connected()).sendall(b"POST /upload HTTP/1.1\r\nHost:")


def stalled_body(server: Server, stack: ExitStack) -> None:
    connection = stack.enter_context(server.connected())
    connection.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx")


def endless_body(server: Server, stack: ExitStack) -> None:
    connection = stack.enter_context(server.connected())
    connection.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")

    def send() -> None:
        with suppress(OSError):
            while True:
                connection.sendall(b"1\r\nx\r\n" * 1000)

    threading.Thread(target=send, daemon=True).start()


def endless_bodies(server: Server, stack: ExitStack) -> None:
    for _ in range(4):
        endless_body(server, stack)


def unwanted_body(server: Server, stack: ExitStack) -> None:
    connection = stack.enter_context(server.connected())
    connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\nx")


def stalled_resumable_upload(server: Server, stack: ExitStack) -> None:
    answer = requests.post(f"{server.url}/files", headers={**TUS, "Upload-Length": "1000"}, timeout=PATIENCE)
    head = f"PATCH {answer.headers['Location']} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n"
    kind = "Content-Type: application/offset+octet-stream\r\n"
    connection = stack.enter_context(server.connected())
    connection.sendall(f"{head}{kind}Upload-Offset: 0\r\nContent-Length: 1000\r\n\r\nx".encode())


def checked_document(server: Server, stack: ExitStack) -> None:
    body = braces(24_000_000)
    connection = stack.enter_context(server.connected())
    head = f"POST /move HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    connection.sendall(f"{head}\r\n\r\n".encode() + body)


def slow_reader(server: Server, stack: ExitStack) -> None:
    connection = stack.enter_context(server.connected())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * MAX_PIPELINED)


@pytest.mark.parametrize(
    "client",
    [
        *(
            stalled_head,
            stalled_body,
            endless_body,
            endless_bodies,
            unwanted_body,
            stalled_resumable_upload,
            checked_document,
        ),
        slow_reader,
    ],
)
def test_it_ends_soon_whatever_a_client_does(
    environment: Path, site: Site, client: Callable[[Server, ExitStack], None]
) -> None:
    with Server(environment, "--move-from", environment) as server, ExitStack() as stack:
        client(server, stack)
        time.sleep(0.3)  # it may not have begun yet; then it ends the sooner
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        # Not cut off by its own deadline, after which it would be another status.
        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - begun < SOON_SECONDS
    assert not list(site.settings.spool.glob("received-*"))
    assert "Traceback" not in server.log.read_text()


def test_it_ends_soon_whatever_else_hangs(environment: Path, pacific: PacificaSite, site: Site) -> None:
    """An id service that does not answer, and a job store that another process has locked."""
    hangs, may_answer = threading.Event(), threading.Event()

    def hanging(handler: Handler) -> bool:
        hangs.set()
        return not may_answer.wait(PATIENCE)

    site.settings = load_settings()
    with Server(environment) as server, ExitStack() as stack:
        pacific.guard = hanging
        stack.callback(may_answer.set)
        stalled_body(server, stack)
        assert hangs.wait(PATIENCE)
        another = stack.enter_context(closing(sqlite3.connect(site.database, isolation_level=None)))
        another.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - begun < SOON_SECONDS


# All at once.


class Attacker:
    """Sends requests as clients send them, but for what comes to its mind: methods, paths, headers, bodies, an end."""

    OCTETS, JSON, TUS = "application/octet-stream", "application/json", "application/offset+octet-stream"
    REQUESTS = (
        *(("GET", path, {}) for path in ("/", "/jobs", "/jobs/1", "/get_state?job_id=1", "/metrics", "/openapi.json")),
        *(
            ("POST", "/upload", {"Content-Type": OCTETS}),
            ("POST", "/ingest", {}),
            ("POST", "/upload", {"Expect": "100-continue"}),
        ),
        ("POST", "/upload", {"Transfer-Encoding": "chunked"}),
        ("POST", "/move", {"Content-Type": JSON}),
        ("POST", "/files", {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}),
        ("HEAD", "/files/NAME", {"Tus-Resumable": "1.0.0"}),
        ("PATCH", "/files/NAME", {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": TUS}),
        ("DELETE", "/files/NAME", {"Tus-Resumable": "1.0.0"}),
        ("POST", "/files/", {"Tus-Resumable": "1.0.0", "Upload-Defer-Length": "1", "Content-Type": TUS}),
        ("POST", "/files", {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Concat": "partial"}),
        ("POST", "/files", {"Tus-Resumable": "1.0.0", "Upload-Concat": "final;/files/NAME"}),
        ("POST", "/files/NAME", {"Tus-Resumable": "1.0.0", "X-HTTP-Method-Override": "PATCH", "Content-Type": TUS}),
    )
    METHODS = ("PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "")
    PATHS = ("//", "/%", "/../../etc/passwd", "*", "", "/\xff", "/files/x", "/get_state?job_id=1e30", "/jobs?count=0")
    VALUES = (
        *(
            "chunked",
            "gzip, chunked",
            "0",
            "1",
            "-1",
            "5",
            "1000",
            "99999999999999999999",
            "1e30",
            "websocket",
            "close",
        ),
        *("1.0.0", "localhost", "evil.example", "sha-256=:AAAA:", "sha-256=:!:", "Basic !", "\x00", "\x7f", "\xe9", ""),
    )
    BODIES = (
        b"",
        b"x",
        b"hello",
        b"[]",
        b"[{}]",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"ffffffff\r\n",
        bytes(2000),
        bytes(70_000),
    )

    def __init__(self, server: Server, seed: int) -> None:
        self._server, self._random = server, random.Random(seed)
        self._name = "0" * 32
        self.statuses = Counter[int]()

    def request(self) -> bytes:
        choose, odds = self._random.choice, self._random.random
        method, path, own = choose(self.REQUESTS)
        body: bytes = choose(self.BODIES)
        headers = {"Host": "localhost", **own}
        if "Transfer-Encoding" not in headers and odds() < 0.9:
            headers["Content-Length"] = str(len(body) + (choose((1, -1, 10_000)) if odds() < 0.1 else 0))
        if odds() < 0.1:
            method = choose(self.METHODS)
        if odds() < 0.1:
            path = choose(self.PATHS)
        if odds() < 0.3:
            filler = choose(list(FILLERS.values()))[: self._random.randrange(9000)]
            headers[choose((*HEADERS, *headers, "Upgrade", "x y"))] = choose(self.VALUES) + choose(("", filler))
        version = "1.1" if odds() < 0.95 else choose(("1.0", "2", "9.9"))
        lines = [f"{method} {path.replace('NAME', self._name)} HTTP/{version}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        whole = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        return whole[: self._random.randrange(len(whole) + 1)] if odds() < 0.15 else whole

    def attack(self, times: int) -> None:
        for _ in range(times):
            with suppress(OSError):
                self._attack_once()

    def _attack_once(self) -> None:
        with self._server.connected() as connection:
            connection.settimeout(0.05 if self._random.random() < 0.5 else 0.5)
            for _ in range(self._random.choice((1, 1, 1, 2, 5))):
                connection.sendall(self.request())
            answer = connection.recv(65536)
            self.statuses.update(int(status) for status in re.findall(rb"HTTP/1.1 (\d{3})", answer))
            for name in re.findall(rb"(?i)location: /files/([0-9a-f]{32})", answer):
                self._name = name.decode()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(2, 12))])
def test_a_storm_of_odd_requests_harms_no_one(environment: Path, site: Site, tmp_path: Path, seed: int) -> None:
    """A good client uploads all the while, and none of its bundles is missing."""
    files = {f"data/{number}": f"{seed} {number}".encode() for number in range(20)}
    bundles = [write_bundle(tmp_path / f"{name[5:]}.tar", {name: content}) for name, content in files.items()]
    with Server(environment, "--move-from", tmp_path, "--quiet") as server:
        attackers = [Attacker(server, 100 * seed + number) for number in range(4)]
        with Onlooker(server) as onlooker, ThreadPoolExecutor(5) as pool:
            storms = [pool.submit(attacker.attack, 60) for attacker in attackers]
            good = [server.settled(server.upload(bundle)["job_id"]) for bundle in bundles]
            for storm in storms:
                storm.result()
        statuses = sum((attacker.statuses for attacker in attackers), Counter[int]())
        assert all(is_stored(state) for state in good)
        assert not {status for status in statuses if status >= 500 and status not in (503, 507)}, statuses
        assert len(statuses) > 5, statuses
        onlooker.assert_it_was_well()
        assert most_bytes(server) < 200_000_000
        # Jobs of what was uploaded and is no bundle keep their files, for 'ingest retry'; nothing else is left.
        until(lambda: all(job.state in ("complete", "failed", "duplicate") for job in site.jobs()))
        kept = {Path(job.source) for job in site.jobs() if job.state == "failed"}
        until(lambda: set(site.settings.spool.glob("received-*")) <= kept)
    assert {name: content for name, content in site.contents().items() if name in files} == files
    assert "Traceback" not in server.log.read_text()

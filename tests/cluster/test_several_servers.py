"""Several servers are one service: any of them takes any piece of any upload, and a worker of any host the job."""

import gzip
import io
import os
import re
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import requests

from ingest_cli.api.housekeeping import diagnose, prune
from ingest_cli.jobs.job import Job
from ingest_cli.services import factory
from ingest_cli.settings import PostgresUrl
from ingest_cli.spool.rows import Row
from ingest_cli.spool.shared import WRITERS

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.object_stores import Between, ObjectServer, at_random
from ..support.postgres import PostgresServer
from ..support.several_servers import Instance, SeveralServers, several_servers, state_of
from ..support.tus import PIECE, V, checksum
from ..support.waiting import PATIENCE, until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def storage(strict_storage: ObjectServer) -> Iterator[Between]:
    """What stands before the storage, and can have its requests fail."""
    with Between(strict_storage) as storage:
        yield storage


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, storage: Between
) -> Iterator[SeveralServers]:
    folder = tmp_path_factory.mktemp("hosts")
    with several_servers(folder, postgres_server.new_database(), storage.server) as servers:
        yield servers


def bundle_of(folder: Path, length: int) -> tuple[bytes, bytes]:
    """A bundle that nobody has sent before, and what the file in it holds."""
    content = os.urandom(length)
    return write_bundle(folder / f"{os.urandom(8).hex()}.tar", {"data/a": content}).read_bytes(), content


def sent(servers: SeveralServers, bundle: bytes) -> int:
    """The job of a bundle that is sent in one request."""
    answer = requests.post(
        f"{servers.url}/upload", data=bundle, headers={"Content-Type": "application/octet-stream"}, timeout=PATIENCE
    )
    assert answer.status_code == 200, answer.text
    return int(answer.json()["job_id"])


def create(url: str, length: int | None, headers: dict[str, str] | None = None) -> str:
    """The path of a new upload."""
    said = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    answer = requests.post(f"{url}/files", headers={**V, **said, **(headers or {})}, timeout=PATIENCE)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def patch(url: str, at: int, piece: bytes, headers: dict[str, str] | None = None) -> requests.Response:
    headers = {**PIECE, "Upload-Offset": str(at), **(headers or {})}
    return requests.patch(url, data=piece, headers=headers, timeout=PATIENCE)


def offset(url: str) -> int:
    answer = requests.head(url, headers=V, timeout=PATIENCE)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def assert_stored(servers: SeveralServers, job_id: object, content: bytes, *, after_a_death: bool = False) -> Job:
    """The job has stored the file, and is the only one of its source; its upload is gone.

    What a server was writing at its death may lie in an object still that nobody knows of: an orphan.
    """
    job = servers.settled(int(str(job_id)))
    assert job.is_done, job.exception
    assert [other.job_id for other in servers.jobs() if other.source == job.source] == [job.job_id]
    assert servers.stored().count(content) == 1
    name = job.source.rpartition("/")[2]

    def left() -> set[str]:
        objects = {key for key in servers.objects() if key.startswith(name)}
        return objects - servers.orphans() if after_a_death else objects

    until(lambda: not left())
    return job


def begun(instance: Instance, path: str, at: int, length: int, first: bytes) -> socket.socket:
    """A request that says it has so many bytes, and has sent the first."""
    connection = socket.create_connection(("127.0.0.1", int(instance.url.rpartition(":")[2])), timeout=PATIENCE)
    headers = {**PIECE, "Host": urlsplit(instance.url).netloc, "Content-Length": length, "Upload-Offset": at}
    lines = [f"PATCH {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + first)
    return connection


def test_a_bundle_in_one_request_is_stored_and_its_upload_goes(servers: SeveralServers, tmp_path: Path) -> None:
    bundle, content = bundle_of(tmp_path, 20_000)
    headers = {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="b.tar"'}
    answer = requests.post(f"{servers.url}/upload", data=bundle, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    job = assert_stored(servers, answer.json()["job_id"], content)
    assert job.name == "b.tar"
    assert job.source.startswith("s3://")
    for instance in servers.instances:
        assert state_of(instance.url, job.job_id)["task_percent"] == "100.00000"
        assert requests.get(f"{instance.url}/healthz", timeout=PATIENCE).json() == {"status": "ok"}
        listed = requests.get(f"{instance.url}/jobs", timeout=PATIENCE).json()
        assert job.job_id in [other["job_id"] for other in listed]


def test_a_compressed_bundle_that_is_bad_fails_by_its_name(servers: SeveralServers) -> None:
    headers = {"Content-Type": "application/gzip", "Content-Disposition": 'attachment; filename="bad.tgz"'}
    answer = requests.post(f"{servers.url}/upload", data=b"\x1f\x8b" + bytes(600), headers=headers, timeout=PATIENCE)
    job = servers.settled(answer.json()["job_id"])
    assert job.has_failed
    assert "bad.tgz" in job.exception
    assert "s3:" not in job.exception
    name = job.source.rpartition("/")[2]
    assert any(key.startswith(name) for key in servers.objects())


def test_small_uploads_are_run_at_once_and_of_those_that_are_packed_one_at_a_time(
    servers: SeveralServers, tmp_path: Path
) -> None:
    assert isinstance(servers.settings.catalog, PostgresUrl)
    first, content = bundle_of(tmp_path, 100)
    assert_stored(servers, sent(servers, first), content)  # the catalogue is there
    plain, packed = ([bundle_of(tmp_path, 100) for _ in range(6)] for _ in "ab")
    with psycopg.connect(servers.settings.catalog.text) as connection:
        connection.execute("LOCK TABLE Transactions IN EXCLUSIVE MODE")
        at_work = [sent(servers, gzip.compress(bundle)) for bundle, _ in packed]
        at_work += [sent(servers, bundle) for bundle, _ in plain]
        jobs = dict.fromkeys(at_work, False)

        def are_stored() -> list[int]:
            jobs.update({job.job_id: job.reservation is not None for job in servers.jobs() if job.job_id in jobs})
            return [job_id for job_id in jobs if jobs[job_id]]

        until(lambda: {*at_work[6:]} <= {*are_stored()})
        assert len(are_stored()) <= 6 + len(servers.instances)
    for job_id, (_, content) in zip(at_work, [*packed, *plain], strict=True):
        assert_stored(servers, job_id, content)


def test_any_server_takes_any_piece(servers: SeveralServers, tmp_path: Path) -> None:
    bundle, content = bundle_of(tmp_path, 300_000)
    said = {"Upload-Metadata": f"filename {b64encode(b'a.tar').decode()}"}
    path, at = create(servers.url, None, said), 0
    for piece in (bundle[:1], bundle[1:50_000], bundle[50_000:200_000]):
        bad = patch(servers.url + path, at, piece, checksum(piece + b"x"))
        assert (bad.status_code, offset(servers.url + path)) == (460, at)
        answer = patch(servers.url + path, at, piece, checksum(piece, "sha256"))
        assert answer.status_code == 204, answer.text
        at += len(piece)
        assert [offset(instance.url + path) for instance in servers.instances] == [at, at]
    assert patch(servers.url + path, 1, b"x").status_code == 409
    last = patch(servers.url + path, at, bundle[at:], {"Upload-Length": str(len(bundle))})
    assert last.status_code == 204, last.text
    job = assert_stored(servers, last.headers["Ingest-Job-Id"], content)
    assert job.name == "a.tar"
    for instance in servers.instances:
        again = requests.head(instance.url + path, headers=V, timeout=PATIENCE)
        assert again.headers["Ingest-Job-Id"] == str(job.job_id)
        assert requests.delete(instance.url + path, headers=V, timeout=PATIENCE).status_code == 403


def test_an_upload_that_is_ended_at_one_server_is_gone_at_all(servers: SeveralServers) -> None:
    one, two = servers.instances
    path = create(one.url, 10)
    assert patch(two.url + path, 0, b"abc").status_code == 204
    before = servers.objects()
    assert requests.delete(one.url + path, headers=V, timeout=PATIENCE).status_code == 204
    assert requests.head(two.url + path, headers=V, timeout=PATIENCE).status_code == 404
    assert len(before - servers.objects()) == 1


def test_of_parts_one_job_is_made_however_many_ask_for_it_at_once(servers: SeveralServers, tmp_path: Path) -> None:
    bundle, content = bundle_of(tmp_path, 400_000)
    pieces = bundle[:100_000], bundle[100_000:]
    parts = [create(servers.url, len(piece), {"Upload-Concat": "partial"}) for piece in pieces]
    for path, piece in zip(parts, pieces, strict=True):
        assert patch(servers.url + path, 0, piece).status_code == 204
    said = {**V, "Upload-Concat": f"final;{' '.join(parts)}"}

    def ask(number: int) -> requests.Response:
        instance = servers.instances[number % 2]
        return requests.post(f"{instance.url}/files", headers=said, timeout=PATIENCE)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    assert {answer.status_code for answer in answers} <= {201, 423}
    answer = ask(0)
    assert answer.status_code == 201
    ids = {answer.headers["Ingest-Job-Id"] for answer in answers if answer.status_code == 201}
    assert ids <= {answer.headers["Ingest-Job-Id"]}
    assert_stored(servers, answer.headers["Ingest-Job-Id"], content)
    assert all(offset(servers.url + path) == len(piece) for path, piece in zip(parts, pieces, strict=True))


def test_an_upload_outlives_the_server_that_is_killed_in_its_midst(servers: SeveralServers, tmp_path: Path) -> None:
    bundle, content = bundle_of(tmp_path, 10 << 20)
    one, two = servers.instances
    path = create(one.url, len(bundle))
    with begun(one, path, 0, len(bundle), bundle[: 9 << 20]):
        until(lambda: offset(two.url + path) > 0)
        one.kill()
    at = offset(two.url + path)
    assert at >= 8 << 20
    assert bundle[:at] == whole(servers, path)[:at]
    answer = patch(servers.url + path, at, bundle[at:])
    assert answer.status_code == 204, answer.text
    assert_stored(servers, answer.headers["Ingest-Job-Id"], content, after_a_death=True)
    one.start()
    assert requests.head(one.url + path, headers=V, timeout=PATIENCE).headers["Ingest-Job-Id"]


def whole(servers: SeveralServers, path: str) -> bytes:
    """What is there of an upload."""
    pieces = servers.spool.rows.pieces(f"resumable-{path.rpartition('/')[2]}.tar")
    return b"".join(bytes(servers.spool.read(piece)) for piece in pieces)


def test_a_server_that_is_frozen_in_the_midst_changes_nothing_when_it_thaws(
    servers: SeveralServers, tmp_path: Path
) -> None:
    bundle, content = bundle_of(tmp_path, 100_000)
    one, two = servers.instances
    path = create(one.url, len(bundle))
    assert patch(two.url + path, 0, bundle[:1000]).status_code == 204
    before = row(servers, path).fence
    with begun(one, path, 1000, len(bundle) - 1000, os.urandom(50_000)) as frozen:
        until(lambda: row(servers, path).fence > before)
        one.freeze()
        answer = patch(two.url + path, 1000, bundle[1000:60_000])
        assert answer.status_code == 204, answer.text
        frozen.sendall(os.urandom(len(bundle) - 51_000))
        one.thaw()
        assert frozen.recv(100).startswith(b"HTTP/1.1 423 ")
    assert offset(one.url + path) == 60_000
    answer = patch(one.url + path, 60_000, bundle[60_000:])
    assert answer.status_code == 204, answer.text
    assert_stored(servers, answer.headers["Ingest-Job-Id"], content)


def row(servers: SeveralServers, path: str) -> Row:
    found = servers.spool.rows.find(f"resumable-{path.rpartition('/')[2]}.tar")
    assert found is not None
    return found


def test_own_client_gets_through_lost_answers_and_deaths(
    servers: SeveralServers, tmp_path: Path, command: Command
) -> None:
    content = os.urandom(6 << 20)
    bundle = write_bundle(tmp_path / "lossy.tar", {"data/a": content})
    servers.balancer.loses = lambda _method, _path, number: number % 3 == 0
    try:
        before, said = len(servers.balancer.passed), tmp_path / "said"
        with said.open("wb") as output:
            running = command.start("upload", "--to", servers.url, bundle, output=output)
        one = servers.instances[0]
        until(lambda: any(method == "PATCH" for method, _, _ in servers.balancer.passed[before:]))
        one.kill()
        one.start()
        assert running.wait(PATIENCE) == 0, said.read_text()
    finally:
        servers.balancer.loses = lambda _method, _path, _number: False
    (job,) = [job for job in servers.jobs() if job.name == "lossy.tar"]
    assert_stored(servers, job.job_id, content, after_a_death=True)


def test_what_one_server_shows_is_asked_of_the_other_and_told_to_all(servers: SeveralServers) -> None:
    one, two = servers.instances
    headers = {"Content-Type": "application/octet-stream"}
    bad = [requests.post(f"{servers.url}/upload", data=b"bad", headers=headers, timeout=PATIENCE) for _ in range(2)]
    ids = [servers.settled(answer.json()["job_id"]).job_id for answer in bad]
    page = f"/jobs/{ids[0]}"
    form = requests.get(one.url + page, headers={"Accept": "text/html"}, timeout=PATIENCE).text
    token = re.search(r'name="token" value="(\w+)"', form)
    assert token is not None, form
    said = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}

    def discarded(token: str) -> int:
        url, data = f"{two.url}{page}/discard", {"token": token}
        return requests.post(url, data, headers=said, allow_redirects=False, timeout=PATIENCE).status_code

    with requests.get(f"{one.url}/live", headers={"Accept": "text/event-stream"}, stream=True, timeout=30) as live:
        told = live.iter_lines(chunk_size=1)
        next(told)
        assert [discarded(given) for given in ("0" * 64, token[1])] == [403, 303]
        assert any(f'"id": {ids[0]},'.encode() in line for line in told)
    first = requests.get(f"{one.url}/jobs?count=1&envelope=yes", timeout=PATIENCE).json()
    second = requests.get(two.url + first["next"], timeout=PATIENCE).json()
    assert [job["job_id"] for answer in (first, second) for job in answer["jobs"]] == sorted(ids, reverse=True)


def test_a_cart_that_one_server_made_is_known_to_the_other(servers: SeveralServers, tmp_path: Path) -> None:
    bundle, content = bundle_of(tmp_path, 3000)
    headers = {"Content-Type": "application/octet-stream"}
    answer = requests.post(f"{servers.url}/upload", data=bundle, headers=headers, timeout=PATIENCE)
    job = assert_stored(servers, answer.json()["job_id"], content)
    with closing(factory.catalog(servers.settings)) as catalog:
        (file,) = catalog.files(job.job_id)
    wanted = {"id": file.file_id, "path": "a", "hashtype": file.hashtype, "hashsum": file.hashsum}
    one, two = (f"{instance.url}/{{}}".format for instance in servers.instances)
    cart, other = uuid4(), uuid4()
    for name in (cart, other):
        made = requests.post(one(name), json={"fileids": [wanted]}, timeout=PATIENCE)
        assert made.status_code == 201, made.text
    assert requests.head(two(cart), timeout=PATIENCE).headers["X-Pacifica-Status"] == "ready"
    assert content in requests.get(two(cart), timeout=PATIENCE).content
    assert requests.delete(two(cart), timeout=PATIENCE).status_code == 200
    assert requests.head(one(cart), timeout=PATIENCE).status_code == 404
    assert requests.head(two(other), timeout=PATIENCE).status_code == 204


def test_what_is_left_is_pruned_and_nothing_that_lives_is_touched(servers: SeveralServers) -> None:
    prune(timedelta(days=90), remove=True, settings=servers.settings)  # what is left by the deaths of other tests
    one, two = servers.instances
    under_way = create(one.url, 20 << 20)
    expired = create(two.url, 10)
    assert patch(two.url + expired, 0, b"abc").status_code == 204
    servers.age(expired, 8 * 86400)
    orphan = f"resumable-{expired.rpartition('/')[2]}.tar/1-orphan"
    servers.spool.bucket.put(orphan, b"x", {}, "put", create=False)
    with begun(one, under_way, 0, 20 << 20, bytes(9 << 20)):
        until(lambda: offset(two.url + under_way) > 0)
        pruned = prune(timedelta(days=90), remove=True, settings=servers.settings)
        assert pruned.left == [servers.spool.source_of(f"resumable-{expired.rpartition('/')[2]}.tar")]
        assert pruned.objects == [orphan]
        assert requests.head(one.url + expired, headers=V, timeout=PATIENCE).status_code == 404
        assert offset(two.url + under_way) == len(whole(servers, under_way)) > 0
    for check in diagnose(settings=servers.settings):
        assert check.ok, check


def test_while_the_database_is_away_nothing_is_accepted_and_nothing_lost(
    servers: SeveralServers, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    bundle, content = bundle_of(tmp_path, 50_000)
    path = create(servers.url, len(bundle))
    assert patch(servers.url + path, 0, bundle[:10_000]).status_code == 204
    postgres_server.stop()
    try:
        answer = patch(servers.url + path, 10_000, bundle[10_000:])
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert [healthz(instance) for instance in servers.instances] == [503, 503]
    finally:
        postgres_server.start()
    until(lambda: [healthz(instance) for instance in servers.instances] == [200, 200])
    at = offset(servers.url + path)
    assert at == 10_000
    answer = patch(servers.url + path, at, bundle[at:])
    assert answer.status_code == 204, answer.text
    assert_stored(servers, answer.headers["Ingest-Job-Id"], content)


def healthz(instance: Instance) -> int:
    return requests.head(f"{instance.url}/healthz", timeout=PATIENCE).status_code


@contextmanager
def held(storage: Between, method: str, name: str) -> Iterator[tuple[set[str], Callable[[], None]]]:
    """For as long as the block lasts, or until it is called what is yielded beside them, storage does not answer
    requests of this method whose targets have the name in them; these targets."""
    targets, released = set[str](), threading.Event()

    def decide(asked: str, target: str) -> str | None:
        if asked == method and name in target:
            targets.add(target)
            released.wait(2 * PATIENCE)
        return None

    usual, storage.decide = storage.decide, decide
    try:
        yield targets, released.set
    finally:
        released.set()
        storage.decide = usual


def test_who_gives_up_asking_whether_a_server_is_well_leaves_nothing_behind(
    servers: SeveralServers, storage: Between
) -> None:
    one, _ = servers.instances
    with held(storage, "PUT", ".health") as (checks, release):
        for _ in range(10):
            with pytest.raises(requests.Timeout):
                requests.get(f"{one.url}/healthz", timeout=(PATIENCE, 0.2))
        until(lambda: checks)
        release()
        assert healthz(one) == 200
    assert len(checks) <= 2
    assert not any(".health" in key for key in servers.objects())


def test_a_server_that_is_busy_is_well(servers: SeveralServers, storage: Between) -> None:
    one, _ = servers.instances
    paths = [create(one.url, 20) for _ in range(WRITERS)]
    with ThreadPoolExecutor(len(paths)) as clients:
        with held(storage, "PUT", "resumable-") as (pieces, _):
            sending = [clients.submit(patch, one.url + path, 0, bytes(10)) for path in paths]
            until(lambda: len(pieces) == len(paths))
            assert healthz(one) == 200
        assert [answer.result().status_code for answer in sending] == [204] * len(paths)
    for path in paths:
        assert requests.delete(one.url + path, headers=V, timeout=PATIENCE).status_code == 204


def test_whether_a_server_is_well_is_asked_behind_no_other_request(
    servers: SeveralServers, postgres_server: PostgresServer
) -> None:
    one, _ = servers.instances
    database = servers.settings.database
    assert isinstance(database, PostgresUrl)
    with ThreadPoolExecutor(1) as clients:
        with psycopg.connect(database.text) as connection:
            connection.execute("LOCK TABLE imported IN ACCESS EXCLUSIVE MODE")
            state = clients.submit(requests.get, f"{one.url}/get_state?job_id=123456789", timeout=2 * PATIENCE)
            until(lambda: postgres_server.waiting_for_locks(database))
            assert healthz(one) == 200
        assert state.result().status_code == 404


def test_a_server_begins_though_storage_does_not_answer(servers: SeveralServers, storage: Between) -> None:
    one, two = servers.instances
    paths = [create(two.url, 10) for _ in range(3)]
    for path in paths:
        assert patch(two.url + path, 0, b"abc").status_code == 204
        servers.age(path, 8 * 86400)
    one.kill()
    with held(storage, "POST", "delete") as (deletions, _):
        one.start()
        until(lambda: deletions)
        for asked in ("/", "/jobs"):
            assert requests.get(one.url + asked, timeout=PATIENCE).status_code == 200
    names = [f"resumable-{path.rpartition('/')[2]}.tar" for path in paths]
    until(lambda: not servers.spool.rows.there(names))


def test_storage_that_fails_now_and_then_loses_no_upload(
    servers: SeveralServers, storage: Between, tmp_path: Path
) -> None:
    bundles = [bundle_of(tmp_path, 30_000) for _ in range(6)]
    usual, storage.decide = storage.decide, at_random(20)
    try:
        ids = [sent_in_pieces(servers, bundle) for bundle, _ in bundles]
        for job_id, (_, content) in zip(ids, bundles, strict=True):
            assert_stored(servers, job_id, content)
    finally:
        storage.decide = usual


def sent_in_pieces(servers: SeveralServers, bundle: bytes) -> str:
    """The job of a bundle that is sent in three pieces, each over again until it has come."""
    path, piece = create(servers.url, len(bundle)), -(-len(bundle) // 3)
    answers: list[requests.Response] = []

    def came() -> bool:
        at = offset(servers.url + path)
        answers.append(patch(servers.url + path, at, bundle[at : at + piece]))
        return "Ingest-Job-Id" in answers[-1].headers

    until(came)
    return answers[-1].headers["Ingest-Job-Id"]


@pytest.mark.parametrize("with_checksum", [False, True])
def test_tuspy_gets_through_lost_answers_and_deaths(
    servers: SeveralServers, tmp_path: Path, with_checksum: bool
) -> None:
    client = pytest.importorskip("tusclient.client", reason="tuspy is not installed").TusClient(f"{servers.url}/files")
    bundle, content = bundle_of(tmp_path, 1_000_000)
    given = {"file_stream": io.BytesIO(bundle), "chunk_size": 100_000, "upload_checksum": with_checksum}
    uploader = client.uploader(**given, retries=100, retry_delay=0.05)
    uploader.upload(stop_at=100_000)
    servers.balancer.loses = lambda _method, _path, number: number % 3 == 0
    one = servers.instances[0]
    try:
        with ThreadPoolExecutor() as pool:
            uploading = pool.submit(uploader.upload)
            one.kill()
            one.start()
            uploading.result()
    finally:
        servers.balancer.loses = lambda _method, _path, _number: False
    ended = requests.head(uploader.url, headers=V, timeout=PATIENCE)
    assert_stored(servers, ended.headers["Ingest-Job-Id"], content, after_a_death=True)

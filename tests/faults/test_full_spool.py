"""A server whose spool is full: who uploads is told to come back, and nothing is left over."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from ingest_cli.settings import load_settings

from ..support.bundles import write_bundle
from ..support.serving import OCTETS, PATIENCE, Server
from ..support.site import Site
from ..support.tus import PARTIAL, PIECE, append, checksum, create, file_of, join, offset
from ..support.tus import V as TUS
from ..support.waiting import until

# Disks that are filled by real uploads.
pytestmark = pytest.mark.sweep

KB = 1000


@pytest.fixture
def small_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> Iterator[Path]:
    """The spool is a disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2000k", "none", disk], capture_output=True).returncode != 0:
        pytest.skip("a disk cannot be mounted here")
    monkeypatch.setenv("VOLUME_PATH", str(disk / "spool"))
    site.settings = load_settings()
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def post(server: Server, body: bytes, *, chunked: bool) -> requests.Response:
    given = iter([body[at : at + 50 * KB] for at in range(0, len(body), 50 * KB)]) if chunked else body
    return requests.post(f"{server.url}/upload", data=given, headers=OCTETS, timeout=PATIENCE)


def assert_no_room(answer: requests.Response) -> None:
    assert answer.status_code in (503, 507), answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["message"]


@pytest.mark.parametrize("reserve", [0, 500 * KB])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_does_not_fit_leaves_nothing(
    environment: Path, site: Site, small_spool: Path, tmp_path: Path, reserve: int, chunked: bool
) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {"data/x": os.urandom(800 * KB)}).read_bytes()
    with Server(environment, "--reserve", reserve) as server:
        for _ in range(3):
            assert_no_room(post(server, bundle * 3, chunked=chunked))
            assert list(site.settings.spool.iterdir()) == []
        assert requests.get(f"{server.url}/healthz", timeout=PATIENCE).ok
        answer = post(server, bundle, chunked=chunked)
        assert answer.status_code == 200
        assert server.settled(answer.json()["job_id"])["state"] == "OK"
        until(lambda: list(site.settings.spool.iterdir()) == [])


def test_a_reserve_that_is_not_free_any_more(environment: Path, small_spool: Path) -> None:
    with Server(environment, "--reserve", 5000 * KB) as server:
        answer = post(server, bytes(KB), chunked=False)
        assert_no_room(answer)
        assert answer.json()["message"] == "no room for 1.0 kB: the spool has room for 0 bytes"


def test_of_many_at_once_those_are_taken_that_fit(
    environment: Path, site: Site, small_spool: Path, tmp_path: Path
) -> None:
    files = {f"data/{number}": os.urandom(600 * KB) for number in range(8)}
    bundles = [
        write_bundle(tmp_path / f"{name[5:]}.tar", {name: content}).read_bytes() for name, content in files.items()
    ]
    with Server(environment) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda bundle: post(server, bundle, chunked=False), bundles))
        taken = [answer.json()["job_id"] for answer in answers if answer.status_code == 200]
        assert taken
        for answer in answers:
            if answer.status_code != 200:
                assert_no_room(answer)
        assert all(server.settled(job_id)["state"] == "OK" for job_id in taken)
        until(lambda: list(site.settings.spool.iterdir()) == [])
        answers = [post(server, bundle, chunked=False) for bundle in bundles if until_there_is_room(small_spool)]
        assert [answer.status_code for answer in answers] == [200] * len(bundles)
        for answer in answers:
            server.settled(answer.json()["job_id"])
    assert site.contents() == files


def until_there_is_room(disk: Path) -> bool:
    until(lambda: os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > 1000 * KB)
    return True


def test_a_resumable_upload_waits_for_room(environment: Path, site: Site, small_spool: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {"data/x": os.urandom(1500 * KB)}).read_bytes()
    with Server(environment) as server:
        url = create(server, len(bundle))
        (small_spool / "ballast").write_bytes(bytes(1000 * KB))
        assert_no_room(append(url, 0, bundle))
        at = offset(url)
        (small_spool / "ballast").unlink()
        answer = append(url, at, bundle[at:])
        assert answer.status_code == 204
        assert server.settled(int(answer.headers["Ingest-Job-Id"]))["state"] == "OK"


def ended(server: Server, answer: requests.Response) -> bool:
    return bool(server.settled(int(answer.headers["Ingest-Job-Id"]))["complete"])


@pytest.mark.parametrize("length", [{"Upload-Length": "3000000"}, {"Upload-Defer-Length": "1"}])
def test_what_comes_with_a_creation_leaves_nothing_where_it_does_not_fit(
    environment: Path, site: Site, small_spool: Path, length: dict[str, str]
) -> None:
    with Server(environment) as server:
        for _ in range(3):
            assert_no_room(
                requests.post(
                    f"{server.url}/files", data=bytes(2500 * KB), headers={**PIECE, **length}, timeout=PATIENCE
                )
            )
            assert list(site.settings.spool.iterdir()) == []


def test_a_length_that_is_said_later_needs_room(environment: Path, small_spool: Path) -> None:
    with Server(environment) as server:
        answer = requests.post(f"{server.url}/files", headers={**TUS, "Upload-Defer-Length": "1"}, timeout=PATIENCE)
        url = server.url + answer.headers["Location"]
        assert append(url, 0, bytes(KB)).headers["Upload-Offset"] == str(KB)
        assert_no_room(append(url, KB, bytes(KB), {"Upload-Length": str(3000 * KB)}))
        assert append(url, KB, bytes(KB), {"Upload-Length": str(1500 * KB)}).headers["Upload-Offset"] == str(2 * KB)


def test_a_piece_with_a_checksum_needs_room_once(
    environment: Path, site: Site, small_spool: Path, tmp_path: Path
) -> None:
    """Where there is none for all of it, nothing of it stays."""
    bundle = write_bundle(tmp_path / "b.tar", {"data/x": os.urandom(1200 * KB)}).read_bytes()
    with Server(environment) as server:
        url = create(server, len(bundle))
        filler = small_spool / "filler"
        filler.write_bytes(bytes(1000 * KB))
        assert_no_room(append(url, 0, bundle, checksum(bundle)))
        assert offset(url) == 0
        assert file_of(site, url).stat().st_size == 0
        filler.unlink()
        assert ended(server, append(url, 0, bundle, checksum(bundle)))


def test_parts_that_cannot_be_joined_for_want_of_room_stay(
    environment: Path, site: Site, small_spool: Path, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {"data/x": os.urandom(800 * KB)}).read_bytes()
    with Server(environment) as server:
        urls = []
        for piece in (bundle[: 300 * KB], bundle[300 * KB :]):
            urls.append(create(server, len(piece), PARTIAL))
            append(urls[-1], 0, piece)
        (small_spool / "ballast").write_bytes(bytes(500 * KB))
        assert_no_room(join(server, urls))
        assert [offset(url) for url in urls] == [300 * KB, len(bundle) - 300 * KB]
        assert len(list(site.settings.spool.glob("*.tar"))) == 2
        (small_spool / "ballast").unlink()
        assert ended(server, join(server, urls))

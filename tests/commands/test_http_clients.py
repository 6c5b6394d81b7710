"""``ingest serve`` and clients that are old, terse or cautious: each is answered as HTTP has it."""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from ingest_cli.server.routes import BUNDLE_TYPES

from ..support.bundles import write_bundle
from ..support.serving import PATIENCE, Server, read_answer, serving_apart
from ..support.site import Site

GETS = ["/", "/get_state?job_id=1", "/jobs", "/jobs/1", "/healthz", "/metrics", "/openapi.json", "/nowhere"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Site]]:
    """One server, and its site, which has one complete job."""
    folder = tmp_path_factory.mktemp("shared")
    made = partial(Site, folder / "data" / "pacifica-ingest-cli")
    with serving_apart(folder, "--move-from", folder, made=made) as (server, site):
        assert server.settled(server.upload(write_bundle(folder / "b.tar"))["job_id"])["state"] == "OK"
        yield server, site


def until_closed(server: Server, request: bytes) -> bytes:
    """All that the server answers to a request until it closes the connection."""
    with server.connected() as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# Which server is meant.


@pytest.mark.parametrize("path", ["/healthz", "/get_state?job_id=1", "/"])
@pytest.mark.parametrize("headers", ["", "Connection: keep-alive\r\n", "User-Agent: curl/7.12\r\nAccept: */*\r\n"])
def test_http_1_0_knows_no_host(shared: tuple[Server, Site], path: str, headers: str) -> None:
    answer = until_closed(shared[0], f"GET {path} HTTP/1.0\r\n{headers}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding" not in answer.lower()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "10.1.2.3"}, 200),
        ({"Host": "10.1.2.3:8066"}, 200),
        ({"Host": "[fd00::1]:8066"}, 200),
        ({"Host": "LOCALHOST."}, 200),
        ({"Host": "10.1.2.3.evil.example"}, 400),
        ({"Host": "10.1.2.3@evil.example"}, 400),
        ({"Host": "10.1.2.3", "Origin": "http://10.1.2.3"}, 200),
        ({"Host": "10.1.2.3", "Origin": "http://10.1.2.4"}, 403),
        ({"Host": "10.1.2.3", "Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 400),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_an_address_is_no_name_of_another_site(
    shared: tuple[Server, Site], headers: dict[str, str], status: int
) -> None:
    assert requests.get(f"{shared[0].url}/healthz", headers=headers, timeout=PATIENCE).status_code == status


def test_only_http_1_0_may_leave_the_host_out(shared: tuple[Server, Site]) -> None:
    server, _ = shared
    assert until_closed(server, b"GET / HTTP/1.0\r\nOrigin: http://evil.example\r\n\r\n").split()[1] == b"403"
    assert until_closed(server, b"GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n").split()[1] == b"400"
    assert until_closed(server, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").split()[1] == b"400"


# How it is asked.


@pytest.mark.parametrize("path", GETS)
def test_head_is_get_without_a_body(shared: tuple[Server, Site], path: str) -> None:
    server, _ = shared
    by_get = requests.get(server.url + path, timeout=PATIENCE)
    head = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    answer = until_closed(server, head * 2 + head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answer.endswith(b"\r\n\r\n")
    heads = answer.split(b"\r\n\r\n")[:-1]
    assert len(heads) == 3, "there is no body between them"
    for found in heads:
        assert int(found.split()[1]) == by_get.status_code
        length = re.search(rb"(?i)content-length: (\d+)", found)
        assert length is not None
        assert path == "/metrics" or int(length[1]) == len(by_get.content)


@pytest.mark.parametrize("path", ["/jobs", "/jobs/1", "/get_state", "/healthz", "/openapi.json"])
def test_a_slash_at_the_end_is_no_other_path(shared: tuple[Server, Site], path: str) -> None:
    for slashes in ("/", "//"):
        url = f"{shared[0].url}{path}{slashes}?job_id=1"
        assert requests.get(url, timeout=PATIENCE, allow_redirects=False).status_code == 200


def test_a_bundle_is_asked_for_where_a_client_waits_for_that(shared: tuple[Server, Site], tmp_path: Path) -> None:
    server, _ = shared
    content = write_bundle(tmp_path / "b.tar").read_bytes()
    head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(content)}\r\n"
    with server.connected() as connection:
        connection.sendall(head.encode() + b"\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(content)
        assert read_answer(connection)[0] == 200
    with server.connected() as connection:
        connection.sendall(head.encode() + b"Content-Type: text/html\r\n\r\n")
        assert read_answer(connection)[0] == 415, "before the body is sent"
    answer = until_closed(server, head.replace("1.1", "1.0").encode() + b"\r\n" + content)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


# What it is called.


def packed(content: bytes, name: str) -> bytes:
    packers: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress}
    packers |= {"xz": lzma.compress, "deflate": zlib.compress, "zlib": zlib.compress}
    return next((pack(content) for key, pack in packers.items() if key in name), content)


def upload(server: Server, body: bytes, headers: dict[str, str]) -> requests.Response:
    """POST a body under these headers and no others of requests' own."""
    request = requests.Request("POST", f"{server.url}/upload", headers=headers, data=body).prepare()
    with requests.Session() as session:
        return session.send(request, timeout=PATIENCE)


@pytest.mark.sweep
@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "application/x-tar; charset=binary",
        'APPLICATION/GZIP ; name="a.tar.gz"; x=";"',
        *("application/x-xz", "application/x-bzip2", "application/x-gtar", "application/zstd", "application/x-tar"),
        *("application/gzip", "application/x-gzip", "application/x-compressed-tar", "application/octet-stream"),
    ],
)
def test_a_bundle_has_many_names(shared: tuple[Server, Site], tmp_path: Path, given: str | None) -> None:
    server, site = shared
    content = packed(write_bundle(tmp_path / "b.tar", {"data/x": repr(given).encode()}).read_bytes(), given or "")
    answer = upload(server, content, {} if given is None else {"Content-Type": given})
    assert answer.status_code == 200, answer.text
    assert server.settled(answer.json()["job_id"])["state"] == "OK"
    assert site.contents()["data/x"] == repr(given).encode()


@pytest.mark.parametrize("kind", ["text/html", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_a_form_is_no_bundle(shared: tuple[Server, Site], kind: str) -> None:
    answer = upload(shared[0], b"x=y", {"Content-Type": kind})
    assert (answer.status_code, BUNDLE_TYPES[0] in answer.json()["message"]) == (415, True)


@pytest.mark.sweep
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZip", "deflate", "bzip2", "xz", "identity", ""])
def test_a_bundle_may_be_packed_on_its_way(shared: tuple[Server, Site], tmp_path: Path, coding: str) -> None:
    server, site = shared
    content = write_bundle(tmp_path / "b.tar", {"data/x": coding.encode()}).read_bytes()
    headers = {"Content-Type": "application/x-tar", "Content-Encoding": coding}
    answer = upload(server, packed(content, coding.lower()), headers)
    assert answer.status_code == 200, answer.text
    assert server.settled(answer.json()["job_id"])["state"] == "OK"
    assert site.contents()["data/x"] == coding.encode()


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "x" * 9000])
def test_a_coding_that_is_unknown_is_said(shared: tuple[Server, Site], coding: str) -> None:
    answer = upload(shared[0], b"x", {"Content-Encoding": coding})
    assert (answer.status_code, "Content-Encoding" in answer.json()["message"]) == (415, True)
    assert "gzip" in answer.headers["Accept-Encoding"]
    assert len(answer.text) < 1000


def test_a_document_is_not_packed(shared: tuple[Server, Site]) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8", "Content-Encoding": "gzip"}
    answer = requests.post(f"{shared[0].url}/move", data=b"[]", headers=headers, timeout=PATIENCE)
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "identity")

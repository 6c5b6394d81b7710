"""What tus 1.0.0 has beyond its core: expiration, checksums, lengths to come, concatenation, other methods."""

import os
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from ingest_cli.jobs.spool import EMPTY_UNTOUCHED, SpoolKind, record_of

from ..support.bundles import FILES, write_bundle
from ..support.environment import scrub
from ..support.forks import FORKS
from ..support.serving import PATIENCE, Server
from ..support.site import Site
from ..support.tus import PARTIAL, PIECE, V, append, begin, checksum, create, file_of, head, is_locked, join, offset
from ..support.waiting import until

EXTENSIONS = {
    *("creation", "creation-with-upload", "creation-defer-length", "checksum", "concatenation", "expiration"),
    "termination",
}
WEEK = SpoolKind.RESUMABLE.untouched.total_seconds()
OTHERS = {"X-Http-Authed-User": "mallory"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Site]]:
    """One for all that needs no server of its own; clients say who they are."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        scrub(patch, folder)
        patch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
        site = Site(folder / "data" / "pacifica-ingest-cli")
        server = stack.enter_context(Server(folder, "--max-upload", 1_000_000))
        patch.undo()
        yield server, site


@pytest.fixture
def server(shared: tuple[Server, Site]) -> Server:
    return shared[0]


@pytest.fixture
def spool(shared: tuple[Server, Site]) -> Site:
    return shared[1]


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """A bundle that no other test has."""
    return write_bundle(tmp_path / "b.tar", {"data/a": os.urandom(20), **FILES}).read_bytes()


def ask(method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
    return requests.request(method, url, headers=headers, data=body, timeout=PATIENCE, allow_redirects=False)


def post(server: Server, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
    return ask("POST", f"{server.url}/files", {**V, **headers}, body)


def assert_complete(server: Server, site: Site, answer: requests.Response, content: bytes) -> None:
    """The upload of a bundle has become a job, which is complete."""
    assert server.settled(int(answer.headers["Ingest-Job-Id"]))["state"] == "OK"
    assert content.startswith(b"data/a"), "as `content` is made"
    assert content[512:532] in site.contents().values()


def age(site: Site, url: str, seconds: float) -> None:
    path = file_of(site, url)
    for file in (path, record_of(path)):
        os.utime(file, (time.time() - seconds,) * 2)


# What every request and answer has.


@pytest.mark.parametrize("path", ["/files", f"/files/{'0' * 32}"])
def test_what_is_spoken(server: Server, path: str) -> None:
    answer = ask("OPTIONS", server.url + path, {})
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert set(answer.headers["Tus-Extension"].split(",")) == EXTENSIONS
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5"
    assert answer.headers["Tus-Max-Size"] == "1000000"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("OPTIONS", "/files", {}, 204),
        ("POST", "/files", {**V, "Upload-Length": "1"}, 201),
        ("POST", "/files", {**V, "Upload-Length": "x"}, 400),
        ("POST", "/files", {"Upload-Length": "1"}, 412),
        ("POST", "/files", {**V, "Upload-Length": "9" * 17}, 413),
        ("HEAD", f"/files/{'0' * 32}", V, 404),
        ("PATCH", f"/files/{'0' * 32}", V, 415),
        ("GET", "/files", V, 405),
    ],
)
def test_every_answer_names_the_version(
    server: Server, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = ask(method, server.url + path, headers)
    assert answer.status_code == status
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_method_by_another_name(server: Server) -> None:
    """Some clients can send no other method than POST, or may have one in mind that a proxy does not know."""

    def override(sent: str, meant: str, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
        return ask(sent, url, {**headers, "X-HTTP-Method-Override": meant}, body)

    url = f"{server.url}/files"
    answer = override("PUT", "POST", {**V, "Upload-Length": "10"})
    assert answer.status_code == 201
    url = server.url + answer.headers["Location"]
    assert override("POST", "PATCH", {**PIECE, "Upload-Offset": "0"}, b"12345").headers["Upload-Offset"] == "5"
    assert override("DELETE", "PATCH", {**PIECE, "Upload-Offset": "5"}, b"678").headers["Upload-Offset"] == "8"
    assert override("POST", "HEAD", V).headers["Upload-Offset"] == "8"
    assert override("POST", "OPTIONS", {}).status_code == 204
    assert override("PATCH", "HEAD", {**PIECE, "Upload-Offset": "8"}, b"90").headers["Upload-Offset"] == "8"
    wrong = override("PATCH", "BREW", V)
    assert wrong.status_code == 405
    assert set(wrong.headers["Allow"].split(", ")) == {"OPTIONS", "HEAD", "PATCH", "DELETE"}
    assert override("POST", "DELETE", V).status_code == 204
    assert head(url).status_code == 404


def test_a_slash_at_the_end_leads_nowhere_else(server: Server) -> None:
    answer = ask("POST", f"{server.url}/files/", {**V, "Upload-Length": "10"})
    assert answer.status_code == 201
    assert append(f"{server.url}{answer.headers['Location']}/", 0, b"x").headers["Upload-Offset"] == "1"


def test_another_user_has_no_part_in_an_upload(server: Server) -> None:
    url = create(server, 10)
    assert ask("HEAD", url, {**V, **OTHERS}).status_code == 403
    assert append(url, 0, b"x", OTHERS).status_code == 403
    assert ask("DELETE", url, {**V, **OTHERS}).status_code == 403
    assert offset(url) == 0


# What a client says of an upload when it creates it.


@pytest.mark.parametrize("metadata", ["", "filename bW9uZGF5LnRhcg==", "a YQ==,b,c Yw==", "a YQ==, b "])
def test_metadata_is_told_again(server: Server, metadata: str) -> None:
    url = create(server, 10, {"Upload-Metadata": metadata})
    assert head(url).headers.get("Upload-Metadata", "") == metadata.strip()


@pytest.mark.parametrize("metadata", [",", "a b c", "a ?", "\xe9 YQ==", "a YQ==,,b", "a" * 10_000])
def test_metadata_that_is_malformed(server: Server, metadata: str) -> None:
    assert post(server, {"Upload-Length": "10", "Upload-Metadata": metadata}).status_code == 400


def test_a_bundle_that_comes_with_its_creation(server: Server, spool: Site, content: bytes) -> None:
    answer = post(server, {**PIECE, "Upload-Length": str(len(content))}, content)
    assert answer.status_code == 201
    assert answer.headers["Upload-Offset"] == str(len(content))
    assert_complete(server, spool, answer, content)


def test_the_beginning_comes_with_the_creation(server: Server, spool: Site, content: bytes) -> None:
    headers = {**PIECE, **checksum(content[:5000]), "Upload-Length": str(len(content))}
    answer = post(server, headers, content[:5000])
    assert answer.headers["Upload-Offset"] == "5000"
    assert "Ingest-Job-Id" not in answer.headers
    url = server.url + answer.headers["Location"]
    assert offset(url) == 5000
    assert_complete(server, spool, append(url, 5000, content[5000:]), content)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Upload-Length": "10"}, b"more than ten", 413),
        ({"Upload-Length": "10", **checksum(b"others")}, b"bytes", 460),
        ({"Upload-Length": "10", "Upload-Checksum": "sha1 x"}, b"bytes", 400),
        ({"Upload-Defer-Length": "1"}, bytes(1_000_001), 413),
    ],
)
def test_a_creation_whose_bytes_are_refused_leaves_nothing(
    server: Server, spool: Site, headers: dict[str, str], body: bytes, status: int
) -> None:
    before = set(spool.settings.spool.glob("*"))
    assert post(server, {**PIECE, **headers}, body).status_code == status
    assert set(spool.settings.spool.glob("*")) == before


def test_a_creation_that_breaks_leaves_nothing(environment: Path, site: Site) -> None:
    """Nobody was told its URL."""
    with Server(environment) as server:
        with server.connected() as connection:
            lines = [f"{name}: {value}" for name, value in {**PIECE, "Upload-Length": "100"}.items()]
            lines = ["POST /files HTTP/1.1", "Host: localhost", "Content-Length: 100", *lines, "", "some"]
            connection.sendall("\r\n".join(lines).encode())
            until(lambda: list(site.settings.spool.glob("resumable-*.json")))
        until(lambda: not list(site.settings.spool.iterdir()))


# A length that is not known at first.


def deferred(server: Server) -> str:
    answer = post(server, {"Upload-Defer-Length": "1"})
    assert answer.status_code == 201
    return server.url + answer.headers["Location"]


def test_a_length_that_comes_later(server: Server, spool: Site, content: bytes) -> None:
    url = deferred(server)
    assert head(url).headers["Upload-Defer-Length"] == "1"
    assert append(url, 0, content[:1000]).headers["Upload-Offset"] == "1000"
    assert "Upload-Length" not in head(url).headers
    length = {"Upload-Length": str(len(content))}
    assert append(url, 1000, content[1000:2000], length).headers["Upload-Offset"] == "2000"
    assert "Upload-Defer-Length" not in head(url).headers
    assert head(url).headers["Upload-Length"] == str(len(content))
    assert append(url, 2000, b"", {"Upload-Length": "5000"}).status_code == 400, "it is known by now"
    assert_complete(server, spool, append(url, 2000, content[2000:], length), content)


def test_the_end_is_known_when_all_is_there(server: Server, spool: Site, content: bytes) -> None:
    url = deferred(server)
    append(url, 0, content)
    assert offset(url) == len(content)
    assert_complete(server, spool, append(url, len(content), b"", {"Upload-Length": str(len(content))}), content)


def test_a_length_that_comes_later_and_cannot_be(server: Server) -> None:
    url = deferred(server)
    append(url, 0, b"12345")
    assert append(url, 5, b"6", {"Upload-Length": "4"}).status_code == 400
    assert append(url, 5, b"6", {"Upload-Length": "x"}).status_code == 400
    assert append(url, 5, b"6", {"Upload-Length": "1000001"}).status_code == 413
    assert append(url, 5, bytes(1_000_000)).status_code == 413
    assert offset(url) == 5
    assert append(url, 5, b"6", {"Upload-Length": "7"}).headers["Upload-Offset"] == "6"


@pytest.mark.parametrize("headers", [{"Upload-Defer-Length": "0"}, {"Upload-Defer-Length": "1", "Upload-Length": "1"}])
def test_a_length_that_is_neither(server: Server, headers: dict[str, str]) -> None:
    assert post(server, headers).status_code == 400


# Checksums.


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_piece_with_a_checksum(server: Server, spool: Site, algorithm: str) -> None:
    url = create(server, 100)
    answer = append(url, 0, b"others", checksum(b"bytes.", algorithm))
    assert answer.status_code == 460
    assert answer.json()["status"] == "460 Checksum Mismatch"
    assert offset(url) == 0
    assert append(url, 0, b"bytes.", checksum(b"bytes.", algorithm)).headers["Upload-Offset"] == "6"
    assert append(url, 6, b"others", checksum(b"bytes.", algorithm)).status_code == 460
    assert file_of(spool, url).read_bytes() == b"bytes."
    assert not list(spool.settings.spool.glob("received-*"))


@pytest.mark.parametrize("value", ["", "crc32 AAAA", "sha512 AAAA", "sha1", "sha1 !", "sha1 AAAA", "SHA1 AAAA", "é"])
def test_a_checksum_that_is_none(server: Server, value: str) -> None:
    url = create(server, 100)
    assert append(url, 0, b"bytes", {"Upload-Checksum": value.encode().decode("latin-1")}).status_code == 400
    assert offset(url) == 0


@pytest.mark.sweep
@pytest.mark.parametrize("is_killed", [False, True])
def test_what_could_not_be_verified_does_not_count(environment: Path, site: Site, is_killed: bool) -> None:
    """The connection breaks, or the server is killed, in the middle of a piece."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(environment))
        url = create(server, 2_000_000)
        append(url, 0, b"begun")
        with server.connected() as connection:
            more = {**checksum(bytes(1_500_000)), "Upload-Offset": "5"}
            begin(site, connection, url, 1_500_000, bytes(1_000_000), more)
            until(lambda: file_of(site, url).stat().st_size > 5)
            assert offset(url) == 5
            if is_killed:
                server.kill()
        if is_killed:
            path = url.removeprefix(server.url)
            server = stack.enter_context(Server(environment))
            url = server.url + path
        until(lambda: not is_locked(file_of(site, url)))
        assert offset(url) == 5
        assert append(url, 5, b"more", checksum(b"more")).headers["Upload-Offset"] == "9"


# Expiration.


def test_a_client_is_told_when_an_upload_expires(server: Server) -> None:
    answer = post(server, {"Upload-Length": "100"})
    assert_expires(answer, EMPTY_UNTOUCHED.total_seconds())
    url = server.url + answer.headers["Location"]
    assert_expires(append(url, 0, b"x"), WEEK)
    assert_expires(head(url), WEEK)


def assert_expires(answer: requests.Response, seconds: float) -> None:
    told = answer.headers["Upload-Expires"]
    assert told.endswith(" GMT")
    left = (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
    assert seconds - 60 < left <= seconds


def test_an_upload_that_has_expired(server: Server, spool: Site) -> None:
    urls = [create(server, 100) for _ in range(3)]
    for url in urls:
        append(url, 0, b"x")
        age(spool, url, WEEK + 60)
    asked = [
        ask("HEAD", urls[0], V),
        append(urls[1], 1, b"y"),
        ask("DELETE", urls[2], V),
    ]
    assert {answer.status_code for answer in asked} <= {404, 410}, "404 where it was swept up a moment before"
    assert [head(url).status_code for url in urls] == [404, 404, 404]
    assert not any(file_of(spool, url).exists() for url in urls)


@pytest.mark.sweep
def test_uploads_expire_while_the_server_runs(environment: Path, site: Site) -> None:
    """But not one that is being written, and not one of which something came in time."""
    if not FORKS.can_have(os.environ):
        pytest.skip("the server looks for them every ten minutes only")
    with Server(environment) as server:
        left, written, kept = (create(server, 100) for _ in range(3))
        append(left, 0, b"x")
        append(kept, 0, b"x")
        with server.connected() as connection:
            begin(site, connection, written, 100, b"y")
            until(lambda: offset(written) == 1 or file_of(site, written).exists())
            age(site, written, WEEK + 60)
            age(site, kept, WEEK - 60)
            age(site, left, WEEK + 60)
            until(lambda: not file_of(site, left).exists())
            assert not record_of(file_of(site, left)).exists()
            connection.sendall(bytes(99))
            assert connection.recv(12) == b"HTTP/1.1 204"
        assert offset(kept) == 1


# Concatenation.


def send_parts(server: Server, content: bytes, *cuts: int) -> list[str]:
    """Send the content in parts, the last of them first, and return their URLs in order."""
    urls = []
    for begun, end in reversed(list(pairwise([0, *cuts, len(content)]))):
        urls.append(create(server, end - begun, PARTIAL))
        append(urls[-1], 0, content[begun:end])
    return urls[::-1]


def test_a_bundle_in_parts(server: Server, spool: Site, content: bytes) -> None:
    urls = send_parts(server, content, 1000, 1000, 7000)
    for url, length in zip(urls, (1000, 0, 6000, len(content) - 7000), strict=True):
        answer = head(url)
        assert (answer.headers["Upload-Concat"], answer.headers["Upload-Offset"]) == ("partial", str(length))
        assert "Ingest-Job-Id" not in answer.headers
    metadata = {"Upload-Metadata": f"filename {b64encode(b'b.tar').decode()}"}
    answer = join(server, urls, metadata)
    assert answer.status_code == 201
    assert_complete(server, spool, answer, content)
    final = server.url + answer.headers["Location"]
    told = head(final).headers
    assert told["Upload-Concat"] == f"final;{' '.join(urls)}"
    assert told["Upload-Metadata"] == metadata["Upload-Metadata"]
    assert told["Upload-Length"] == told["Upload-Offset"] == str(len(content))
    assert told["Ingest-Job-Id"] == answer.headers["Ingest-Job-Id"]
    assert not any(file_of(spool, url).exists() for url in urls)


def test_an_answer_to_a_concatenation_that_was_lost(server: Server, spool: Site, content: bytes) -> None:
    """It can be asked for again, as can how much arrived of the parts: so a client finds nothing to send again."""
    urls = send_parts(server, content, 3000)
    before = len(spool.jobs())
    answers = [join(server, urls), join(server, [url.removeprefix(server.url) for url in urls])]
    assert [offset(url) for url in urls] == [3000, len(content) - 3000]
    answers.append(join(server, urls))
    assert len({(answer.headers["Location"], answer.headers["Ingest-Job-Id"]) for answer in answers}) == 1
    assert len(spool.jobs()) == before + 1
    assert_complete(server, spool, answers[0], content)


def test_parts_in_another_order_are_another_upload(server: Server, spool: Site) -> None:
    urls = send_parts(server, b"onetwothree", 3, 6)
    answer = join(server, [urls[2], urls[0], urls[2]])
    job_id = int(answer.headers["Ingest-Job-Id"])
    assert server.settled(job_id)["task"] == "open tar"
    assert Path(spool.job(job_id).source).read_bytes() == b"threeonethree"
    assert join(server, urls).status_code == 410, "some of it is in another upload"
    assert offset(urls[1]) == 3


def test_what_cannot_be_concatenated(server: Server, spool: Site) -> None:
    whole, unfinished, empty = create(server, 3, PARTIAL), create(server, 3, PARTIAL), create(server, 0, PARTIAL)
    append(whole, 0, b"abc")
    append(unfinished, 0, b"ab")
    ordinary, of_another = create(server, 3), create(server, 3, {**PARTIAL, **OTHERS})
    append(of_another, 0, b"abc", OTHERS)
    unknown = f"{server.url}/files/{'0' * 32}"
    files = set(spool.settings.spool.iterdir())
    for other, status in [(unfinished, 400), (ordinary, 400), (of_another, 403), (unknown, 404), ("/files/x", 400)]:
        for urls in ([whole, other], [other, whole, empty], [other]):
            assert join(server, urls).status_code == status
    assert join(server, [whole], OTHERS).status_code == 403
    assert set(spool.settings.spool.iterdir()) == files
    assert offset(whole) == 3


@pytest.mark.parametrize("value", ["final", "final;", "final; ", "partial;", "x", "final;a,b", "final;\xe9"])
def test_a_concatenation_that_is_none(server: Server, value: str) -> None:
    assert post(server, {"Upload-Concat": value, "Upload-Length": "3"}).status_code == 400


def test_nothing_is_added_to_a_final_upload(server: Server) -> None:
    (part,) = send_parts(server, b"abc")
    final = server.url + join(server, [part]).headers["Location"]
    assert append(final, 3, b"def").status_code == 403
    assert ask("DELETE", final, V).status_code == 403, "it is a job"
    assert join(server, [final]).status_code == 400


def test_limits_hold_for_a_concatenation(server: Server) -> None:
    urls = send_parts(server, bytes(900_000), 450_000) + send_parts(server, bytes(200_000))
    assert join(server, urls).status_code == 413
    assert [offset(url) for url in urls] == [450_000, 450_000, 200_000]


@pytest.mark.sweep
def test_a_concatenation_needs_room_for_the_whole(environment: Path, site: Site) -> None:
    with Server(environment) as server:
        urls = send_parts(server, b"onetwo", 3)
        server.kill()
    with Server(environment, "--reserve", 1 << 60) as server:
        urls = [server.url + url[url.index("/files") :] for url in urls]
        answer = join(server, urls)
        assert answer.status_code == 507
        assert int(answer.headers["Retry-After"]) > 0
        assert [offset(url) for url in urls] == [3, 3]
    assert len(list(site.settings.spool.iterdir())) == 4


def test_parts_that_are_not_asked_for_expire(server: Server, spool: Site) -> None:
    urls = send_parts(server, b"onetwo", 3)
    assert_expires(head(urls[0]), WEEK)
    age(spool, urls[0], WEEK + 60)
    assert join(server, urls).status_code in (404, 410)
    assert not file_of(spool, urls[0]).exists()
    assert offset(urls[1]) == 3

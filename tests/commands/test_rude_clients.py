"""``ingest serve`` and clients that stall, or say one thing and do another: nobody else is harmed by them."""

import itertools
import random
import re
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ingest_cli.server.serve import MAX_CONNECTIONS

from ..support.bundles import write_bundle
from ..support.onlooker import Onlooker, most_bytes
from ..support.serving import PATIENCE, Server, serving_apart

# A request in what another one seems to have as its body. It is the last one, if it is one.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HEAD = b"POST /upload HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("shared")
    with serving_apart(folder, made=lambda: None) as (server, _):
        yield server


def statuses(server: Server, request: bytes) -> list[int]:
    """The statuses of all answers until the server closes the connection."""
    answer = b""
    with server.connected() as connection, suppress(ConnectionError):
        connection.sendall(request)
        while piece := connection.recv(65536):
            answer += piece
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


# Requests of which it is not clear where they end.


LENGTHS = (
    *(
        b"Content-Length: 5",
        b"Content-Length: 72",
        b"Content-Length: 0",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
    ),
    *(b"Content-Length: 0x5", b"Content-Length:", b"Content-Length : 5", b"Content-Length: 5\r\nContent-Length: 72"),
    *(b"Content-Length: 72\r\nContent-Length: 72", b"Content-Length: 5 5", b"Content-Length:\x0b5"),
)
ENCODINGS = (
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding:", b"Transfer-Encoding : chunked"),
    *(b"Transfer-Encoding: chunked\x00", b"Transfer-Encoding\x00: chunked", b"Transfer-Encoding: \x0bchunked"),
    *(b"Transfer-Encoding:\r\n chunked", b"X: y\r\n Transfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked"),
    *(b"X: y\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked;q=1", b"tRANSFER-eNCODING: CHUNKED"),
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
)
BOTH = [b"\r\n".join(pair) for one in LENGTHS for other in ENCODINGS for pair in ((one, other), (other, one))]
WELL_FORMED = {LENGTHS[0], LENGTHS[1], LENGTHS[2], ENCODINGS[0], b"tRANSFER-eNCODING: CHUNKED"}
MALFORMED = [fields for fields in (*LENGTHS, *ENCODINGS) if fields not in WELL_FORMED]


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param([*MALFORMED, *random.Random(1).sample(BOTH, 40)], id="some"),
        pytest.param(BOTH, id="all", marks=pytest.mark.sweep),
    ],
)
def test_a_request_of_two_lengths_is_none(shared: Server, cases: list[bytes]) -> None:
    for fields in cases:
        assert statuses(shared, HEAD + fields + b"\r\n\r\n0\r\n\r\n" + HIDDEN) == [400], fields
    assert "/hidden" not in shared.log.read_text()


@pytest.mark.parametrize(
    ("chunks", "answered"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", [200, 404]),
        (b"5;a=b\r\nhello\r\n0\r\n\r\n", [200, 404]),
        (b"0000000000000005\r\nhello\r\n0\r\nX: y\r\n\r\n", [200, 404]),
        *(
            (odd, [400])
            for odd in (
                *(b"5 \r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"),
                *(b"-1\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"\r\nhello", b"fffffffffffffffff\r\nx"),
                *(
                    b"5\nhello\n0\n\n",
                    b"5\r\nhelloX\r\n0\r\n\r\n",
                    b"5\rhello\r\n0\r\n\r\n",
                    b"5_0\r\nhello\r\n0\r\n\r\n",
                ),
                *(b"5\r\nhello0\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"g\r\nhello\r\n0\r\n\r\n"),
            )
        ),
    ],
)
def test_a_chunk_has_one_length(shared: Server, chunks: bytes, answered: list[int]) -> None:
    assert statuses(shared, HEAD + CHUNKED + b"\r\n" + chunks + HIDDEN) == answered


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("begun", "more"),
    [
        pytest.param(b"0\r\n", b"X: y\r\n" * 10_000, id="trailers"),
        pytest.param(b"0\r\nX: ", b"y" * 60_000, id="one trailer"),
        pytest.param(b"5;", b"x" * 60_000, id="extensions"),
        pytest.param(b"0\r\n\r\n", b"\r\n" * 30_000, id="blank lines"),
    ],
)
@pytest.mark.parametrize("path", [b"/upload", b"/nowhere"])
def test_what_comes_without_end_beside_a_body_is_cut_off(
    shared: Server, path: bytes, begun: bytes, more: bytes
) -> None:
    before = most_bytes(shared)
    with shared.connected() as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + CHUNKED + b"\r\n" + begun)
        with pytest.raises(ConnectionError):
            connection.sendall(more * 1000)
    assert most_bytes(shared) - before < 20_000_000


# Many of them.


@pytest.mark.sweep
@pytest.mark.parametrize("count", [60, MAX_CONNECTIONS + 100])
def test_slow_heads_and_silent_clients_hold_up_nobody(environment: Path, tmp_path: Path, count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 1000:
        pytest.skip("this account may not have as many files open")
    ended = threading.Event()
    head = itertools.cycle(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: aaaaaaaaaaaaaaaa\r\n" * 200)
    with ExitStack() as stack:
        if soft != resource.RLIM_INFINITY and soft < count + 1000:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1000, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        server = stack.enter_context(Server(environment))
        before = most_bytes(server)
        connections = [stack.enter_context(server.connected()) for _ in range(count)]

        def send_slowly() -> None:
            while not ended.is_set():
                byte = bytes([next(head)])
                for connection in connections[::2]:  # the others are silent
                    with suppress(OSError):  # it may have been closed for a newcomer
                        connection.sendall(byte)
                time.sleep(0.01)

        slow = threading.Thread(target=send_slowly)
        slow.start()
        try:
            with Onlooker(server) as onlooker:
                bundles = [write_bundle(tmp_path / f"{n}.tar", {"data/x": b"%d" % n}) for n in range(5)]
                good = [server.settled(server.upload(bundle)["job_id"]) for bundle in bundles]
        finally:
            ended.set()
            slow.join()
        onlooker.assert_it_was_well()
        assert {state["state"] for state in good} == {"OK"}
        assert most_bytes(server) - before < 100_000_000
    assert "Traceback" not in server.log.read_text()

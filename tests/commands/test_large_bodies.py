"""``ingest serve`` and bodies longer than what is received at once: every byte, and none of the next request."""

import hashlib
import random
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ingest_cli.server.bodies import LARGEST_PIECE, PIECE_BYTES

from ..support.environment import scrub
from ..support.onlooker import most_bytes
from ..support.serving import PATIENCE, Server, read_answer
from ..support.site import Site
from ..support.tus import PIECE, create, file_of, offset
from ..support.waiting import until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Site]]:
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        scrub(patch, folder)
        server, site = stack.enter_context(Server(folder)), Site(folder / "data" / "pacifica-ingest-cli")
        patch.undo()
        yield server, site


@pytest.fixture
def server(shared: tuple[Server, Site]) -> Server:
    return shared[0]


def posted(body: bytes, path: str = "/upload", *, chunks: random.Random | None = None) -> bytes:
    """A request with this body, of which the server is to see to it that every byte is right."""
    digest = b64encode(hashlib.sha256(body).digest()).decode()
    length = f"Content-Length: {len(body)}" if chunks is None else "Transfer-Encoding: chunked"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\nContent-Digest: sha-256=:{digest}:\r\n\r\n"
    return head.encode() + (body if chunks is None else b"".join(chunked(body, chunks)))


def chunked(body: bytes, rng: random.Random) -> Iterator[bytes]:
    while body:
        piece = body[: rng.choice([1, 1000, 100_000, 1_000_000])]
        body = body[len(piece) :]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def send_in_pieces(connection: socket.socket, request: bytes, rng: random.Random) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    at = 0
    while at < len(request):
        at += connection.send(request[at : at + rng.choice([1, 100, 10_000, 1_000_000, 10_000_000])])
        if rng.random() < 0.1:
            time.sleep(rng.random() / 20)  # for less or longer than a piece is waited for


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(4, 40))])
def test_every_byte_arrives_and_the_next_request_is_the_next(server: Server, seed: int) -> None:
    """Several requests on one connection, sent without waiting for the answers."""
    rng = random.Random(seed)
    edges = [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 1, 5 * PIECE_BYTES]
    lengths = [rng.choice(edges) + rng.choice([0, 0, 64 << 10, 300_000]) for _ in range(3)]
    bodies = [rng.randbytes(length) for length in lengths]
    requests = [posted(body, chunks=rng if rng.random() < 0.2 else None) for body in bodies]
    wrong = posted(rng.randbytes(2_000_000)).replace(b"sha-256=:", b"sha-256=:AAAA")
    with server.connected() as connection:
        for request in [*requests, wrong]:
            send_in_pieces(connection, request, rng)
        assert [status for status, _ in answers(connection, len(requests) + 1)] == [200] * len(requests) + [400]
        send_in_pieces(connection, posted(bodies[0]), rng)
        assert read_answer(connection)[0] == 200


def answers(connection: socket.socket, count: int) -> Iterator[tuple[int, dict[str, object]]]:
    """The answers, each by itself: the next must not be read with one."""
    connection.settimeout(PATIENCE)
    with connection.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            yield status, {"body": stream.read(length)}


@pytest.mark.parametrize("sent", [PIECE_BYTES // 2, PIECE_BYTES + 5, 3 * PIECE_BYTES + 70_000])
def test_what_came_before_a_connection_broke_is_kept(shared: tuple[Server, Site], sent: int) -> None:
    server, site = shared
    content = random.Random(sent).randbytes(4 << 20)
    url = create(server, len(content))
    head = {**PIECE, "Host": "localhost", "Content-Length": str(len(content)), "Upload-Offset": "0"}
    lines = [f"PATCH {url.removeprefix(server.url)} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    with server.connected() as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + content[:sent])
    until(lambda: offset(url) == sent)
    assert file_of(site, url).read_bytes() == content[:sent]


def test_a_body_that_nobody_reads_is_not_held(server: Server) -> None:
    """It is refused at once; what comes of it then is forgotten, and the connection goes on if the client wants."""
    before = most_bytes(server)
    with server.connected() as connection:
        refused = posted(b"", "/nowhere").replace(b"Content-Length: 0", b"Content-Length: 50000000")
        connection.sendall(refused)
        assert read_answer(connection)[0] in (404, 405)
        with suppress(ConnectionError):
            connection.sendall(bytes(50_000_000))
        connection.sendall(posted(b"x" * 2_000_000))
        assert read_answer(connection)[0] == 200
    assert most_bytes(server) - before < 20_000_000


def test_of_many_bodies_at_once_a_few_pieces_are_held(environment: Path) -> None:
    content = bytes(8 << 20)
    with Server(environment) as server, ExitStack() as stack:
        before = most_bytes(server)
        connections = [stack.enter_context(server.connected()) for _ in range(8)]
        for connection in connections:
            connection.setblocking(False)
        request = memoryview(posted(content))
        at = [0] * len(connections)
        while any(done < len(request) for done in at):
            for number, connection in enumerate(connections):
                with suppress(BlockingIOError):
                    at[number] += connection.send(request[at[number] :][: 1 << 20])
        for connection in connections:
            connection.settimeout(PATIENCE)
            assert read_answer(connection)[0] == 200
        assert most_bytes(server) - before < len(connections) * 4 * LARGEST_PIECE + (10 << 20)

"""Whatever answers in a service's place, what it says is an answer or none: no odd one ends a run with a traceback."""

import io
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial

import pytest
from requests import RequestException

from ingest_cli.client.server import IngestServer
from ingest_cli.client.target import Target
from ingest_cli.connections import session
from ingest_cli.errors import IngestError, ServiceUnavailable
from ingest_cli.events.message import Message
from ingest_cli.events.receivers import NotReceived, receivers_of
from ingest_cli.services.pacifica.http import HttpService, NoAnswer
from ingest_cli.settings import Endpoint, Notifications

STATUS_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 301 Moved",
    b"HTTP/1.1 307 Temporary Redirect",
    b"HTTP/1.1 401 Unauthorized",
    b"HTTP/1.1 503 Busy",
    b"HTTP/1.1 999 \xff\xfe",
    b"HTTP/1.1 200",
    b"HTTP/1.1 99999 OK",
    b"HTTP/1.1 -1 OK",
    b"HTTP/9.9 200 OK",
    b"SSH-2.0-OpenSSH_9.2",
    b"",
    b"\x16\x03\x01\x02\x00",
]
HEADERS = [
    b"Content-Length: 2",
    b"Content-Length: 20",
    b"Content-Length: -1",
    b"Content-Length: two",
    b"Content-Length: 2, 3",
    b"Content-Length: 99999999999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Content-Encoding: gzip",
    b"Content-Encoding: deflate, gzip, br, zstd",
    b"Location: http://[bad",
    b"Location: \xff\xfe",
    b"Location: http://127.0.0.1:99999/",
    b"Location: file:///etc/passwd",
    b"Location: ",
    b"Set-Cookie: a=b; Domain=[; Expires=never; Max-Age=x",
    b"Content-Type: text/html; charset=no-such",
    b"WWW-Authenticate: Negotiate !!!",
    b"Retry-After: \xc2\xb2",
    b"Retry-After: -5",
    b"Date: yesterday",
    b"Date: Sat, 99 Foo 2026 99:99:99 GMT",
    b"Connection: close",
    b": no name",
    b"no colon",
    b"X: " + b"long" * 20000,
]
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"\xff\xfe",
    b"2\r\n{}\r\n0\r\n\r\n",
    b"zz\r\n",
    b"-1\r\n",
    b"\x1f\x8b\x08garbage",
    b"[" * 100000,
]


def odd_answer(chance: random.Random) -> bytes:
    headers = chance.sample(HEADERS, chance.randrange(5))
    end = chance.choice([b"\r\n", b"\r\n", b"\r\n", b"\n", b""])
    return end.join([chance.choice(STATUS_LINES), *headers, b"", chance.choice(BODIES)])


class Liar:
    """Answers each connection with the next of the answers, and hangs up."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answer = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def liar() -> Iterator[Liar]:
    with closing(Liar()) as liar:
        yield liar


# urllib3 leaves the connection of an answer with two lengths to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(2, 40))])
def test_an_odd_answer_is_an_answer_or_none(liar: Liar, seed: int) -> None:
    chance = random.Random(seed)
    with closing(HttpService("the service", Endpoint(url=liar.url, timeout=2.0))) as service:
        for _ in range(100):
            liar.answer = odd_answer(chance)
            try:
                match chance.randrange(4):
                    case 0:
                        answer = service.request(chance.choice(["GET", "HEAD", "DELETE"]), "/1", tries=1)
                    case 1:
                        answer = service.request("POST", "/x", body=b"{}", tries=1)
                    case 2:
                        answer = service.send_file("/1", [b"x" * 100], 100, 0.0, lambda: None)
                    case _:
                        with service.stream("/1") as response:
                            list(response.stream(1 << 16, decode_content=True))
                        continue
                assert isinstance(answer.message, str)
                assert answer.retry_after >= 0
                with suppress(ServiceUnavailable):
                    service.ping("GET", "/")
            except (NoAnswer, ServiceUnavailable):
                continue


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 20))])
def test_an_odd_answer_to_an_event_is_none(liar: Liar, seed: int) -> None:
    chance = random.Random(f"event {seed}")
    receiver = receivers_of(Notifications(url=Endpoint(url=liar.url)))["url"]
    for _ in range(100):
        liar.answer = odd_answer(chance)
        with suppress(NotReceived):
            receiver.deliver(Message({}, {}, io.BytesIO(b"{}")))


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 20))])
def test_an_odd_answer_to_an_upload_is_none(liar: Liar, seed: int) -> None:
    chance = random.Random(f"upload {seed}")
    with closing(IngestServer(Target(endpoint=Endpoint(url=liar.url), status_url=liar.url))) as server:
        for _ in range(100):
            liar.answer = odd_answer(chance)
            create = partial(server.create, 1, "b.tar")
            asks: list[Callable[[], object]] = [server.features, partial(server.state, 1), create]
            with suppress(IngestError):
                chance.choice(asks)()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 20))])
def test_what_a_session_raises_is_of_requests(liar: Liar, seed: int) -> None:
    chance = random.Random(f"session {seed}")
    with session(Endpoint(url=liar.url)) as opened:
        for _ in range(100):
            liar.answer = odd_answer(chance)
            with suppress(RequestException):
                opened.request(chance.choice(["GET", "POST", "HEAD"]), liar.url, timeout=2.0)

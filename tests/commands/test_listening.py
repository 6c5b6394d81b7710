"""Where ``ingest serve`` listens, and who takes its place there: nobody who connects is turned away meanwhile."""

import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ingest_cli.errors import ExitCode

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.serving import OCTETS, PATIENCE, Server, read_answer
from ..support.shown import is_stored
from ..support.site import Site
from ..support.waiting import until

# As systemd starts a program: its sockets are descriptors from 3 on, and a variable names it.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "ingest_cli", *sys.argv[2:]])
"""


@contextmanager
def connected(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(place))
        yield connection


def ask(place: Path, request: bytes, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    with connected(place) as connection:
        length = f"Content-Length: {len(body)}\r\n\r\n".encode() if body else b"\r\n"
        connection.sendall(request + b"\r\nHost: localhost\r\n" + length + body)
        return read_answer(connection)


# A Unix socket.


def test_a_unix_socket_is_there_while_its_server_is(
    environment: Path, command: Command, site: Site, tmp_path: Path
) -> None:
    place = tmp_path / "in gest.sock"
    with Server(environment, "--unix", place) as server:
        assert stat.S_IMODE(place.stat().st_mode) == 0o660
        status, state = ask(place, b"POST /upload HTTP/1.1", write_bundle(tmp_path / "b.tar").read_bytes())
        assert (status, state["job_id"]) == (200, 1)
        second = command("serve", "--unix", place)
        assert (second.returncode, "another server does" in second.stderr) == (ExitCode.USAGE, True)
        assert ask(place, b"GET /healthz HTTP/1.1") == (200, {"status": "ok"})
        server.kill()
        assert place.exists()
    with Server(environment, "--unix", place) as server:
        assert ask(place, b"GET /healthz HTTP/1.1") == (200, {"status": "ok"})
        place.unlink()
        place.write_text("of another")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
    assert place.read_text() == "of another"
    place.unlink()
    with Server(environment, "--unix", place):
        assert place.exists()
    assert not place.exists()


@pytest.mark.sweep
def test_what_is_no_socket_stays(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, reason in [
        ("file", "is not a socket"),
        ("dangling", "is not a socket"),
        (".", "is not a socket"),
        ("missing/x", "No such file or directory"),
        ("file/x", "Not a directory"),
        ("x" * 200, "too long"),
    ]:
        done = command("serve", "--unix", tmp_path / name)
        assert (done.returncode, reason in done.stderr) == (ExitCode.USAGE, True), done.stderr
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "dangling").is_symlink()


@pytest.mark.sweep
@pytest.mark.parametrize("trusted", ["", "10.0.0.1", "10.0.0.1 unix"])
def test_who_uses_a_unix_socket_is_trusted_where_that_is_said(
    environment: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: str
) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", trusted)
    place = tmp_path / "s"
    claims = b"X-Http-Authed-User: ada\r\nX-Forwarded-For: 192.0.2.60"
    with Server(environment, "--unix", place) as server:
        assert ask(place, b"POST /upload HTTP/1.1\r\n" + claims, b"x")[0] == 200
    is_trusted = "unix" in trusted
    assert site.job(1).user == ("ada" if is_trusted else site.settings.user)
    assert (" 192.0.2.60 ada " in server.log.read_text()) == is_trusted


# A socket that another has opened.


def test_it_listens_where_systemd_has_begun_to(environment: Path, site: Site, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "log").open("w+b") as log:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        line = [sys.executable, "-c", AS_SYSTEMD, str(listening.fileno()), "serve", "--reserve", "0", "--workers", "1"]
        with subprocess.Popen(line, pass_fds=[listening.fileno()], stdout=log, stderr=log) as process:
            try:
                assert requests.get(f"{url}/healthz", timeout=PATIENCE).ok
            finally:
                process.terminate()
            assert process.wait(PATIENCE) == 0
        assert f"listening at {url}\n" in (tmp_path / "log").read_text()


def test_it_tells_systemd_how_far_it_is(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, ExitStack() as stack:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(PATIENCE)
        server = stack.enter_context(Server(environment))
        assert told.recv(100) == b"READY=1"
        assert requests.get(f"{server.url}/healthz", timeout=PATIENCE).ok
        stack.close()
        assert told.recv(100) == b"STOPPING=1"


def test_what_is_no_listening_socket(command: Command, tmp_path: Path) -> None:
    for words, reason in [
        (["--fd", 999], "Bad file descriptor"),
        (["--fd", 0], "descriptor 0"),
        (["--fd", 0, "--unix", tmp_path / "s"], "cannot be used together"),
    ]:
        done = command("serve", *words)
        assert (done.returncode, reason in done.stderr) == (ExitCode.USAGE, True), done.stderr
    with socket.socket() as unbound, unbound.makefile("rb") as given, (tmp_path / "log").open("wb") as log:
        assert command.start("serve", "--fd", 0, stdin=given, output=log).wait(PATIENCE) == ExitCode.USAGE
    assert "it is not a listening socket" in (tmp_path / "log").read_text()


def test_an_address_of_the_network_asks_who_may_use_it(command: Command, tmp_path: Path) -> None:
    listening = socket.create_server(("0.0.0.0", 0))
    with listening, listening.makefile("rb") as given, (tmp_path / "log").open("wb") as log:
        assert command.start("serve", "--fd", 0, stdin=given, output=log).wait(PATIENCE) == ExitCode.USAGE
    assert "anyone who can reach 0.0.0.0 could store bundles" in (tmp_path / "log").read_text()


# One server takes the place of another.

# What a server was asked before it is told to end it answers, however slow the machine is just now.
UNHURRIED = ("--grace", 30)


class Visitor:
    """A client that comes again and again: on new connections and kept ones, at once and late, to ask and to bring."""

    def __init__(self, url: str, bundle: bytes, seed: int) -> None:
        self._url, self._bundle, self._random = url, bundle, random.Random(seed)
        self._address = ("127.0.0.1", int(url.rpartition(":")[2]))
        self.seen, self.job_ids = Counter[str](), list[int]()

    def come(self, ended: threading.Event) -> None:
        with requests.Session() as self._session:
            # A kept connection may be closed as a request is on its way, which is sent anew (RFC 9112, 9.3.1).
            self._session.mount("http://", HTTPAdapter(max_retries=Retry(1)))
            while not ended.is_set():
                visit = self._random.choice((self._ask, self._ask_alone, self._bring, self._think))
                try:
                    self.seen[visit()] += 1
                except (OSError, AssertionError) as error:
                    self.seen[f"{visit.__name__}: {error!r}"] += 1
                ended.wait(self._random.choice((0, 0, 0.01, 0.03)))

    def _ask(self) -> str:
        return str(self._session.get(f"{self._url}/healthz", timeout=PATIENCE).status_code)

    def _ask_alone(self) -> str:
        return str(requests.get(f"{self._url}/healthz", timeout=PATIENCE).status_code)

    def _bring(self) -> str:
        answer = requests.post(f"{self._url}/upload", data=self._bundle, headers=OCTETS, timeout=PATIENCE)
        if answer.ok:
            self.job_ids.append(answer.json()["job_id"])
        return str(answer.status_code)

    def _think(self) -> str:
        """Connect, and ask a moment later."""
        with socket.create_connection(self._address, PATIENCE) as connection:
            time.sleep(self._random.random() / 4)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return str(read_answer(connection)[0])


@pytest.mark.sweep
@pytest.mark.parametrize(("visitors", "times"), [(6, 1), (24, 6)], ids=["once", "often"])
@pytest.mark.parametrize("overlap", [True, False], ids=["beside", "after"])
def test_no_visitor_notices_that_another_server_takes_over(
    environment: Path, site: Site, tmp_path: Path, visitors: int, times: int, overlap: bool
) -> None:
    bundle = write_bundle(tmp_path / "b.tar").read_bytes()
    ended = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    coming = [Visitor(url, bundle, seed) for seed in range(visitors)]

    def until_all_came() -> None:
        before = [visitor.seen.total() for visitor in coming]
        until(lambda: all(visitor.seen.total() > count + 3 for visitor, count in zip(coming, before, strict=True)))

    with listening, ExitStack() as stack, ThreadPoolExecutor(visitors) as pool:
        stack.callback(ended.set)
        old = stack.enter_context(Server(environment, "--quiet", *UNHURRIED, "--fd", 0, given=listening))
        for visitor in coming:
            pool.submit(visitor.come, ended)
        for _ in range(times):
            until_all_came()
            new = Server(environment, "--quiet", *UNHURRIED, "--fd", 0, given=listening)
            if overlap:
                stack.enter_context(new)
            old.process.send_signal(signal.SIGTERM)
            assert old.process.wait(PATIENCE) == 0
            if not overlap:
                stack.enter_context(new)
            old = new
        until_all_came()
        ended.set()
        pool.shutdown()
    seen = sum((visitor.seen for visitor in coming), Counter[str]())
    assert set(seen) == {"200"}, seen
    taken = [job_id for visitor in coming for job_id in visitor.job_ids]
    assert len(set(taken)) == len(taken) > 0
    assert [site.job(job_id).job_id for job_id in taken] == taken


@pytest.mark.sweep
def test_a_long_upload_ends_where_it_has_begun(environment: Path, site: Site, tmp_path: Path) -> None:
    """Its job is run by the next server, which has workers still."""
    content = write_bundle(tmp_path / "b.tar").read_bytes()
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with listening, ExitStack() as stack:
        old = stack.enter_context(Server(environment, "--grace", 60, "--fd", 0, given=listening))
        uploading, idle = (stack.enter_context(old.connected()) for _ in range(2))
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(idle)[0] == 200
        uploading.sendall(head + content[:1000])
        until(lambda: list(site.settings.spool.glob("received-*")))
        old.process.send_signal(signal.SIGTERM)
        new = stack.enter_context(Server(environment, "--fd", 0, given=listening))
        assert idle.recv(1) == b"", "nothing comes of it"
        time.sleep(2)  # longer than without --grace
        uploading.sendall(content[1000:])
        status, state = read_answer(uploading)
        assert (status, old.process.wait(PATIENCE)) == (200, 0)
        assert is_stored(new.settled(state["job_id"]))

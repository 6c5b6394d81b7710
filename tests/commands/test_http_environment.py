"""What the environment says of a service over HTTP: ~/.netrc, certificates, proxies; and what wins over it."""

import os
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ingest_cli.errors import IngestError, ServiceUnavailable, SettingsError
from ingest_cli.services.factory import connect
from ingest_cli.services.pacifica import http
from ingest_cli.settings import load_settings
from ingest_cli.settings.options import SERVICES

from ..support.bundles import write_bundle
from ..support.loopback import LoopbackServer, QuietHandler
from ..support.pacifica_double import Handler, PacificaSite
from ..support.site import Site

TLS = Path(__file__).parents[1] / "data" / "tls"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


def ingest(site: Site, folder: Path, **environment: str) -> None:
    site.settings = load_settings(environment={**os.environ, **environment})
    assert site.ingest(write_bundle(folder / "b.tar")).is_done


def write_netrc(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o600)


@pytest.fixture
def netrc(environment: Path) -> Path:
    """One that knows the host of all services."""
    path = environment / "home" / ".netrc"
    write_netrc(path, "machine 127.0.0.1 login me password pä55\n")
    return path


def test_netrc_has_the_credentials_of_a_host(site: Site, pacific: PacificaSite, netrc: Path, tmp_path: Path) -> None:
    ingest(site, tmp_path)
    assert {sent for _, sent in pacific.authorizations} == {basic("me:pä55")}
    assert any(path == "/1" for path, _ in pacific.authorizations), "files too are sent with them"


def test_another_file_than_netrc_may_be_named(
    site: Site, pacific: PacificaSite, netrc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_netrc(tmp_path / "other", "machine elsewhere login you password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "other"))
    ingest(site, tmp_path)
    assert {sent for _, sent in pacific.authorizations} == {None}


@pytest.mark.parametrize("kind", ["token", "password", "url"])
def test_credentials_of_the_settings_win_over_netrc(
    site: Site, pacific: PacificaSite, netrc: Path, tmp_path: Path, kind: str
) -> None:
    given: dict[str, str] = {}
    for prefix, option in SERVICES.items():
        given |= {
            "token": {f"{prefix}_TOKEN": "t"},
            "password": {f"{prefix}_USERNAME": "you", f"{prefix}_PASSWORD": "pw"},
            "url": {option.variable: os.environ[option.variable].replace("//", "//you:pw@")},
        }[kind]
    ingest(site, tmp_path, **given)
    assert {sent for _, sent in pacific.authorizations} == {"Bearer t" if kind == "token" else basic("you:pw")}


def test_credentials_of_netrc_do_not_follow_a_redirect(
    site: Site, pacific: PacificaSite, netrc: Path, tmp_path: Path
) -> None:
    def away(handler: Handler) -> bool:
        handler.body()
        handler.answer(307, {}, {"Location": f"{elsewhere.url}{handler.path}"})
        return True

    with PacificaSite() as elsewhere:
        pacific.guard = away
        with pytest.raises(ServiceUnavailable, match="307"):
            ingest(site, tmp_path)
        assert elsewhere.connections == 0


@pytest.fixture
def secure(monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    site = PacificaSite()
    site.speak_tls(context)
    with site as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        yield server


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_names_who_is_trusted(
    site: Site, secure: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, str(TLS / "ca.pem"))
    ingest(site, tmp_path)
    assert len(secure.transactions) == 1


def test_a_ca_file_wins_over_the_environment(
    site: Site, secure: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(TLS / "ca.pem"))
    with pytest.raises(ServiceUnavailable, match="certificate verify failed"):
        ingest(site, tmp_path, UNIQUEID_CA_FILE=str(TLS / "client.pem"))
    assert secure.requests == []


def test_a_missing_file_of_the_environment_is_named(
    secure: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with (
        pytest.raises(SettingsError, match=rf"certificates for {secure.url} \(.*missing.pem\)"),
        connect(load_settings()),
    ):
        pass


class SocksProxy(LoopbackServer):
    """Leads anywhere by SOCKS 5 (RFC 1928); with a user's name and password (RFC 1929) where it is ``strict``."""

    def __init__(self, *, strict: bool) -> None:
        super().__init__(SocksHandler)
        self.strict = strict
        self.asked: list[str] = []
        self.users: set[bytes] = set()


class SocksHandler(QuietHandler):
    server: SocksProxy

    def handle(self) -> None:
        methods = self.rfile.read(self.rfile.read(2)[1])
        assert (2 if self.server.strict else 0) in methods
        self.wfile.write(bytes([5, 2 if self.server.strict else 0]))
        if self.server.strict:
            user = self.rfile.read(self.rfile.read(2)[1])
            self.server.users.add(user + b":" + self.rfile.read(self.rfile.read(1)[0]))
            self.wfile.write(bytes([1, 0]))
        kind = self.rfile.read(4)[3]
        host = self.rfile.read(self.rfile.read(1)[0]).decode() if kind == 3 else socket.inet_ntoa(self.rfile.read(4))
        port = int.from_bytes(self.rfile.read(2), "big")
        self.server.asked.append(host)
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            self.wfile.write(bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
            back = threading.Thread(target=pump, args=(upstream, self.connection))
            back.start()
            pump(self.connection, upstream)
            back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("strict", [False, True])
def test_a_proxy_of_socks_resolves_the_names(
    site: Site, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, strict: bool
) -> None:
    pytest.importorskip("socks", reason="PySocks is not installed")
    for variable, value in pacific.environment().items():
        monkeypatch.setenv(variable, value.replace("127.0.0.1", "ingest.invalid"))
    with SocksProxy(strict=strict) as proxy:
        address = proxy.url.replace("http://", "socks5h://me:p%40w@" if strict else "socks5h://")
        monkeypatch.setenv("ALL_PROXY", address)
        ingest(site, tmp_path)
        assert set(proxy.asked) == {"ingest.invalid"}
        assert proxy.users == ({b"me:p@w"} if strict else set())
    assert len(pacific.transactions) == 1


class CountingProxy(LoopbackServer):
    """Lets nobody through, and notes who asked."""

    def __init__(self) -> None:
        super().__init__(CountingHandler)
        self.authorizations: set[str | None] = set()


class CountingHandler(QuietHandler):
    server: CountingProxy

    def do_GET(self) -> None:
        self.server.authorizations.add(self.headers["Proxy-Authorization"])
        self.send_error(407)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(("form", "sent"), [("{}", None), ("http://{}", None), ("http://mé:p%C3%A4%2Fw@{}", "mé:pä/w")])
def test_a_proxy_is_named_in_any_way(
    site: Site,
    pacific: PacificaSite,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    form: str,
    sent: str | None,
) -> None:
    with CountingProxy() as proxy:
        monkeypatch.setenv(variable, form.format(proxy.url.removeprefix("http://")))
        with pytest.raises(IngestError, match="407"):
            ingest(site, tmp_path)
        assert proxy.authorizations == {None if sent is None else basic(sent)}
    assert pacific.connections == 0

"""Who a service is, and who we are to it: TLS, credentials, proxies. No secret is ever shown."""

import os
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode, IngestError, ServiceUnavailable, SettingsError
from ingest_cli.services.factory import connect
from ingest_cli.services.pacifica import http
from ingest_cli.settings import load_settings
from ingest_cli.settings.options import SERVICES

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.loopback import LoopbackServer, QuietHandler
from ..support.pacifica_double import Handler, PacificaSite
from ..support.site import Site

TLS = Path(__file__).parents[1] / "data" / "tls"
MARK = "s3cret"
SECRET = f"{MARK}%Ünter"
TRUSTING = {f"{prefix}_CA_FILE": str(TLS / "ca.pem") for prefix in SERVICES}
NAMES = {
    "UNIQUEID": "the id service",
    "POLICY": "the policy service",
    "ARCHIVEINTERFACE": "the archive",
    "METADATA": "the metadata service",
}


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("INGEST_SERVICE_TIMEOUT", "5")


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


def ask(site: PacificaSite, monkeypatch: pytest.MonkeyPatch, prefix: str | None = None) -> None:
    """Have all services, or one of them, be those of ``site``."""
    for name, option in SERVICES.items():
        if prefix in (None, name):
            monkeypatch.setenv(option.variable, site.environment()[option.variable])


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, PacificaSite]]:
    """A site for each service."""
    with ExitStack() as stack:
        servers = {prefix: stack.enter_context(PacificaSite()) for prefix in SERVICES}
        for prefix, server in servers.items():
            ask(server, monkeypatch, prefix)
        yield servers


@pytest.fixture
def secure(monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    context.load_verify_locations(TLS / "ca.pem")
    site = PacificaSite()
    site.speak_tls(context)
    with site as server:
        ask(server, monkeypatch)
        yield server


def ingest(site: Site, folder: Path, **environment: str) -> None:
    site.settings = load_settings(environment={**os.environ, **environment})
    assert site.ingest(write_bundle(folder / "b.tar")).is_done


def test_an_unknown_authority_is_refused_at_once(site: Site, secure: PacificaSite, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match=r"the id service at https://.*certificate verify failed"):
        ingest(site, tmp_path)
    assert secure.connections == 1
    assert secure.requests == []


def test_an_authority_from_a_file_is_trusted(site: Site, secure: PacificaSite, tmp_path: Path) -> None:
    ingest(site, tmp_path, **TRUSTING)
    assert len(secure.transactions) == 1


@pytest.mark.parametrize("prefix", SERVICES)
def test_an_authority_is_trusted_for_the_service_it_is_given_for_only(
    site: Site, secure: PacificaSite, tmp_path: Path, prefix: str
) -> None:
    trusting = {variable: file for variable, file in TRUSTING.items() if not variable.startswith(prefix)}
    with pytest.raises(ServiceUnavailable, match=f"{NAMES[prefix]} at https://.*certificate verify failed"):
        ingest(site, tmp_path, **trusting)
    assert not secure.transactions


def test_a_certificate_of_another_host_is_refused(
    site: Site, secure: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNIQUEID_URL", secure.url.replace("127.0.0.1", "127.1"))
    with pytest.raises(ServiceUnavailable, match=r"certificate verify failed: .* mismatch"):
        ingest(site, tmp_path, **TRUSTING)
    assert secure.requests == []


@pytest.mark.parametrize("in_one_file", [True, False])
def test_a_client_certificate_is_shown(site: Site, secure: PacificaSite, tmp_path: Path, in_one_file: bool) -> None:
    assert secure.context is not None
    secure.context.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ServiceUnavailable):
        ingest(site, tmp_path, **TRUSTING)
    assert secure.requests == []
    both = tmp_path / "both.pem"
    both.write_text((TLS / "client.pem").read_text() + (TLS / "client.key").read_text())
    files = {"CERT": str(both)} if in_one_file else {"CERT": str(TLS / "client.pem"), "KEY": str(TLS / "client.key")}
    shown = {f"{prefix}_CLIENT_{key}": file for prefix in SERVICES for key, file in files.items()}
    ingest(site, tmp_path, **TRUSTING, **shown)


def test_each_service_gets_its_own_credentials(site: Site, four: dict[str, PacificaSite], tmp_path: Path) -> None:
    ingest(
        site,
        tmp_path,
        UNIQUEID_TOKEN="one",
        POLICY_USERNAME="two",
        POLICY_PASSWORD=SECRET,
        ARCHIVEINTERFACE_USERNAME="without a password",
        METADATA_INGEST_URL=four["METADATA"].url.replace("//", "//three:th%40r%C3%A9e@") + "/ingest",
    )
    assert {prefix: {sent for _, sent in server.authorizations} for prefix, server in four.items()} == {
        "UNIQUEID": {"Bearer one"},
        "POLICY": {basic(f"two:{SECRET}")},
        "ARCHIVEINTERFACE": {basic("without a password:")},
        "METADATA": {basic("three:th@rée")},
    }


@pytest.mark.sweep
@pytest.mark.parametrize("prefix", SERVICES)
@pytest.mark.parametrize("kind", ["token", "password", "url"])
def test_credentials_go_to_their_service_only(
    site: Site, four: dict[str, PacificaSite], tmp_path: Path, prefix: str, kind: str
) -> None:
    variable = SERVICES[prefix].variable
    given = {
        "token": {f"{prefix}_TOKEN": "t"},
        "password": {f"{prefix}_USERNAME": "me", f"{prefix}_PASSWORD": "pw"},
        "url": {variable: os.environ[variable].replace("//", "//me:pw@")},
    }
    ingest(site, tmp_path, **given[kind])
    sent = {name: {authorization for _, authorization in server.authorizations} for name, server in four.items()}
    assert sent.pop(prefix) == {"Bearer t" if kind == "token" else basic("me:pw")}
    assert list(sent.values()) == [{None}] * 3


@pytest.mark.parametrize("prefix", SERVICES)
def test_credentials_do_not_follow_a_redirect(
    site: Site, four: dict[str, PacificaSite], tmp_path: Path, prefix: str
) -> None:
    def away(handler: Handler) -> bool:
        handler.body()
        handler.answer(307, {}, {"Location": f"{elsewhere.url}{handler.path}"})
        return True

    with PacificaSite() as elsewhere:
        four[prefix].guard = away
        with pytest.raises(ServiceUnavailable, match="307"):
            ingest(site, tmp_path, **{f"{prefix}_TOKEN": "t"})
        assert elsewhere.connections == 0
    assert "Bearer t" in {sent for _, sent in four[prefix].authorizations}


@pytest.fixture
def secretive(pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A configuration file with secrets of each kind."""
    address = pacific.url.replace("//", f"//me:{SECRET}@").replace("%", "%%")
    secrets = f"[uniqueid]\ntoken = {SECRET.replace('Ü', 'u')}\n[policy]\nusername = me\npassword = {SECRET}\n"
    monkeypatch.delenv("METADATA_INGEST_URL")
    path = tmp_path / "config.ini"
    path.write_text(f"{secrets}[metadata]\ningest_url = {address}/ingest\n", "utf-8")
    path.chmod(0o600)
    return path


def shows_a_secret(text: str) -> bool:
    forms = (MARK, b64encode(f"me:{SECRET}".encode()).decode())
    return any(form in text for form in forms)


def test_a_password_of_the_configuration_file_may_hold_a_percent_sign(
    command: Command, pacific: PacificaSite, secretive: Path, tmp_path: Path
) -> None:
    assert command(write_bundle(tmp_path / "b.tar"), "--config", secretive).returncode == 0
    sent = dict(pacific.authorizations)
    assert sent["/policy"] == sent["/ingest"] == basic(f"me:{SECRET}")
    assert sent["/getid?range=1&mode=upload_job"] == f"Bearer {SECRET.replace('Ü', 'u')}"


def test_no_secret_is_ever_shown(command: Command, site: Site, pacific: PacificaSite, secretive: Path) -> None:
    def unknown(handler: Handler) -> bool:
        if handler.command == "POST":
            handler.body()
            handler.answer(401, {"message": "who are you?"})
        return handler.command == "POST"

    pacific.guard = unknown
    bundle = write_bundle(secretive.parent / "b.tar")
    failed = command(bundle, "--debug", "--config", secretive)
    assert "Traceback" in failed.stderr
    pacific.shutdown()
    pacific.server_close()
    shown = [command(*words, "--config", secretive) for words in [("config",), ("config", "--json"), ("doctor",)]]
    assert [done.returncode for done in shown] == [0, 0, ExitCode.UNREACHABLE]
    for done in [failed, *shown]:
        assert not shows_a_secret(done.stdout + done.stderr), done.args
    assert [done.stdout.count("(hidden)") for done in shown] == [3, 3, 0]
    assert "who are you?" in site.jobs()[0].exception
    store = site.database
    for file in store.parent.glob(f"{store.name}*"):
        assert not shows_a_secret(file.read_bytes().decode("latin-1"))


@pytest.mark.sweep
@pytest.mark.parametrize(
    "text",
    [f"[policy]\ntoken = x\n{MARK} without a key\n", f"token = {MARK}\n", f"[policy]\ntoken = x\ntoken = {MARK}\n"],
    ids=["no key", "no section", "twice"],
)
def test_a_malformed_file_is_not_quoted(command: Command, tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.ini"
    config.write_text(text)
    done = command("config", "--debug", "--config", config)
    assert f"line {text[: text.index(MARK)].count(chr(10)) + 1}" in done.stderr
    assert not shows_a_secret(done.stdout + done.stderr)
    assert command("config", "--config", config).returncode == ExitCode.USAGE


def test_a_proxys_password_is_not_shown(
    command: Command, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    socks = ExitCode.USAGE if find_spec("socks") is None else ExitCode.UNREACHABLE
    for proxy, code in (("http://me:{}@127.0.0.1:1", ExitCode.UNREACHABLE), ("socks5://me:{}@127.0.0.1:1", socks)):
        monkeypatch.setenv("http_proxy", proxy.format(MARK))
        done = command("doctor", "--debug")
        assert done.returncode == code
        assert "proxy" in done.stdout
        assert not shows_a_secret(done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("environment", "saying"),
    [
        ({"POLICY_PASSWORD": MARK}, r"^POLICY_PASSWORD: \[policy\] password needs a username"),
        ({"UNIQUEID_USERNAME": "x", "UNIQUEID_TOKEN": MARK}, r"^UNIQUEID_TOKEN: \[uniqueid\] token: .* not both"),
        ({"UNIQUEID_URL": f"http://me:{MARK}@x", "UNIQUEID_TOKEN": MARK}, r"^UNIQUEID_TOKEN: .* not both"),
        ({"METADATA_CLIENT_KEY": "/x"}, r"^METADATA_CLIENT_KEY: \[metadata\] client_key needs a client_cert"),
        ({"ARCHIVEINTERFACE_TOKEN": f"{MARK}\nb"}, r"\[archiveinterface\] token contains an unprintable character"),
        ({"ARCHIVEINTERFACE_TRANSFERS": "0"}, r"\[archiveinterface\] transfers: '0' is not a number from 1 to 64"),
        ({"ARCHIVEINTERFACE_TRANSFERS": "many"}, "not a number from 1 to 64"),
        ({"ARCHIVEINTERFACE_REMOTE_SOURCES": "perhaps"}, "neither yes nor no"),
        ({"ARCHIVEINTERFACE_URL": "", "ARCHIVEINTERFACE_REMOTE_SOURCES": "yes"}, "is on this machine"),
        ({"ARCHIVEINTERFACE_URL": "http://x:port"}, r"'http://x:port' is neither"),
        ({"UNIQUEID_TOKEN": "snow☃"}, r"^UNIQUEID_TOKEN: .* not allowed in a token"),
        ({"POLICY_USERNAME": "a:b"}, r"^POLICY_USERNAME: .* a user name cannot contain ':'"),
        ({"POLICY_INGEST_URL": f"http://a%3Ab:{MARK}@x"}, r"^POLICY_INGEST_URL: .* a user name cannot contain ':'"),
        ({"INGEST_DEFAULT_USER": "a\r\nX: b"}, r"^INGEST_DEFAULT_USER: .* contains an unprintable character"),
        ({"INGEST_AUTH_HEADER": "X: y"}, r"^INGEST_AUTH_HEADER: .*'X: y' is not a valid header name"),
        ({"ARCHIVEINTERFACE_URL": f"ftp://me:{MARK}@x"}, r"'ftp://\(hidden\)@x' is neither"),
    ],
)
def test_settings_that_contradict_each_other_are_named(
    pacific: PacificaSite, environment: dict[str, str], saying: str
) -> None:
    with pytest.raises(SettingsError, match=saying) as caught:
        load_settings(environment={**os.environ, **environment})
    assert not shows_a_secret(str(caught.value))


@pytest.mark.sweep
@pytest.mark.parametrize(
    "url",
    [
        f"http://me:{MARK}/et@host",
        f"http://me:12/{MARK}@host",
        f"http://me:{MARK}#et@host",
        f"http://me:12?{MARK}@host",
        f"http://me:{MARK}[et@host",
        f"http://me:{MARK}\u2100@host",
        f"http://me:{MARK}@",
        f"http://me:{MARK}@host:port",
        f"http:/me:{MARK}@host",
        f"me:{MARK}@host",
        f"ftp://me:{MARK}@host",
    ],
)
def test_a_password_in_a_url_that_is_none_is_not_shown(
    command: Command, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", url)
    done = command("doctor", "--debug")
    assert "ARCHIVEINTERFACE_URL: [archiveinterface] url: " in done.stderr
    assert "(hidden)@" in done.stderr
    assert not shows_a_secret(done.stdout + done.stderr)
    assert command("doctor").returncode == ExitCode.USAGE


def test_an_at_sign_in_a_path_or_a_users_name_is_shown(command: Command, tmp_path: Path) -> None:
    place = f"{tmp_path}/a@b"
    config = tmp_path / "config.ini"
    config.write_text(f"[archiveinterface]\nurl = file://{place}\n[ingest]\ndefault_user = me@x.org\n")
    shown = command("config", "--json", "--config", config).stdout
    assert f"file://{place}" in shown
    assert "me@x.org" in shown


@pytest.mark.parametrize("url", [f"http://me:%40{MARK}@host", f"http://me:%({MARK})s@host", f"http://me:%{MARK}@host"])
def test_a_percent_sign_alone_is_named_but_not_quoted(command: Command, tmp_path: Path, url: str) -> None:
    config = tmp_path / "config.ini"
    config.write_text(f"[archiveinterface]\nurl = {url}\n")
    done = command("config", "--debug", "--config", config)
    assert f"{config}: [archiveinterface] url: write a % as %%" in done.stderr
    assert not shows_a_secret(done.stdout + done.stderr)


@pytest.mark.parametrize("proxy", [f"http://me:{MARK}/x@h:1", f"http://me:{MARK}[x@h:1", f"http://me:12/{MARK}@h:1"])
def test_a_malformed_proxy_is_not_quoted(
    command: Command, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    done = command("doctor", "--debug")
    assert "the proxy that the environment sets" in done.stdout
    assert done.returncode == ExitCode.USAGE
    assert not shows_a_secret(done.stdout + done.stderr)


def test_a_users_name_is_sent_as_utf_8(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    ingest(site, tmp_path, INGEST_DEFAULT_USER="Иван")
    (user,) = pacific.users
    assert user is not None
    assert user.encode("latin-1").decode() == "Иван"


def test_settings_of_the_file_that_contradict_each_other_are_named(
    command: Command, pacific: PacificaSite, tmp_path: Path
) -> None:
    config = tmp_path / "config.ini"
    config.write_text(f"[archiveinterface]\nusername = me\ntoken = {MARK}\n")
    done = command(write_bundle(tmp_path / "b.tar"), "--config", config)
    assert done.returncode == ExitCode.USAGE
    assert f"ingest: {config}: [archiveinterface] token: give a username or a token" in done.stderr
    assert not shows_a_secret(done.stderr)
    assert pacific.connections == 0


@pytest.mark.parametrize("key", ["CA_FILE", "CLIENT_CERT"])
@pytest.mark.parametrize("content", [None, "junk"])
def test_certificates_that_cannot_be_read(secure: PacificaSite, tmp_path: Path, key: str, content: str | None) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    settings = load_settings(environment={**os.environ, f"POLICY_{key}": str(file)})
    saying = rf"certificates for {secure.url}/policy \(.*file\.pem\)"
    with pytest.raises(SettingsError, match=saying), connect(settings):
        pass


def test_a_certificate_that_cannot_be_read_is_a_wrong_configuration(
    command: Command, secure: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNIQUEID_CA_FILE", str(tmp_path / "missing.pem"))
    done = command(write_bundle(tmp_path / "b.tar"))
    assert done.returncode == ExitCode.USAGE
    assert "missing.pem" in done.stderr
    assert secure.connections == 0


class Proxy(LoopbackServer):
    """Forwards what it is asked for by its whole address."""

    def __init__(self) -> None:
        super().__init__(ProxyHandler)
        self.asked: list[str] = []
        self.authorizations: set[str | None] = set()


class ProxyHandler(QuietHandler):
    server: Proxy

    def forward(self) -> None:
        self.server.asked.append(self.path)
        self.server.authorizations.add(self.headers["Proxy-Authorization"])
        del self.headers["Proxy-Authorization"]
        address, slash, path = self.path.removeprefix("http://").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with closing(HTTPConnection(address)) as connection:
            connection.request(self.command, slash + path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        self.server.authorizations.add(self.headers["Proxy-Authorization"])
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.send_response_only(200)
            self.end_headers()
            back = threading.Thread(target=pump, args=(upstream, self.connection))
            back.start()
            pump(self.connection, upstream)
            back.join()
        self.close_connection = True


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy() as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:p%40w@"))
        yield server


def test_the_environments_proxy_is_used(
    proxy: Proxy, site: Site, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("no_proxy", "elsewhere")
    ingest(site, tmp_path, UNIQUEID_TOKEN="t")
    assert len(pacific.transactions) == 1
    assert proxy.asked == [pacific.url + path for _, path in pacific.requests]
    assert proxy.authorizations == {basic("me:p@w")}
    assert {sent for _, sent in pacific.authorizations} == {"Bearer t", None}


def test_the_environments_proxy_does_not_see_into_tls(
    proxy: Proxy, site: Site, secure: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:p%40w@"))
    ingest(site, tmp_path, UNIQUEID_TOKEN="t", **TRUSTING)
    assert len(secure.transactions) == 1
    assert set(proxy.asked) == {secure.url.removeprefix("https://")}
    assert proxy.authorizations == {basic("me:p@w")}
    assert {sent for _, sent in secure.authorizations} == {"Bearer t", None}


@pytest.mark.parametrize("spared", ["127.0.0.1", "elsewhere,127.0.0.1", "*"])
def test_the_environments_proxy_is_not_used_where_it_says_so(
    proxy: Proxy, site: Site, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spared: str
) -> None:
    monkeypatch.setenv("no_proxy", spared)
    ingest(site, tmp_path)
    assert proxy.asked == []
    assert len(pacific.transactions) == 1


def test_a_proxy_that_is_down_is_a_service_that_cannot_be_reached(
    site: Site, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(IngestError) as caught:
        ingest(site, tmp_path)
    assert caught.value.transient
    assert pacific.connections == 0

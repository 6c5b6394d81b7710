"""Who a service is, and who we are to it: TLS, credentials, proxies. No secret is ever shown."""

import os
import ssl
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ingest_cli.errors import ServiceUnavailable, SettingsError
from ingest_cli.services import connect
from ingest_cli.settings import SERVICES, load_settings

from .bundles import write_bundle
from .conftest import Command
from .pacifica_double import PacificaSite
from .site import Site

TLS = Path(__file__).parent / "data" / "tls"
SECRET = "s3cret%Ünter"
TRUSTING = {f"{prefix}_CA_FILE": str(TLS / "ca.pem") for prefix in SERVICES}


@pytest.fixture
def pacific(monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    with PacificaSite() as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        yield server


@pytest.fixture
def secure(monkeypatch: pytest.MonkeyPatch) -> Iterator[PacificaSite]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    context.load_verify_locations(TLS / "ca.pem")
    site = PacificaSite()
    site.speak_tls(context)
    with site as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        yield server


def ingest(site: Site, folder: Path, **environment: str) -> None:
    site.settings = load_settings(environment={**os.environ, **environment})
    assert site.ingest(write_bundle(folder / "b.tar")).complete


def test_an_unknown_authority_is_refused_at_once(site: Site, secure: PacificaSite, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="certificate verify failed"):
        ingest(site, tmp_path)
    assert secure.requests == []


def test_an_authority_from_a_file_is_trusted(site: Site, secure: PacificaSite, tmp_path: Path) -> None:
    ingest(site, tmp_path, **TRUSTING)
    assert len(secure.transactions) == 1


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


def test_each_service_gets_its_own_credentials(site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    ingest(
        site,
        tmp_path,
        UNIQUEID_TOKEN="one",
        POLICY_USERNAME="two",
        POLICY_PASSWORD=SECRET,
        METADATA_INGEST_URL=pacific.url.replace("//", "//three:th%40ree@") + "/ingest",
    )

    def basic(text: str) -> str:
        return "Basic " + b64encode(text.encode()).decode()

    expected = {"getid": "Bearer one", "policy": basic(f"two:{SECRET}"), "ingest": basic("three:th@ree")}
    for path, authorization in pacific.authorizations:
        assert authorization == expected.get(path.strip("/").partition("?")[0]), path


def test_no_secret_is_ever_shown(command: Command, site: Site, pacific: PacificaSite, tmp_path: Path) -> None:
    config = tmp_path / "config.ini"
    address = pacific.url.replace("//", f"//me:{SECRET}@")
    secrets = f"[uniqueid]\ntoken = {SECRET}\n[policy]\nusername = me\npassword = {SECRET}\n"
    config.write_text(f"{secrets}[metadata]\ningest_url = {address.replace('%', '%%')}/ingest\n", "utf-8")
    os.environ.pop("METADATA_INGEST_URL")
    bundle = write_bundle(tmp_path / "b.tar")
    assert command(bundle, "--config", config).returncode == 0
    pacific.shutdown()
    pacific.server_close()
    shown = [
        command(*words, "--config", config)
        for words in [
            ("config",),
            ("config", "--json"),
            ("doctor",),
            ("doctor", "--json"),
            (bundle, "--again", "--debug"),
        ]
    ]
    config.write_text(f"{secrets}{SECRET} without a key", "utf-8")
    shown.append(command("config", "--config", config))
    assert "malformed in line 6" in shown[-1].stderr
    for done in shown:
        assert SECRET not in done.stdout + done.stderr
        assert "s3cret" not in done.stdout + done.stderr, done.args
    assert "(hidden)" in shown[0].stdout
    assert b"s3cret" not in site.settings.database.read_bytes()


@pytest.mark.parametrize(
    ("environment", "saying"),
    [
        ({"POLICY_PASSWORD": "x"}, "needs a username"),
        ({"POLICY_USERNAME": "x", "POLICY_TOKEN": "y"}, "not both"),
        ({"POLICY_CLIENT_KEY": "/x"}, "needs a client_cert"),
        ({"POLICY_TOKEN": "a\nb"}, "cannot be printed"),
        ({"ARCHIVEINTERFACE_TRANSFERS": "0"}, "not a number from 1 to 64"),
        ({"ARCHIVEINTERFACE_TRANSFERS": "many"}, "not a number from 1 to 64"),
        ({"ARCHIVEINTERFACE_REMOTE_SOURCES": "perhaps"}, "neither yes nor no"),
        ({"ARCHIVEINTERFACE_URL": "", "ARCHIVEINTERFACE_REMOTE_SOURCES": "yes"}, "is on this machine"),
        ({"ARCHIVEINTERFACE_URL": "http://x:port"}, "is no URL"),
    ],
)
def test_settings_that_contradict_each_other_are_named(
    pacific: PacificaSite, environment: dict[str, str], saying: str
) -> None:
    with pytest.raises(SettingsError, match=saying):
        load_settings(environment={**os.environ, **environment})


@pytest.mark.parametrize("content", [None, "junk"])
def test_certificates_that_cannot_be_read(secure: PacificaSite, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    settings = load_settings(environment={**os.environ, "POLICY_CA_FILE": str(file)})
    with pytest.raises(SettingsError, match=r"cannot use the certificates for .*ca\.pem"), connect(settings):
        pass


class Proxy(BaseHTTPRequestHandler):
    asked: list[tuple[str, str | None]]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_error(404)


@pytest.fixture
def proxy() -> Iterator[ThreadingHTTPServer]:
    Proxy.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("spared", [True, False])
def test_the_environments_proxy_is_used_unless_spared(
    proxy: ThreadingHTTPServer, site: Site, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    spared: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("http_proxy", f"http://me:{'pw'}@127.0.0.1:{proxy.server_address[1]}")
    monkeypatch.setenv("no_proxy", "127.0.0.1" if spared else "elsewhere")
    if spared:
        ingest(site, tmp_path)
        assert Proxy.asked == []
        return
    with pytest.raises(ServiceUnavailable, match="404"):
        ingest(site, tmp_path)
    basic = "Basic " + b64encode(b"me:pw").decode()
    assert Proxy.asked == [(f"{pacific.url}/getid?range=1&mode=upload_job", basic)]
    assert pacific.requests == []

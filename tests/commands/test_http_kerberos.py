"""Services that ask for Kerberos, with a real key distribution centre on loopback."""

import os
import shutil
import socket
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import ServiceUnavailable, SettingsError
from ingest_cli.services.pacifica import http
from ingest_cli.settings import load_settings
from ingest_cli.settings.options import SERVICES

from ..support.bundles import write_bundle
from ..support.loopback import free_port
from ..support.pacifica_double import Handler, PacificaSite
from ..support.site import Site
from ..support.waiting import until

REALM = "INGEST.TEST"
PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
NEGOTIATE = {f"{prefix}_AUTH": "negotiate" for prefix in SERVICES}

KRB5_CONF = """[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_canonicalize_hostname = false
rdns = false
[realms]
{realm} = {{
  kdc = 127.0.0.1:{port}
}}
"""
KDC_CONF = """[kdcdefaults]
kdc_listen = 127.0.0.1:{port}
kdc_tcp_listen = 127.0.0.1:{port}
[realms]
{realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
}}
"""


class Realm:
    """A realm with the user ``me`` and the service of HTTP on 127.0.0.1; the environment leads to it."""

    def __init__(self, folder: Path, environment: pytest.MonkeyPatch) -> None:
        self._folder, self.port = folder, free_port()
        for name, text in (("krb5.conf", KRB5_CONF), ("kdc.conf", KDC_CONF)):
            (folder / name).write_text(text.format(realm=REALM, port=self.port, folder=folder))
        for variable, name in {
            "KRB5_CONFIG": "krb5.conf",
            "KRB5_KDC_PROFILE": "kdc.conf",
            "KRB5CCNAME": "tickets",
            "KRB5_KTNAME": "service.keytab",
            "KRB5RCACHENAME": "none:",
        }.items():
            environment.setenv(variable, name if name.endswith(":") else str(folder / name))
        self._run("kdb5_util", "create", "-s", "-P", "master")
        for principal, keytab in (("me", "user.keytab"), ("HTTP/127.0.0.1", "service.keytab")):
            self._run("kadmin.local", "-q", f"addprinc -randkey {principal}")
            self._run("kadmin.local", "-q", f"ktadd -k {folder / keytab} {principal}")

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log_in(self) -> None:
        self._run("kinit", "-k", "-t", str(self._folder / "user.keytab"), "me")

    @staticmethod
    def _run(program: str, *words: str) -> None:
        found = shutil.which(program, path=PLACES)
        assert found is not None
        subprocess.run([found, *words], check=True, capture_output=True, timeout=60)


@pytest.fixture
def realm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Realm]:
    missing = [
        name for name in ("krb5kdc", "kdb5_util", "kadmin.local", "kinit") if not shutil.which(name, path=PLACES)
    ]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = tmp_path / "kerberos"
    folder.mkdir()
    made = Realm(folder, monkeypatch)
    kdc = shutil.which("krb5kdc", path=PLACES)
    assert kdc is not None
    with subprocess.Popen([kdc, "-n"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(made.listens)
        yield made
        process.terminate()


class Doorkeeper:
    """Lets those in who show a ticket, and notes who they are; None for who shows none."""

    def __init__(self) -> None:
        self._gssapi: Any = pytest.importorskip("gssapi", reason="gssapi is not installed")
        pytest.importorskip("requests_gssapi", reason="requests-gssapi is not installed")
        self.seen: list[str | None] = []

    def __call__(self, handler: Handler) -> bool:
        kind, _, token = (handler.headers["Authorization"] or "").partition(" ")
        if kind != "Negotiate":
            self.seen.append(None)
            handler.body()
            handler.answer(401, {}, {"WWW-Authenticate": "Negotiate"})
            return True
        context = self._gssapi.SecurityContext(usage="accept")
        context.step(b64decode(token))
        self.seen.append(str(context.initiator_name))
        return False


@pytest.fixture
def doorkeeper(pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch) -> Doorkeeper:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    pacific.guard = Doorkeeper()
    return pacific.guard


@pytest.mark.sweep
@pytest.mark.parametrize("transfers", ["1", "4"])
def test_every_request_comes_with_a_ticket_unasked(
    doorkeeper: Doorkeeper, realm: Realm, site: Site, pacific: PacificaSite, tmp_path: Path, transfers: str
) -> None:
    realm.log_in()
    environment = {**os.environ, **NEGOTIATE, "ARCHIVEINTERFACE_TRANSFERS": transfers}
    site.settings = load_settings(environment=environment)
    files = {f"data/{number}": bytes([number]) * 3000 for number in range(30)} | {"data/large": bytes(3 << 20)}
    assert site.ingest(write_bundle(tmp_path / "b.tar", files)).is_done
    assert sorted(pacific.files.values()) == sorted(files.values())
    assert set(doorkeeper.seen) == {f"me@{REALM}"}


@pytest.mark.sweep
def test_who_has_no_ticket_waits_for_one(
    doorkeeper: Doorkeeper, realm: Realm, site: Site, pacific: PacificaSite, tmp_path: Path
) -> None:
    site.settings = load_settings(environment={**os.environ, "POLICY_AUTH": "negotiate"})
    pacific.guard = lambda handler: handler.command == "POST" and doorkeeper(handler)
    bundle = write_bundle(tmp_path / "b.tar")
    with pytest.raises(ServiceUnavailable, match=r"the policy service at .* fails: 401"):
        site.ingest(bundle)
    assert site.jobs()[0].is_deferred
    realm.log_in()
    assert site.ingest(bundle).is_done
    assert set(doorkeeper.seen) == {None, f"me@{REALM}"}


@pytest.mark.parametrize(
    ("environment", "saying"),
    [
        ({"POLICY_AUTH": "kerberos"}, r"^POLICY_AUTH: \[policy\] auth: 'kerberos' is not negotiate"),
        ({"POLICY_AUTH": "negotiate", "POLICY_TOKEN": "t"}, r"^POLICY_AUTH: .* negotiate or credentials, not both"),
        ({"POLICY_AUTH": "negotiate", "POLICY_USERNAME": "me"}, r"^POLICY_AUTH: .* negotiate or credentials"),
    ],
)
def test_settings_that_contradict_each_other_are_named(environment: dict[str, str], saying: str) -> None:
    environment = {**os.environ, "POLICY_INGEST_URL": "http://127.0.0.1:1", **environment}
    with pytest.raises(SettingsError, match=saying):
        load_settings(environment=environment)

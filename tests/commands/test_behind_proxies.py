"""``ingest serve`` behind a proxy: links lead back to it, and a client is the one that the proxy says."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter
from starlette.routing import Route

from ingest_cli.server.app import application
from ingest_cli.server.authentication import Authenticator
from ingest_cli.server.proxies import FOLDERS, Proxies
from ingest_cli.server.receiving import Limits
from ingest_cli.server.routes import ServerRules

from ..support.bundles import write_bundle
from ..support.environment import scrub
from ..support.proxying import PASSWORD, PROGRAMS, USER, in_front, is_there
from ..support.serving import OCTETS, PATIENCE, Server, serving_apart
from ..support.site import Site
from ..support.waiting import until

TUS = {"Tus-Resumable": "1.0.0"}
CLIENT = "192.0.2.60"


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that trusts the proxies of this machine."""
    folder = tmp_path_factory.mktemp("trusting")
    words = ("--log-format", "json", "--root-path", "/ingest/")
    with serving_apart(folder, *words, made=lambda: None, INGEST_TRUSTED_PROXIES="127.0.0.1") as (server, _):
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that trusts nobody."""
    folder = tmp_path_factory.mktemp("plain")
    with serving_apart(folder, "--log-format", "json", made=lambda: None) as (server, _):
        yield server


def location(server: Server, path: str = "/files", **headers: str) -> str:
    given = {**TUS, "Upload-Length": "9", **headers}
    answer = requests.post(server.url + path, headers=given, timeout=PATIENCE, allow_redirects=False)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


@pytest.mark.parametrize("path", ["/files", "/files/", "/ingest/files", "/ingest/files/"])
def test_an_upload_is_found_below_the_prefix(trusting: Server, path: str) -> None:
    found = location(trusting, path)
    assert re.fullmatch("/ingest/files/[0-9a-f]{32}", found)
    for url in (found, found.removeprefix("/ingest")):
        assert requests.head(trusting.url + url, headers=TUS, timeout=PATIENCE).headers["Upload-Offset"] == "0"
    assert location(trusting, **{"X-Forwarded-Prefix": "/other"}).startswith("/other/files/")


def test_no_client_makes_up_where_it_is_pointed_to(plain: Server) -> None:
    claims = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "1"}
    claims |= {"X-Forwarded-Prefix": "/evil", "Forwarded": "for=6.6.6.6;host=evil.example;proto=https"}
    for host in ("localhost", "127.0.0.1:1", "10.1.2.3", "[::1]"):
        assert re.fullmatch("/files/[0-9a-f]{32}", location(plain, "/files/", **claims, Host=host))


def clients_of_marked(server: Server) -> list[str]:
    """Who asked for /marked, as the log has it; nobody until there are two lines."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if '"/marked"' in line]
    return [line["client"] for line in lines] if len(lines) == 2 else []


def test_the_log_names_the_client(trusting: Server, plain: Server) -> None:
    for server, client in ((trusting, CLIENT), (plain, "127.0.0.1")):
        for headers in ({}, {"Host": "evil.example"}):  # what is refused, too
            given = {"X-Forwarded-For": f"6.6.6.6, {CLIENT}", **headers}
            requests.get(f"{server.url}/marked", headers=given, timeout=PATIENCE)
        until(partial(clients_of_marked, server))
        assert set(clients_of_marked(server)) == {client}


def test_the_page_and_the_description_say_where_they_are(trusting: Server, plain: Server) -> None:
    html = {"Accept": "text/html"}
    for path in ("/ingest", "/ingest/", "/"):
        page = requests.get(trusting.url + path, headers=html, timeout=PATIENCE, allow_redirects=False)
        assert (page.status_code, 'data-below="/ingest/"' in page.text) == (200, True)
        links = re.findall(r' (?:href|action)="([^#"][^"]*)', page.text)
        assert links
        assert all(link.startswith("/ingest/") for link in links)
    assert 'data-below=""' in requests.get(plain.url, headers=html, timeout=PATIENCE).text
    described = requests.get(f"{trusting.url}/ingest/openapi.json", timeout=PATIENCE).json()
    assert described["servers"] == [{"url": "/ingest"}]
    assert "servers" not in requests.get(f"{plain.url}/openapi.json", timeout=PATIENCE).json()


def test_a_bundle_can_be_posted_to_a_prefix_of_that_name(trusting: Server) -> None:
    for path in ("/ingest", "/ingest/ingest", "/ingest/upload"):
        assert requests.post(trusting.url + path, data=b"x", timeout=PATIENCE).status_code == 200


def test_what_is_below_the_servers_own_paths_is_no_prefix(site: Site) -> None:
    rules = ServerRules(limits=Limits(None, 0), max_waiting=1, log_json=False)
    authenticator = Authenticator.for_hosts(site.settings, ["127.0.0.1"], [])
    app = application(site.settings, authenticator, Proxies.of(site.settings), rules)
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    assert {f"/{path.split('/')[1]}" for path in paths if path.count("/") > 1} == set(FOLDERS)


# Real proxies, by the examples of the manual.

FORGED = {
    "X-Http-Authed-User": "eve",
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=6.6.6.6",
}
ANOTHER_ADDRESS = "127.0.0.2"


class FromAnotherAddress(HTTPAdapter):
    """Connects from an address that is not a trusted proxy's."""

    def init_poolmanager(self, *arguments: Any, **keywords: Any) -> None:
        super().init_poolmanager(*arguments, source_address=(ANOTHER_ADDRESS, 0), **keywords)


# What the address of an example becomes for a proxy that takes the path off, and for a Unix socket.
VARIANTS = {
    "nginx": ["{address}", "{address}/", "unix:{place}", "unix:{place}:/"],
    "Apache": ["{address}"],
    "Caddy": ["{address}", "unix/{place}"],
}


@pytest.fixture(scope="module")
def fronted(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Site, dict[str, str]]]:
    """A server as the examples have it, at an address or a Unix socket."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        folder = Path(name)
        scrub(patch, folder)
        is_unix = request.param == "place"
        patch.setenv("INGEST_TRUSTED_PROXIES", "unix" if is_unix else "127.0.0.1")
        words = ["--root-path", "/ingest", "--allow-host", "ingest.example.org", "--log-format", "json"]
        words += ["--unix", str(folder / "s")] if is_unix else []
        server = stack.enter_context(Server(folder, *words))
        site = Site(folder / "data" / "pacifica-ingest-cli")
        patch.undo()
        yield server, site, {request.param: server.url.removeprefix("http://").removeprefix("unix:")}


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("fronted", "proxy", "variant"),
    [
        pytest.param(
            "place" if "{place}" in variant else "address",
            proxy,
            variant,
            marks=pytest.mark.skipif(not is_there(proxy), reason=f"{PROGRAMS[proxy]} is not installed"),
        )
        for proxy, variants in VARIANTS.items()
        for variant in variants
    ],
    indirect=["fronted"],
)
def test_a_client_of_a_proxy_notices_nothing_of_it(
    fronted: tuple[Server, Site, dict[str, str]], proxy: str, variant: str, tmp_path: Path
) -> None:
    server, site, place = fronted
    content = write_bundle(tmp_path / "b.tar", {"data/x": f"{proxy} {variant}".encode()}).read_bytes()
    with in_front(proxy, variant.format(**place)) as url, requests.Session() as client:
        assert client.get(f"{url}/healthz", timeout=PATIENCE).status_code == 401
        client.auth, client.headers["Host"] = (USER, PASSWORD), "ingest.example.org"
        client.headers.update(FORGED)
        client.mount("http://", FromAnotherAddress())
        if proxy == "Caddy":
            client.headers["Host"] = urlsplit(url).netloc  # by which it knows its site
        assert client.get(f"{url}/healthz", timeout=PATIENCE).json() == {"status": "ok"}
        for body in (content, iter([content[:700], content[700:]])):
            state = client.post(f"{url}/upload", data=body, headers=OCTETS, timeout=PATIENCE).json()
            assert site.job(state["job_id"]).user == USER
        created = client.post(f"{url}/files", headers={**TUS, "Upload-Length": "2"}, timeout=PATIENCE)
        found = urljoin(created.url, created.headers["Location"])
        assert re.fullmatch(rf"{url}/files/[0-9a-f]{{32}}", found)
        assert client.head(found, headers=TUS, timeout=PATIENCE).headers["Upload-Offset"] == "0"
        assert client.delete(found, headers=TUS, timeout=PATIENCE).status_code == 204
        page = client.get(f"{url}/", headers={"Accept": "text/html"}, timeout=PATIENCE)
        assert 'data-below="/ingest/"' in page.text
        told = {"Accept": "text/event-stream"}
        with client.get(f"{url}/live", headers=told, timeout=PATIENCE, stream=True) as live:
            assert "event: look" in live.iter_lines(chunk_size=1, decode_unicode=True)
        described = client.get(f"{url}/openapi.json", timeout=PATIENCE).json()
        assert described["servers"] == [{"url": "/ingest"}]
        assert client.get(f"{url}/jobs/{state['job_id']}/", timeout=PATIENCE).json()["user"] == USER
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert {line["client"] for line in lines if line["user"] == USER} == {ANOTHER_ADDRESS}
    assert not {line["user"] for line in lines} & {"eve"}

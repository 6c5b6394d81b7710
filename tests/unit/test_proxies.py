"""What a proxy says of a request is believed where it is trusted, and nothing that a client makes up."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Scope

from ingest_cli.errors import SettingsError
from ingest_cli.server.admission import client_of
from ingest_cli.server.authentication import Peer, Refusal
from ingest_cli.server.proxies import FOLDERS, Proxies, external_path
from ingest_cli.settings import load_settings

PROXY, ANOTHER, CLIENT, LIAR = "10.0.0.1", "10.0.0.2", "192.0.2.60", "6.6.6.6"
PROXIES = Proxies((ip_network("10.0.0.0/8"), ip_network("fd00::/8")), unix=False, root_path="")


def scope_of(peer: str | None, path: str = "/jobs", method: str = "GET", **headers: str) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "server": ("10.0.0.9", 8066) if peer else ("/run/ingest.sock", None),
        "client": (peer, 4711) if peer else None,
        "headers": [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()],
    }


def client_after(proxies: Proxies, scope: Scope) -> str:
    proxies.resolve(scope)
    return str(scope["client"][0]) if scope["client"] else ""


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({}, PROXY),
        ({"X_Forwarded_For": CLIENT}, CLIENT),
        ({"X_Forwarded_For": f"{LIAR}, {CLIENT}"}, CLIENT),
        ({"X_Forwarded_For": f"{LIAR}, {CLIENT}, {ANOTHER}"}, CLIENT),
        ({"X_Forwarded_For": f"{ANOTHER}"}, ANOTHER),
        ({"X_Forwarded_For": f"{CLIENT}:1234"}, CLIENT),
        ({"X_Forwarded_For": "2001:db8::1"}, "2001:db8::1"),
        ({"X_Forwarded_For": "[2001:db8::1]:80"}, "2001:db8::1"),
        ({"X_Forwarded_For": f"::ffff:{CLIENT}"}, CLIENT),
        ({"X_Forwarded_For": "unknown"}, PROXY),
        ({"X_Forwarded_For": f"{CLIENT}, nonsense, {ANOTHER}"}, ANOTHER),
        ({"X_Forwarded_For": ""}, PROXY),
        ({"Forwarded": f"for={CLIENT};proto=https;by=10.0.0.1"}, CLIENT),
        ({"Forwarded": f"for={LIAR}, FOR={CLIENT} , for={ANOTHER}"}, CLIENT),
        ({"Forwarded": 'proto=http; for="[2001:db8::1]:4711"'}, "2001:db8::1"),
        ({"Forwarded": "for=_hidden"}, PROXY),
        ({"Forwarded": f'for={CLIENT};host="a,for={LIAR};for={LIAR}"'}, CLIENT),
        ({"Forwarded": f'for={CLIENT};host="a\\",for={LIAR}"'}, CLIENT),
        ({"Forwarded": f"proto=https;for={CLIENT}", "X_Forwarded_For": CLIENT}, CLIENT),
        ({"Forwarded": "for=unknown", "X_Forwarded_For": CLIENT}, CLIENT),
    ],
)
def test_the_client_is_who_a_trusted_proxy_says(headers: dict[str, str], client: str) -> None:
    assert client_after(PROXIES, scope_of(PROXY, **headers)) == client
    assert client_after(PROXIES, scope_of(f"::ffff:{PROXY}", **headers)) in (client, f"::ffff:{PROXY}")
    assert client_after(PROXIES, scope_of(LIAR, **headers)) == LIAR


def test_limits_for_each_client_are_for_those_behind_the_proxy() -> None:
    scope = scope_of(PROXY, X_Forwarded_For=CLIENT)
    PROXIES.resolve(scope)
    scope["state"]["user"] = "ada"
    assert client_of(Request(scope)) == f"ada {CLIENT}"


def test_one_of_two_headers_that_disagree_is_made_up() -> None:
    with pytest.raises(Refusal, match="disagree"):
        PROXIES.resolve(scope_of(PROXY, Forwarded=f"for={LIAR}", X_Forwarded_For=CLIENT))


CHAINS = st.lists(st.sampled_from([PROXY, ANOTHER, "fd00::1", CLIENT, LIAR, "unknown", "", "a b", "1.2.3.4.5"]))


@given(CHAINS, st.lists(st.sampled_from([PROXY, ANOTHER, "fd00::1"])))
def test_what_a_client_says_of_itself_counts_for_nothing(made_up: list[str], proxies: list[str]) -> None:
    chain = ", ".join([*made_up, CLIENT, *proxies])
    assert client_after(PROXIES, scope_of(PROXY, X_Forwarded_For=chain)) == CLIENT
    elements = ", ".join(f'for="{text}";proto=https' for text in [*made_up, CLIENT, *proxies])
    assert client_after(PROXIES, scope_of(PROXY, Forwarded=elements)) == CLIENT


@given(st.text(st.sampled_from('for=",;\\ 10.:[]') | st.characters(max_codepoint=126, min_codepoint=32)))
def test_no_header_of_a_proxy_is_too_odd(text: str) -> None:
    for name in ("Forwarded", "X_Forwarded_For"):
        ip_address(client_after(PROXIES, scope_of(PROXY, **{name: text})))


def test_who_is_trusted() -> None:
    def peer(proxies: Proxies, address: str | None) -> Peer:
        return proxies.resolve(scope_of(address))

    trusting = replace(PROXIES, unix=True)
    assert peer(PROXIES, PROXY) == peer(PROXIES, f"::ffff:{PROXY}") == Peer(is_local=False, is_trusted=True)
    assert peer(PROXIES, LIAR) == Peer(is_local=False, is_trusted=False)
    assert peer(PROXIES, "127.0.0.1") == peer(PROXIES, "::ffff:127.0.0.1") == Peer(is_local=True, is_trusted=False)
    assert peer(PROXIES, None) == Peer(is_local=True, is_trusted=False)
    assert peer(trusting, None) == Peer(is_local=True, is_trusted=True)
    gone = {**scope_of(PROXY), "client": None}
    assert trusting.resolve(gone) == Peer(is_local=False, is_trusted=False)


@pytest.mark.parametrize(
    ("root_path", "method", "path", "own"),
    [
        ("", "GET", "/jobs/1", "/jobs/1"),
        ("", "GET", "/jobs/", "/jobs"),
        ("", "POST", "/files///", "/files"),
        ("", "GET", "///", "/"),
        ("/a/b", "GET", "/a/b/jobs/1", "/jobs/1"),
        ("/a/b", "GET", "/jobs/1", "/jobs/1"),
        ("/a/b", "GET", "/a/b", "/"),
        ("/a/b", "GET", "/a/b/", "/"),
        ("/a/b", "GET", "/a/bc", "/a/bc"),
        ("/ingest", "GET", "/ingest", "/"),
        ("/ingest", "POST", "/ingest", "/ingest"),
        ("/ingest", "POST", "/ingest/ingest", "/ingest"),
        ("/ingest", "POST", "/ingest/upload", "/upload"),
    ],
)
def test_a_prefix_may_be_taken_off_or_not(root_path: str, method: str, path: str, own: str) -> None:
    scope = scope_of(LIAR, path, method)
    replace(PROXIES, root_path=root_path).resolve(scope)
    assert scope["path"] == own


@pytest.mark.parametrize("root_path", ["", "/ingest", "/a/b-c.d_e~f"])
@pytest.mark.parametrize("base", ["http://h:1", "https://h"])
def test_a_client_finds_what_it_is_pointed_to(root_path: str, base: str) -> None:
    for by_header in (False, True):
        proxies = PROXIES if by_header else replace(PROXIES, root_path=root_path)
        scope = scope_of(PROXY, "/files", "POST", **({"X_Forwarded_Prefix": f"{root_path}/"} if by_header else {}))
        proxies.resolve(scope)
        link = external_path(Request(scope), "/files/0a")
        assert urljoin(f"{base}{root_path}/files", link) == f"{base}{root_path}/files/0a"


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "evil.example", "/a//b", "/../x", "/.", "/a b", "/a?b", "/a#b", "/é", "/a%2f", "/a\\b"]
)
def test_a_prefix_that_leads_elsewhere_is_refused(prefix: str) -> None:
    with pytest.raises(Refusal, match="X-Forwarded-Prefix"):
        PROXIES.resolve(scope_of(PROXY, X_Forwarded_Prefix=prefix))
    with pytest.raises(SettingsError, match=r"\[server\] root_path"):
        load_settings(environment={"INGEST_ROOT_PATH": prefix})
    scope = scope_of(LIAR, X_Forwarded_Prefix=prefix)
    PROXIES.resolve(scope)
    assert external_path(Request(scope), "/files/0a") == "/files/0a"


@given(st.lists(st.sampled_from(["/", "a", ".", "%", "\\", "?", "#", ":", "@", "é", "-", "~", ",", " "])).map("".join))
def test_a_link_stays_at_the_same_host(prefix: str) -> None:
    scope = {**scope_of(PROXY), "headers": [(b"x-forwarded-prefix", prefix.encode())]}
    try:
        PROXIES.resolve(scope)
    except Refusal:
        return
    link = external_path(Request(scope), "/files/0a")
    assert urlsplit(urljoin("http://h/x", link))[:2] == ("http", "h")
    assert urljoin("http://h/x", link).endswith("/files/0a")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_prefix_is_no_folder_of_the_server(folder: str) -> None:
    with pytest.raises(SettingsError, match="a path of the server itself"):
        Proxies.of(load_settings(environment={"INGEST_ROOT_PATH": f"{folder}/"}))
    with pytest.raises(Refusal, match="a path of the server itself"):
        PROXIES.resolve(scope_of(PROXY, f"{folder}/1", X_Forwarded_Prefix=f"{folder}/"))

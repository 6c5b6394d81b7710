"""Carts: Pacifica's downloaders choose files, wait, and get one tar of them."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests

from ingest_cli.jobs.spool import NoRoom
from ingest_cli.server import carts
from ingest_cli.server.authentication import Refusal
from ingest_cli.server.carts import LIFETIME, Cart, FolderCarts

from ..support.bundles import FILES, write_bundle
from ..support.pacifica_double import Handler, PacificaSite
from ..support.serving import PATIENCE, Server, serving_apart
from ..support.site import Site

# What the released downloader does in a program that uses it.
DOWNLOADER = """
import json, sys
import requests
from pacifica.downloader import Downloader

url, job_id, event, folder = sys.argv[1:]
downloader = Downloader(cart_api_url=url)
answer = requests.get(f"{url}/status/transactions/by_id/{job_id}")
assert answer.status_code == 200
downloader.transactioninfo(f"{folder}/by_id", answer.json())
downloader.cloudevent(f"{folder}/by_event", json.loads(open(event).read()), filename="other")
"""


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_DOWNLOADS", "yes")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Site]]:
    """A server and its site, which holds job 1, for carts of any name."""
    folder = tmp_path_factory.mktemp("shared")

    def fill() -> Site:
        site = Site(folder / "data" / "pacifica-ingest-cli")
        site.ingest(write_bundle(folder / "b.tar"))
        return site

    with serving_apart(folder, made=fill, INGEST_DOWNLOADS="yes") as shared:
        yield shared


@pytest.fixture
def server(shared: tuple[Server, Site]) -> Server:
    return shared[0]


def ask(server: Server, method: str, cart: object, body: Any = None, **headers: str) -> requests.Response:
    url, data = f"{server.url}/{cart}", None if body is None else json.dumps(body)
    kind = {"Content-Type": "application/json"}
    return requests.request(method, url, data=data, headers={**kind, **headers}, timeout=PATIENCE)


def entry(file_id: Any, content: bytes, path: Any, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha1(content).hexdigest()
    return {"id": file_id, "path": path, "hashtype": "sha1", "hashsum": digest, **changes}


def all_files() -> dict[str, Any]:
    return {"fileids": [entry(number, data, path) for number, (path, data) in enumerate(FILES.items(), 1)]}


def status(answer: requests.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.headers["X-Pacifica-Status"], answer.headers["X-Pacifica-Message"]


def members_of(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: getattr(tar.extractfile(member), "read", bytes)() for member in tar}


def test_from_the_choice_of_files_to_the_end(server: Server) -> None:
    cart = uuid4()
    made = ask(server, "POST", cart, all_files())
    assert (made.status_code, made.json()) == (201, {"message": "Cart Processing has begun"})
    assert status(ask(server, "HEAD", cart)) == (204, "ready", "")
    answer = ask(server, "GET", f"{cart}?filename=chosen")
    assert members_of(answer.content) == {f"chosen/{path}": data for path, data in FILES.items()}
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="chosen"'
    part = ask(server, "GET", f"{cart}?filename=chosen", Range="bytes=600-")
    assert (part.status_code, part.content) == (206, answer.content[600:])
    (folder,) = {name.partition("/")[0] for name in members_of(ask(server, "GET", cart).content)}
    assert folder.startswith("data_20")
    gone = ask(server, "DELETE", cart)
    assert (gone.status_code, gone.json()) == (200, {"message": "Cart Deleted Successfully"})
    assert status(ask(server, "HEAD", cart)) == (404, "error", f"No cart with uid {cart} found")
    for method in ("GET", "DELETE"):
        answer = ask(server, method, cart)
        assert answer.status_code == 404
        assert answer.json()["message"] == "The cart does not exist or has already been deleted"


def test_the_list_of_a_jobs_files_is_a_cart(server: Server) -> None:
    cart, listed = uuid4(), requests.get(f"{server.url}/jobs/1/files", timeout=PATIENCE).json()
    assert ask(server, "POST", cart, {"fileids": listed}).status_code == 201
    assert members_of(ask(server, "GET", f"{cart}?filename=x.tar").content) == {
        f"x/{path}": data for path, data in FILES.items()
    }


@pytest.mark.sweep
def test_a_cart_outlives_the_server(environment: Path, site: Site, tmp_path: Path) -> None:
    cart = uuid4()
    site.ingest(write_bundle(tmp_path / "b.tar"))
    with Server(environment) as server:
        ask(server, "POST", cart, all_files())
        server.kill()
    with Server(environment) as other:
        assert status(ask(other, "HEAD", cart)) == (204, "ready", "")
        assert len(members_of(ask(other, "GET", cart).content)) == len(FILES)


ALPHA = FILES["data/a.txt"]


@pytest.mark.parametrize(
    ("listed", "code", "message"),
    [
        ([entry(1, ALPHA, "../a")], 400, "is not the path of a file"),
        ([entry(1, ALPHA, "a/../../b")], 400, "is not the path of a file"),
        ([entry(1, ALPHA, "/")], 400, "is not the path of a file"),
        ([entry(1, ALPHA, "")], 400, "is not the path of a file"),
        ([entry(1, ALPHA, "a\0b")], 400, "is not the path of a file"),
        ([entry(1, ALPHA, "\ud800")], 400, "is not the path of a file"),
        ([entry(1, ALPHA, "a" * 5000)], 400, "is not the path of a file"),
        ([entry(1, ALPHA, 7)], 400, "is not the path of a file"),
        ([entry(1, ALPHA, "a"), entry(1, ALPHA, "/./a")], 400, "'a' is the path of two files"),
        ([entry(1, ALPHA, "a/b"), entry(1, ALPHA, "a")], 400, "'a' is both a file and a folder"),
        ([entry("one", ALPHA, "a")], 400, "the id 'one' is not the number of a file"),
        ([entry(True, ALPHA, "a")], 400, "the id True is not"),
        ([entry(1.5, ALPHA, "a")], 400, "the id 1.5 is not"),
        ([entry(-1, ALPHA, "a")], 400, "the id -1 is not"),
        ([entry(1 << 63, ALPHA, "a")], 400, "is not the number of a file"),
        ([entry(99, ALPHA, "a")], 404, "the catalogue has no file 99"),
        ([entry(1, b"other", "a")], 400, "file 1 is recorded with sha1"),
        ([entry(1, ALPHA, "a", hashtype="md5")], 400, "file 1 is recorded with sha1"),
        ([entry(1, ALPHA, "a", hashsum=None)], 400, "is not text"),
        (["a"], 400, "entry 0 is not an object"),
        ("a", 400, "a list of fileids"),
        (None, 400, "a list of fileids"),
    ],
)
def test_what_is_no_cart_is_refused(server: Server, listed: Any, code: int, message: str) -> None:
    cart = uuid4()
    answer = ask(server, "POST", cart, {"fileids": listed})
    assert (answer.status_code, message in answer.json()["message"]) == (code, True), answer.text
    assert ask(server, "HEAD", cart).status_code == 404


def test_what_is_no_request_for_a_cart_is_refused(server: Server) -> None:
    cart = uuid4()
    for body, code in [
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"[" + b"[]," * 3_000_000 + b"1]", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"", 400),
    ]:
        kind = {"Content-Type": "application/json"}
        answer = requests.post(f"{server.url}/{cart}", data=body, headers=kind, timeout=PATIENCE)
        assert answer.status_code == code, body[:10]
    assert ask(server, "POST", cart, all_files(), **{"Content-Type": "text/plain"}).status_code == 415
    assert ask(server, "POST", "not-a-uuid", all_files()).status_code == 404
    ask(server, "POST", cart, all_files())
    for filename in ("..", "a/b", ".tar", "a%0Ab", "x" * 201):
        assert ask(server, "GET", f"{cart}?filename={filename}").status_code == 400


def test_paths_are_those_of_clients(server: Server) -> None:
    """The downloader puts a "/" between a folder and a name, whatever the folder is called."""
    cart = uuid4()
    listed = [
        entry("1", ALPHA, "/a.txt"),
        entry(1, ALPHA, "//b/./c", hashsum=f"SHA1:{hashlib.sha1(ALPHA).hexdigest()}"),
    ]
    assert ask(server, "POST", cart, {"fileids": listed}).status_code == 201
    assert set(members_of(ask(server, "GET", f"{cart}?filename=data").content)) == {"data/a.txt", "data/b/c"}


def test_a_client_that_waits_is_told_what_is_wrong(shared: tuple[Server, Site]) -> None:
    (server, site), cart = shared, uuid4()
    ask(server, "POST", cart, all_files())
    site.file(2).rename(site.file(2).with_suffix(".away"))
    code, word, message = status(ask(server, "HEAD", cart))
    assert (code, word) == (500, "error")
    assert message == "file 2, 'data/sub/b.bin', is missing from the archive"
    site.file(2).with_suffix(".away").rename(site.file(2))
    assert status(ask(server, "HEAD", cart)) == (204, "ready", "")


def test_a_cart_is_its_users(environment: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    ann, bob = ({"X-Http-Authed-User": user} for user in ("ann", "bob"))
    cart = uuid4()
    with Server(environment) as server:
        server.settled(server.upload(write_bundle(tmp_path / "b.tar"), **ann)["job_id"])
        refused = ask(server, "POST", cart, all_files(), **bob)
        assert (refused.status_code, refused.json()["message"]) == (
            403,
            "what is recorded of job 1 was not submitted by you",
        )
        assert ask(server, "POST", cart, all_files(), **ann).status_code == 201
        assert {ask(server, method, cart, **bob).status_code for method in ("HEAD", "GET", "DELETE")} == {404}
        assert ask(server, "POST", cart, {"fileids": []}, **bob).status_code == 201
        assert members_of(ask(server, "GET", cart, **bob).content) == {}
        assert len(members_of(ask(server, "GET", cart, **ann).content)) == len(FILES)
        assert ask(server, "POST", cart, {"fileids": []}, **ann).status_code == 201, "in place of the first"
        assert members_of(ask(server, "GET", cart, **ann).content) == {}


def test_there_are_no_carts_unless_the_site_says_so(
    environment: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INGEST_DOWNLOADS")
    with Server(environment) as server:
        assert ask(server, "POST", uuid4(), all_files()).status_code == 403
        assert status(ask(server, "HEAD", uuid4()))[:2] == (403, "error")
    assert not (site.settings.spool / "carts").exists()


def test_old_carts_are_gone_and_there_are_only_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = FolderCarts(tmp_path, 0)
    monkeypatch.setattr(carts, "MAX_CARTS", 4)
    names = [uuid4() for _ in range(3)]

    def save(name: UUID, user: str = "ann") -> None:
        kept.save(Cart(str(name), user, time.time(), []))

    save(names[0])
    save(names[1])
    with pytest.raises(Refusal, match="2 carts are kept"):
        save(names[2])
    save(names[1])
    save(names[2], "bob")
    save(names[2], "eve")
    with pytest.raises(Refusal, match="4 carts are kept"):
        save(names[2], "dan")
    (path,) = (tmp_path / "carts").glob(f"{names[0]}.*")
    old = time.time() - LIFETIME.total_seconds() - 1
    os.utime(path, (old, old))
    assert [kept.find(name, "ann") is not None for name in names] == [False, True, False]
    save(names[2])
    assert not path.exists()
    with pytest.raises(NoRoom, match="no room for a cart"):
        FolderCarts(tmp_path, 1 << 60).save(Cart(str(names[2]), "ann", time.time(), []))
    (path,) = (tmp_path / "carts").glob(f"{names[1]}.*")
    path.write_text("{")
    assert kept.find(names[1], "ann") is None


@pytest.mark.sweep
def test_of_an_archive_over_http(environment: Path, pacific: PacificaSite, tmp_path: Path) -> None:
    def ill(handler: Handler) -> bool:
        if handler.command == "HEAD":
            handler.answer(403, b"")
        return handler.command == "HEAD"

    cart = uuid4()
    with Server(environment) as server:
        server.settled(server.upload(write_bundle(tmp_path / "b.tar"))["job_id"])
        assert ask(server, "POST", cart, all_files()).status_code == 201
        pacific.guard = ill
        waiting = "the archive cannot be asked: see the server's log"
        assert status(ask(server, "HEAD", cart)) == (204, "staging", waiting)
        assert "does not say whether it holds file 1" in server.log.read_text()
        pacific.guard = None
        assert status(ask(server, "HEAD", cart)) == (204, "ready", "")
        assert members_of(ask(server, "GET", f"{cart}?filename=data").content) == {
            f"data/{path}": data for path, data in FILES.items()
        }


@pytest.mark.skipif(
    find_spec("pacifica") is None or find_spec("pacifica.downloader") is None,
    reason="pacifica-downloader is not installed",
)
def test_the_released_downloader(server: Server, tmp_path: Path) -> None:
    records = requests.get(f"{server.url}/status/transactions/by_id/1", timeout=PATIENCE).json()["files"].values()
    (tmp_path / "event.json").write_text(json.dumps({"data": list(records)}))
    words = [sys.executable, "-c", DOWNLOADER, server.url, "1", str(tmp_path / "event.json"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    for folder in (tmp_path / "by_id" / "data", tmp_path / "by_event" / "other"):
        found = {f"data/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert found == FILES

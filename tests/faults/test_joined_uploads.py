"""Uploads that are joined while their server is killed, or by many at once: one job comes of it, nothing is lost."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests

from ingest_cli.server.uploads import final_name

from ..support.bundles import write_bundle
from ..support.serving import Server
from ..support.site import Site
from ..support.tus import PARTIAL, append, create, head, join, offset
from ..support.waiting import until

# Hundreds of megabytes, and servers beside each other.
pytestmark = pytest.mark.sweep

MB = 1_000_000


def send_parts(server: Server, content: bytes, length: int) -> list[str]:
    """Send the content in parts of so many bytes, and return their paths in order."""
    paths = []
    for at in range(0, len(content), length):
        piece = content[at : at + length]
        url = create(server, len(piece), PARTIAL)
        assert append(url, 0, piece).status_code == 204
        paths.append(url.removeprefix(server.url))
    return paths


@pytest.mark.parametrize("kills", [1, 4])
def test_a_server_that_is_killed_while_it_joins(environment: Path, site: Site, tmp_path: Path, kills: int) -> None:
    content = write_bundle(tmp_path / "b.tar", {"data/zeros": bytes(300 * MB), "data/a": os.urandom(9)}).read_bytes()
    spool = site.settings.spool
    with ExitStack() as stack:
        server = stack.enter_context(Server(environment))
        paths = send_parts(server, content, 70 * MB)
        parts = {spool / f"resumable-{path.rpartition('/')[2]}.tar" for path in paths}

        def final_length() -> int:
            return sum(path.stat().st_size for path in set(spool.glob("resumable-*.tar")) - parts)

        joined = 0
        for _ in range(kills):

            def ask(server: Server = server) -> None:
                with suppress(requests.ConnectionError):
                    join(server, paths)

            asking = threading.Thread(target=ask)
            asking.start()
            until(lambda begun=joined: final_length() > begun, every=0.001)  # type: ignore[misc]
            server.kill()
            asking.join()
            joined = final_length()
            assert joined < len(content), "it was too fast to be killed on its way"
            server = stack.enter_context(Server(environment))
            assert final_length() == joined
            lengths = [offset(server.url + path) for path in paths]
            assert sum(lengths) == len(content), "the parts are there still"
            final = head(f"{server.url}/files/{final_name([path.rpartition('/')[2] for path in paths])}")
            assert final.headers["Upload-Length"] == str(len(content))
            assert "Upload-Offset" not in final.headers, "there is nothing for a client to add"
            assert final.headers["Upload-Concat"] == f"final;{' '.join(paths)}"
        answer = join(server, paths)
        assert answer.status_code == 201
        assert server.settled(int(answer.headers["Ingest-Job-Id"]))["complete"]
        assert len(site.jobs()) == 1
        assert sum(map(len, site.contents().values())) == 300 * MB + 9
        until(lambda: not list(spool.glob("*.tar")))


def test_many_that_join_the_same_at_once(environment: Path, site: Site, tmp_path: Path) -> None:
    """At two servers of one spool."""
    content = write_bundle(tmp_path / "b.tar", {"data/zeros": bytes(20 * MB), "data/a": os.urandom(9)}).read_bytes()
    with Server(environment) as server, Server(environment) as other, ThreadPoolExecutor(20) as pool:
        paths = send_parts(server, content, 5 * MB)
        answers = list(pool.map(lambda number: join((server, other)[number % 2], paths), range(20)))
        assert {answer.status_code for answer in answers} <= {201, 423, 503}
        answers = [answer for answer in [*answers, join(server, paths), join(other, paths)] if answer.ok]
        assert len(answers) > 2
        assert len({(answer.headers["Location"], answer.headers["Ingest-Job-Id"]) for answer in answers}) == 1
        assert server.settled(int(answers[0].headers["Ingest-Job-Id"]))["complete"]
    assert len(site.jobs()) == 1
    assert sum(map(len, site.contents().values())) == 20 * MB + 9

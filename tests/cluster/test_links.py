"""What plays hosts and the ways between them does so: without this, nothing that holds below was ever tried."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.bundles import write_bundle
from ..support.cluster import Cluster, Host, cluster
from ..support.links import LOOPBACK, Exchange
from ..support.loopback import LoopbackServer, QuietHandler
from ..support.shown import is_stored
from ..support.waiting import PATIENCE, until

pytestmark = pytest.mark.cluster


class Counting(QuietHandler):
    """Answers each request, and counts what it has served."""

    served = 0

    def do_GET(self) -> None:
        type(self).served += 1
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"done")


@pytest.fixture
def service() -> Iterator[LoopbackServer]:
    Counting.served = 0
    with LoopbackServer(Counting) as server:
        yield server


def target(service: LoopbackServer) -> tuple[str, int]:
    return LOOPBACK, int(service.server_address[1])


@pytest.fixture
def two(tmp_path: Path, service: LoopbackServer) -> Iterator[Cluster]:
    def variables(links: object) -> dict[str, str]:
        return {"INGEST_DB": str(tmp_path / "shared" / "jobs.sqlite3")}

    with cluster(tmp_path, ["east", "west"], {"web": target(service)}, variables) as hosts:
        yield hosts


def test_what_is_sent_while_a_link_is_cut_arrives_later(service: LoopbackServer) -> None:
    with Exchange() as exchange:
        link = exchange.link(LOOPBACK, target(service))
        with socket.create_connection((link.address, link.port), timeout=0.3) as connection:
            link.cut()
            connection.sendall(b"GET / HTTP/1.1\r\nHost: it\r\n\r\n")
            with pytest.raises(TimeoutError):
                connection.recv(1)
            assert Counting.served == 0
            link.mend()
            connection.settimeout(20)
            assert connection.recv(1) == b"H"


def test_hosts_have_names_and_homes_of_their_own_and_share_the_jobs(two: Cluster, tmp_path: Path) -> None:
    east, west = two["east"], two["west"]
    assert east.run("--queue", write_bundle(tmp_path / "b.tar")).returncode == 0
    worker = west.start("worker")
    until(lambda: "job 1: " in worker.log.read_text())
    assert is_stored(json.loads(east.run("state", "1", "--json").stdout))
    assert (west.folder / "data").exists()
    assert worker.stop() == 0
    two.tend()
    assert worker.starts == 2


def test_a_host_whose_cable_is_pulled_reaches_nothing(two: Cluster, service: LoopbackServer) -> None:
    place = two["east"]

    def asks(place: Host, seconds: float = PATIENCE) -> bool:
        url = f"http://{place.links['web']}"
        return place.shell("python3", "-c", f"import urllib.request as r; r.urlopen('{url}', timeout={seconds})") == 0

    assert asks(place)
    place.cut()
    begun = time.monotonic()
    assert not asks(place, 1)
    assert time.monotonic() - begun > 0.9, "nobody is told"
    assert asks(two["west"])
    place.mend()
    assert asks(place)

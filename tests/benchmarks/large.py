"""Large bundles over HTTP: received by the server, and sent on to an archive of Pacifica's."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..support.bundles import write_bundle
from ..support.serving import OCTETS, Server
from .bundles import make_bundle
from .cases import GIB, Case, Measured, Turn, elapsed, ingest, ran


def cases(folder: Path) -> Iterator[Case]:
    """An upload to an archive of this machine's; then the way to one of Pacifica's, from a command and by a server."""
    bundle = make_bundle(folder, {"large.bin": GIB})
    bare = partial(put_bare, bundle)
    if shutil.which("nginx"):
        synced: dict[str, Turn] = {"nginx PUT, and fsync": partial(put_synced, bundle)}
        yield Case("POST of 1 GiB", partial(received, bundle), synced, aim=1.11)
    yield Case("1 GiB to a Pacifica archive", partial(ingested, bundle), {"bare PUT": bare}, aim=1.15)
    yield Case("the same through serve", partial(received_and_sent, bundle), {"bare PUT": bare})


def received(bundle: Path, place: Path) -> Measured:
    """Until the server has answered that it has the bundle."""
    with site_at(place), Server(place, "--quiet") as server:
        warm_up(server, place)
        return elapsed(lambda: send(server.port, "POST", "/upload", bundle))


def received_and_sent(bundle: Path, place: Path) -> Measured:
    """Until the job is complete."""

    def work(server: Server) -> None:
        state = server.settled(int(json.loads(send(server.port, "POST", "/upload", bundle))["job_id"]))
        assert state["state"] == "OK", state

    with sink(place) as port, site_at(place, port), Server(place, "--quiet") as server:
        warm_up(server, place)
        return elapsed(partial(work, server))


def warm_up(server: Server, place: Path) -> None:
    """The first upload of all makes the databases."""
    server.settled(server.upload(write_bundle(place / "first.tar"))["job_id"])


def ingested(bundle: Path, place: Path) -> Measured:
    """By a command."""
    with sink(place) as port, site_at(place, port):
        return ran([ingest("-q", bundle)])


def put_bare(bundle: Path, place: Path) -> Measured:
    """What nobody checks, by a client that copies nothing."""
    with sink(place) as port:
        return elapsed(lambda: send(port, "PUT", "/1", bundle.with_name("data") / "large.bin"))


def put_synced(bundle: Path, place: Path) -> Measured:
    """To nginx, which leaves it to the system when the file gets to the disk."""

    def work() -> None:
        send(port, "PUT", "/bundle.tar", bundle)
        with (place / "files" / "bundle.tar").open("rb") as file:
            os.fsync(file.fileno())

    with nginx(place) as port:
        return elapsed(work)


def send(port: int, method: str, path: str, body: Path) -> bytes:
    """Send a file from where the system has it, and return the body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.putrequest(method, path)
    for name, value in {**OCTETS, "Content-Length": str(body.stat().st_size)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    with body.open("rb") as file:
        connection.sock.sendfile(file)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status < 300, content
    return content


@contextmanager
def site_at(place: Path, port: int | None = None) -> Iterator[None]:
    """A site of its own, whose services answer at the port, if one is given."""
    before = dict(os.environ)
    os.environ |= {"XDG_DATA_HOME": str(place), "HOME": str(place)}
    if port is not None:
        url = f"http://127.0.0.1:{port}"
        services = {"UNIQUEID_URL": url, "ARCHIVEINTERFACE_URL": url}
        os.environ |= services | dict.fromkeys(["POLICY_INGEST_URL", "METADATA_INGEST_URL"], f"{url}/ingest")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


@contextmanager
def sink(place: Path) -> Iterator[int]:
    """The port of a site that writes files to ``place``."""
    folder = place / "archive"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.benchmarks.sink", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def nginx(place: Path) -> Iterator[int]:
    """The port of an nginx that puts files into ``files`` of ``place``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (place / "files").mkdir()
    (place / "nginx.conf").write_text(CONFIGURATION.format(place=place, port=port))
    place.chmod(0o755)
    command = ["nginx", "-p", str(place), "-c", str(place / "nginx.conf"), "-e", str(place / "log")]
    with subprocess.Popen(command) as process:
        try:
            await_port(port)
            yield port
        finally:
            process.terminate()


def await_port(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)


# A worker that copies nothing: what arrives is renamed to its place.
CONFIGURATION = """
daemon off;
master_process off;
pid {place}/pid;
events {{}}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path {place}/received;
    server {{
        listen 127.0.0.1:{port};
        root {place}/files;
        dav_methods PUT;
    }}
}}
"""

"""Clients of tus by others: tuspy, and tus-js-client under node, which the folder INGEST_TEST_TUS_JS has."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..support.bundles import write_bundle
from ..support.loopback import lasting_port
from ..support.serving import PATIENCE, Server
from ..support.site import Site
from ..support.tus import head, offset
from ..support.waiting import until

pytestmark = pytest.mark.sweep

FOLDER = os.environ.get("INGEST_TEST_TUS_JS", "")
PROGRAM = Path(__file__).parents[1] / "support" / "tus_client.js"
needs_js = pytest.mark.skipif(
    not FOLDER or shutil.which("node") is None, reason="INGEST_TEST_TUS_JS names no folder with tus-js-client"
)
RETRY = {"retryDelays": [50] * 200}
CHUNKS = {"chunkSize": 100_000}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """One that nobody has sent before."""
    return write_bundle(tmp_path / "b.tar", {"data/a": os.urandom(2_000_000), "data/b": os.urandom(10)})


def assert_stored(site: Site, server: Server, job_id: object, bundle: Path) -> None:
    """The bundle is stored, by one job."""
    assert server.settled(int(str(job_id)))["complete"]
    assert [job.job_id for job in site.jobs()] == [int(str(job_id))]
    content = bundle.read_bytes()
    assert all(stored in content for stored in site.contents().values())
    assert len(site.contents()) == 2


class JavaScript:
    """A process of tus-js-client at work."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: Path) -> None:
        self._process, self._out = process, out

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    @property
    def last(self) -> dict[str, Any]:
        """What it said last, when it has ended well."""
        assert self._process.wait(PATIENCE) == 0, self._out.read_text()
        return self.said[-1]

    def accepted(self, length: int) -> bool:
        """Whether the server has accepted so much of one upload."""
        assert self._process.poll() is None, self._out.read_text()
        return any(line.get("accepted", 0) >= length for line in self.said)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def javascript(endpoint: str, bundle: Path, **options: object) -> Iterator[JavaScript]:
    out = bundle.with_suffix(".said")
    with out.open("wb") as file:
        words = ["node", str(PROGRAM), FOLDER, endpoint, str(bundle), json.dumps(options)]
        process = subprocess.Popen(words, stdout=file, stderr=file)
    client = JavaScript(process, out)
    try:
        yield client
    finally:
        client.kill()


@needs_js
@pytest.mark.parametrize(
    "options",
    [
        {},
        {**CHUNKS, "metadata": {"filename": "b.tar", "note": "größer"}},
        {**CHUNKS, "overridePatchMethod": True},
        {"uploadDataDuringCreation": True},
        {**CHUNKS, "uploadDataDuringCreation": True},
        {"parallelUploads": 3, "metadata": {"filename": "b.tar"}},
        {"parallelUploads": 4, **CHUNKS, "overridePatchMethod": True, "uploadDataDuringCreation": True},
        {**CHUNKS, "endless": True, "uploadLengthDeferred": True},
        {**CHUNKS, "endless": True, "uploadLengthDeferred": True, "uploadDataDuringCreation": True},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize("path", ["/files", "/files/"])
def test_javascript(environment: Path, site: Site, bundle: Path, options: dict[str, Any], path: str) -> None:
    with Server(environment) as server, javascript(server.url + path, bundle, **options) as client:
        done = client.last
        assert_stored(site, server, done["job"], bundle)
        assert (
            head(done["url"]).headers.get("Upload-Metadata", "").startswith("filename" if "metadata" in options else "")
        )


@needs_js
@pytest.mark.parametrize(
    "options",
    [
        CHUNKS,
        {**CHUNKS, "parallelUploads": 3},
        {**CHUNKS, "endless": True, "uploadLengthDeferred": True},
        {**CHUNKS, "overridePatchMethod": True, "uploadDataDuringCreation": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_javascript_while_the_server_is_killed(
    environment: Path, site: Site, bundle: Path, options: dict[str, Any]
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(Server(environment, port=lasting_port()))
        client = stack.enter_context(javascript(f"{server.url}/files", bundle, **options, **RETRY))
        for length in (200_000, 400_000):
            until(lambda length=length: client.accepted(length), every=0.001)  # type: ignore[misc]
            server.kill()
            server = stack.enter_context(Server(environment, port=server.port))
        assert_stored(site, server, client.last["job"], bundle)
        assert any("retried" in line for line in client.said)


@needs_js
@pytest.mark.parametrize("parallel", [1, 3])
def test_javascript_that_is_killed_and_begins_again(
    environment: Path, site: Site, bundle: Path, parallel: int, tmp_path: Path
) -> None:
    options = {"chunkSize": 20_000, "storage": str(tmp_path / "uploads.json"), "parallelUploads": parallel}
    with Server(environment) as server:
        with javascript(f"{server.url}/files", bundle, **options) as client:
            until(lambda: client.accepted(100_000), every=0.001)
            client.kill()
        begun = {path.stem for path in site.settings.spool.glob("*.json")}
        assert len(begun) == parallel
        with javascript(f"{server.url}/files", bundle, **options) as again:
            assert_stored(site, server, again.last["job"], bundle)
            assert {"resumed": 1} in again.said
        left = {path.stem for path in site.settings.spool.glob("*.json")}
        assert len(left) == (1 if parallel == 1 else parallel + 1), "nothing was begun anew but the final upload"
        assert begun <= left


@needs_js
def test_javascript_that_gives_up(environment: Path, site: Site, bundle: Path) -> None:
    with Server(environment) as server:
        with javascript(f"{server.url}/files", bundle, abort=True, **CHUNKS) as client:
            assert client.last == {"aborted": True}
        (url,) = (line["url"] for line in client.said if "url" in line)
        assert head(url).status_code == 404
        assert list(site.settings.spool.iterdir()) == []


# tuspy


@pytest.mark.parametrize("with_checksum", [False, True])
@pytest.mark.parametrize("path", ["/files", "/files/"])
def test_tuspy_while_the_server_is_killed(
    environment: Path, site: Site, bundle: Path, with_checksum: bool, path: str
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(Server(environment, port=lasting_port()))
        file = stack.enter_context(bundle.open("rb"))
        client = tuspy(server.url + path)
        given = {"file_stream": file, "chunk_size": 100_000, "upload_checksum": with_checksum}
        uploader = client.uploader(**given, metadata={"filename": "b.tar"})
        uploader.upload(stop_at=500_000)
        server.kill()
        server = stack.enter_context(Server(environment, port=server.port))
        assert offset(uploader.url) == 500_000
        again = client.uploader(**given, url=uploader.url)
        again.upload()
        (job,) = site.jobs()
        assert_stored(site, server, job.job_id, bundle)
        assert head(again.url).headers["Upload-Metadata"] == "filename Yi50YXI="


def test_tuspy_tries_again_until_the_server_is_back(environment: Path, site: Site, bundle: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(Server(environment, port=lasting_port()))
        file = stack.enter_context(bundle.open("rb"))
        uploader = tuspy(f"{server.url}/files").uploader(
            file_stream=file, chunk_size=100_000, retries=1000, retry_delay=0.05
        )
        uploader.upload(stop_at=500_000)
        server.kill()
        pool = stack.enter_context(ThreadPoolExecutor())
        uploading = pool.submit(uploader.upload)
        server = stack.enter_context(Server(environment, port=server.port))
        uploading.result()
        (job,) = site.jobs()
        assert_stored(site, server, job.job_id, bundle)


def test_tuspy_that_is_asynchronous(environment: Path, site: Site, bundle: Path) -> None:
    with Server(environment) as server, bundle.open("rb") as file:
        uploader = tuspy(f"{server.url}/files/").async_uploader(file_stream=file, chunk_size=100_000)
        asyncio.run(uploader.upload())
        (job,) = site.jobs()
        assert_stored(site, server, job.job_id, bundle)


def tuspy(url: str) -> Any:
    return pytest.importorskip("tusclient.client", reason="tuspy is not installed").TusClient(url)

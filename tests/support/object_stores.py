"""Storage that speaks S3, on loopback: SeaweedFS, which is strict, and rclone, which is lax; and what fails between.

One of each serves all tests of a session, each of which has a bucket of its own.
"""

import http.client
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ingest_cli.services.s3.keys import MARK_NAME, parsed
from ingest_cli.services.s3.signing import signed_headers, url_of
from ingest_cli.settings import ObjectStore, S3Access

from .loopback import LoopbackServer, QuietHandler, lasting_port
from .waiting import until

# Whose name is found by nobody: only a proxy leads there.
DOMAIN = "storage.test"
SECOND_KEY_ID = "accesskey87654321"
KEY_ID, SECRET = "accesskey12345678", "secretkey12345678901234567890"
IDENTITY = {
    "name": "tests",
    "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
NUMBERS = itertools.count()
# A bucket takes seven.
MOST_VOLUMES = 5000


@dataclass(frozen=True)
class ObjectServer:
    """A server of storage. One that is ``strict`` has conditional writes and multipart uploads as Amazon's has them."""

    url: str
    strict: bool
    key_id: str = KEY_ID
    secret: str = field(default=SECRET, repr=False)

    @property
    def access(self) -> S3Access:
        return S3Access(endpoint=self.url, region="us-east-1", key_id=self.key_id, secret=self.secret, timeout=5.0)

    @cached_property
    def shared_bucket(self) -> str:
        """A bucket for tests that keep to a prefix of their own."""
        return self.new_bucket()

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        name = f"bucket-{os.getpid()}-{next(NUMBERS)}"
        assert self.asked("PUT", name).status_code == 200
        return name

    def asked(self, method: str, bucket: str, query: dict[str, str] | None = None, key: str = "") -> requests.Response:
        """What it answers to a request of its own user."""
        url = url_of(self.access, bucket, query or {}, key)
        return requests.request(method, url, headers=signed_headers(self.access, method, url, query or {}), timeout=30)

    def keys(self, bucket: str, prefix: str = "") -> set[str]:
        """The keys of all objects."""
        import obstore

        found = obstore.list(self.store(bucket), prefix or None)
        return {entry["path"] for page in found for entry in page}

    def uploads(self, bucket: str, prefix: str = "") -> int:
        """How many multipart uploads are unfinished."""
        return self.asked("GET", bucket, {"uploads": "", "prefix": prefix}).text.count("<UploadId>")

    def archived(self, place: ObjectStore) -> dict[int, bytes]:
        """Every file of the archive there, by its id; what is of none breaks the reading, as do an upload, and an
        object, or a pack, all of whose files a later run has stored anew."""
        archived: dict[int, bytes] = {}
        latest: dict[int, str] = {}
        keys = self.keys(place.bucket, place.prefix) - {f"{place.prefix}/{MARK_NAME}"}
        for key in sorted(keys, key=lambda key: int(key.removesuffix(".zip").rpartition(".")[2])):
            for file_id, content in self._files(place, key).items():
                if archived.setdefault(file_id, content) != content:
                    raise ValueError(f"{key} of {keys} holds another file {file_id}")
                latest[file_id] = key
        if set(latest.values()) != keys or self.uploads(place.bucket, place.prefix):
            raise ValueError(f"of {keys} only {set(latest.values())} are needed, or there are unfinished uploads")
        return archived

    def _files(self, place: ObjectStore, key: str) -> dict[int, bytes]:
        """What an object holds, as any program would read it."""
        import obstore

        data = bytes(obstore.get(self.store(place.bucket), key).bytes())
        if key.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(data)) as pack:
                return {int(name): pack.read(name) for name in pack.namelist()}
        ours = parsed(key.removeprefix(f"{place.prefix}/"))
        return {} if ours is None else {ours[0]: data}

    def store(self, bucket: str) -> Any:
        """The bucket, for obstore."""
        from obstore.store import S3Store

        return S3Store(
            bucket,
            endpoint=self.url,
            region="us-east-1",
            access_key_id=self.key_id,
            secret_access_key=self.secret,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def variables(self, bucket: str, prefix: str = "archive") -> dict[str, str]:
        """What a site's environment has that keeps its archive here."""
        return {
            "ARCHIVEINTERFACE_URL": f"s3://{bucket}/{prefix}",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }


def lacking() -> str | None:
    """What is missing here of what these servers and their client need; None where nothing is."""
    with suppress(ImportError):
        import obstore  # noqa: F401

        return next((f"there is no {name}" for name in ("weed", "rclone") if program(name) is None), None)
    return "there is no package obstore"


def program(name: str) -> str | None:
    """Where a program is that may have been installed beside this Python."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@contextmanager
def seaweedfs(folder: Path) -> Iterator[ObjectServer]:
    """SeaweedFS, with what it stores in the folder."""
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [IDENTITY]}))
    (folder / "data").mkdir()
    parts = ("master", "volume", "filer", "s3", "admin")
    ports = {f"{part}{kind}": lasting_port() for part in parts for kind in (".port", ".port.grpc")}
    words = [program("weed"), "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    words += [f"-{name}={port}" for name, port in ports.items()]
    words += [
        f"-s3.domainName={DOMAIN}",
        f"-s3.config={config}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        # By itself it takes no more than would fit its disk if they were full.
        f"-volume.max={MOST_VOLUMES}",
    ]
    words += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-filer.localSocket={folder}/f", f"-s3.localSocket={folder}/s"]
    with _running(words, folder, ports["s3.port"]) as url:
        yield ObjectServer(url, strict=True)


@contextmanager
def rclone(folder: Path) -> Iterator[ObjectServer]:
    """rclone's server of a folder: it knows no conditional writes, and tells nobody."""
    (folder / "data").mkdir()
    port = lasting_port()
    words = [program("rclone"), "serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}"]
    words += ["--auth-key", f"{KEY_ID},{SECRET}", "--auth-key", f"{SECOND_KEY_ID},{SECRET}"]
    words += ["--vfs-cache-mode", "off", "--config", str(folder / "config")]
    with _running(words, folder, port) as url:
        yield ObjectServer(url, strict=False)


@contextmanager
def _running(words: list[Any], folder: Path, port: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        surroundings = {**os.environ, "TMPDIR": str(folder)}
        running = subprocess.Popen(
            words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder, env=surroundings
        )
        try:
            until(lambda: _answers(url) or running.poll() is not None)
            assert running.poll() is None, (folder / "log").read_text(errors="replace")
            yield url
        finally:
            running.terminate()
            with suppress(subprocess.TimeoutExpired):
                running.wait(10)
            running.kill()
            running.wait()


def _answers(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(url, timeout=5).status_code < 500
    return False


# What becomes of a request on its way: it is passed on where nothing is said of it.
FAILED = "failed"  # 503, and it was not carried out
SLOWED = "slowed"  # 429, and it was not carried out
DAMAGED = "damaged"  # 400, since not what was sent arrived
BUSY = "busy"  # 409, since another request is at the same object
REFUSED = "refused"  # 403, and it was not carried out
EXPIRED = "expired"  # 400, as of a key that has ended, and it was not carried out
UNKNOWN = "unknown"  # 501, since storage does not know what is asked of it
CUT = "cut"  # its connection is closed, and it was not carried out
LOST = "lost"  # it was carried out, and its connection is closed
HALVED = "halved"  # half of the answer comes, then the connection is closed
HELD = "held"  # it is carried out once `release` is called
ANSWERS = {
    FAILED: (503, "ServiceUnavailable"),
    SLOWED: (429, "SlowDown"),
    REFUSED: (403, "AccessDenied"),
    UNKNOWN: (501, "NotImplemented"),
    EXPIRED: (400, "ExpiredToken"),
}
Decide = Callable[[str, str], str | None]


class Between(LoopbackServer):
    """Stands between a client and a server: ``decide`` is asked for each request, by its method and its target, what
    becomes of it. One that does not take conditions answers so to each request that has one."""

    def __init__(self, server: ObjectServer, decide: Decide = lambda _method, _target: None) -> None:
        super().__init__(_Passing)
        self.upstream, self.decide = urlsplit(server.url).netloc, decide
        self.seen: list[tuple[str, str]] = []
        self.holding, self._released = threading.Event(), threading.Event()
        self.strict, self.takes_conditions = server.strict, True

    @property
    def server(self) -> ObjectServer:
        """The server, as it is seen through this."""
        return ObjectServer(self.url, strict=self.strict)

    def release(self) -> None:
        """Have what is held be carried out."""
        self._released.set()

    def hold(self) -> None:
        self.holding.set()
        self._released.wait(60)

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is no failure of a test."""


def at_random(percent: float, what: tuple[str, ...] = (FAILED, SLOWED, CUT, LOST), seed: int = 1) -> Decide:
    """A share of all requests has one of these faults."""
    numbers, lock = random.Random(seed), threading.Lock()

    def decide(_method: str, _target: str) -> str | None:
        with lock:
            return numbers.choice(what) if numbers.random() * 100 < percent else None

    return decide


class _Passing(QuietHandler):
    server: Between

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path))
        fault = self.server.decide(self.command, self.path)
        if not self.path.startswith("/"):  # as a proxy is asked
            self.path = f"/{self.path.split('/', 3)[3]}"
        if fault is None and not self.server.takes_conditions and "If-None-Match" in self.headers:
            fault = UNKNOWN
        if fault in ANSWERS:
            status, code = ANSWERS[fault]
            self._answer(status, {}, f"<Error><Code>{code}</Code><Message>as asked for</Message></Error>".encode())
        elif fault == CUT:
            self.close_connection = True
        else:
            if fault == HELD:
                self.server.hold()
            status, headers, answer = self._carried_out(body)
            if fault == LOST:
                self.close_connection = True
            else:
                self._answer(status, headers, answer, halved=fault == HALVED)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _carried_out(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            # Whom it is for is signed.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, text in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    upstream.putheader(name, text)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, halved: bool = False) -> None:
        kept = {name: text for name, text in headers.items() if name.lower() not in ("connection", "transfer-encoding")}
        if self.command != "HEAD" and status not in (204, 304):
            kept = {name: text for name, text in kept.items() if name.lower() != "content-length"}
            kept["Content-Length"] = str(len(body))
        self.send_response_only(status)
        for name, text in kept.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if halved else body)
        self.close_connection = self.close_connection or halved

"""Where objects are: buckets in paths and in the names of hosts, prefixes of odd signs, certificates of authorities
that the system does not know. Each is asked for by obstore and by requests of our own, which are signed right."""

import random
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_cli.errors import ServiceUnavailable
from ingest_cli.settings import ObjectStore, S3Access

from ..support.object_stores import DOMAIN, Between, ObjectServer

pytestmark = pytest.mark.cluster

TLS = Path(__file__).parents[1] / "data" / "tls"
SIGNS = " +%~=&'(),;:@$!*#?[]{}<>\"|^`-_.aé日\u0301"


@pytest.fixture(params=["strict", "lax"])
def storage(request: pytest.FixtureRequest) -> ObjectServer:
    server: ObjectServer = request.getfixturevalue(f"{request.param}_storage")
    return server


def prefixes(number: int) -> Iterator[str]:
    """Each sign is in one of them at least."""
    numbers = random.Random(number)
    signs = numbers.sample(SIGNS, len(SIGNS))
    for first in range(0, len(signs), 8):
        yield f"x{''.join(signs[first : first + 8])}y/{''.join(numbers.choices(SIGNS, k=6))}z"


def try_all(place: ObjectStore, access: S3Access) -> None:
    """Ask for everything that an archive asks for, and find what is there, and nothing else."""
    from ingest_cli.services.s3.bucket import Bucket

    large = bytes(range(256)) * (5 << 10)  # more than one request takes
    with closing(Bucket(place, access, 2)) as bucket:
        bucket.put("k/1", b"one", {}, "put", create=True)
        bucket.upload("k/2", iter([large]), len(large), {}, "upload")
        begun = bucket._client.ask("POST", {"uploads": ""}, "begin", bucket.whole("k/3"))
        assert begun.ok
        assert [upload.key for upload in bucket.uploads("list")] == ["k/3"]
        for upload in bucket.uploads("list"):
            bucket.abort(upload, "end")
        assert not list(bucket.uploads("list"))
        found = bucket.object_at(*bucket.whole("k/1"), "look")
        assert found is not None
        bucket.copy(bucket.whole("k/1"), bucket.whole("k/4"), replace(found, notes={"note": "n"}), "copy")
        copied = bucket.find("k/4", "find")
        assert copied is not None
        assert (copied.size, copied.notes.get("note")) == (3, "n")
        for folder in ("", "k"):
            assert [key for key, _ in bucket.keys(folder, "list")] == ["k/1", "k/2", "k/4"]
        assert b"".join(bucket.get("k/2", 1 << 20, "get") or ()) == large[1 << 20 :]
        bucket.delete(["k/1", "k/2"], "delete")
        bucket.delete_at(*bucket.whole("k/4"), "delete")
        assert not list(bucket.keys("", "list"))


def test_prefixes_of_odd_signs(storage: ObjectServer) -> None:
    for prefix in prefixes(1):
        try_all(ObjectStore(storage.shared_bucket, prefix), storage.access)


@pytest.mark.parametrize("dots", [False, True], ids=["a plain name", "a name with dots"])
def test_a_bucket_in_the_name_of_the_host(
    strict_storage: ObjectServer, monkeypatch: pytest.MonkeyPatch, dots: bool
) -> None:
    """Which a proxy leads to, that is known by a variable."""
    name = strict_storage.new_bucket()
    if dots:
        name = f"{name}.with.dots"
        assert strict_storage.asked("PUT", name).ok
    with Between(strict_storage) as between:
        monkeypatch.setenv("http_proxy", between.url)
        access = replace(strict_storage.access, endpoint=f"http://{DOMAIN}", in_path=False)
        for prefix in ("", "odd +%~=&/ü"):
            try_all(ObjectStore(name, prefix), access)
        assert {target.split("/")[2] for _, target in between.seen} == {f"{name}.{DOMAIN}"}


class Secure(Between):
    scheme = "https"

    def __init__(self, server: ObjectServer) -> None:
        super().__init__(server)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


@pytest.fixture
def secure(strict_storage: ObjectServer) -> Iterator[S3Access]:
    with Secure(strict_storage) as between:
        yield replace(strict_storage.access, endpoint=between.url)


@pytest.mark.parametrize("by", ["ca_file", "SSL_CERT_FILE"])
def test_an_authority_of_the_sites_own(
    strict_storage: ObjectServer, secure: S3Access, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "ca_file":
        secure = replace(secure, ca_file=TLS / "ca.pem")
    else:
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    try_all(ObjectStore(strict_storage.shared_bucket, f"tls/{by}"), secure)


def test_an_authority_that_is_not_trusted(strict_storage: ObjectServer, secure: S3Access) -> None:
    from ingest_cli.services.s3.bucket import Bucket

    secure = replace(secure, timeout=1.0)
    with closing(Bucket(ObjectStore(strict_storage.shared_bucket, "tls"), secure, 1)) as bucket:
        with pytest.raises(ServiceUnavailable, match=r"see \[s3\] ca_file"):
            bucket.find("k", "look")
        with pytest.raises(ServiceUnavailable, match=r"(?i)certificate"):
            list(bucket.uploads("list"))

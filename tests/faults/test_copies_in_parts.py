"""Objects that storage does not copy with one request: copied part by part, and what of that fails, or comes late."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from ingest_cli.errors import ArchiveError, IngestError, RollbackFailed
from ingest_cli.services.base import Archive
from ingest_cli.settings import ObjectStore

from ..support.object_stores import CUT, FAILED, HALVED, HELD, LOST, Between, ObjectServer
from ..support.waiting import until

pytestmark = pytest.mark.cluster

IDS = range(600, 604)
PART = 5 << 20  # storage has no shorter parts but the last
DATA = random.Random(1).randbytes(2 * PART + 7)
Connect = Callable[[ObjectServer], Archive]

MOVE = """
import sys
from pathlib import Path
from ingest_cli.services.s3.archive import S3Archive
from ingest_cli.settings import ObjectStore, S3Access
endpoint, key_id, secret, bucket, prefix, source, size, part = sys.argv[1:]
access = S3Access(endpoint=endpoint, region="us-east-1", key_id=key_id, secret=secret)
archive = S3Archive(ObjectStore(bucket, prefix), access, most_copied=int(part))
archive.writer(range(600, 604), 1, resumed=False).move(600, Path(source), int(size), None)
"""


@pytest.fixture
def place(strict_storage: ObjectServer, tmp_path: Path) -> ObjectStore:
    return ObjectStore(strict_storage.shared_bucket, f"copies/{tmp_path.name}")


@pytest.fixture
def connect(place: ObjectStore) -> Iterator[Connect]:
    from ingest_cli.services.s3.archive import S3Archive

    with ExitStack() as stack:

        def made(server: ObjectServer) -> Archive:
            archive = S3Archive(place, server.access, most_copied=PART)
            stack.callback(archive.close)
            return archive

        yield made


@pytest.fixture
def source(strict_storage: ObjectServer, tmp_path: Path) -> Path:
    return put(strict_storage, f"instrument {tmp_path.name}/run+1 100% ü~=&/large.dat", DATA)


def put(server: ObjectServer, key: str, data: bytes) -> Path:
    import obstore

    obstore.put(server.store(server.shared_bucket), key, data)
    return Path("/", server.shared_bucket, key)


def content_at(server: ObjectServer, source: Path) -> bytes | None:
    import obstore

    try:
        return bytes(obstore.get(server.store(server.shared_bucket), "/".join(source.parts[2:])).bytes())
    except FileNotFoundError:
        return None


def test_what_is_moved_is_there_and_its_source_is_gone(
    strict_storage: ObjectServer, connect: Connect, place: ObjectStore, source: Path
) -> None:
    with Between(strict_storage) as between:
        archive = connect(between.server)
        writer = archive.writer(IDS, 1, resumed=False)
        writer.move(IDS[0], source, len(DATA), None)
        assert sum("partNumber" in target for _, target in between.seen) == 3
        writer.release(IDS[0], source, None)
        writer.flush()
        writer.close()
    assert content_at(strict_storage, source) is None
    assert strict_storage.archived(place) == {IDS[0]: DATA}


@pytest.mark.parametrize("killed", [False, True], ids=["once", "again by a run that knows nothing of it"])
def test_what_is_moved_back_is_where_it_was(
    strict_storage: ObjectServer, connect: Connect, place: ObjectStore, source: Path, killed: bool
) -> None:
    archive = connect(strict_storage)
    writer = archive.writer(IDS, 1, resumed=False)
    writer.move(IDS[0], source, len(DATA), None)
    writer.release(IDS[0], source, None)
    if killed:
        # What it deletes last is still in the archive.
        archive.writer(IDS, 2, resumed=True).move_back(IDS[0], source)
    writer = archive.writer(IDS, 3, resumed=True)
    writer.move_back(IDS[0], source)
    writer.flush()
    writer.close()
    assert content_at(strict_storage, source) == DATA
    assert strict_storage.archived(place) == {}


def test_another_object_that_came_to_be_there_is_kept(
    strict_storage: ObjectServer, connect: Connect, place: ObjectStore, source: Path
) -> None:
    writer = connect(strict_storage).writer(IDS, 1, resumed=False)
    writer.move(IDS[0], source, len(DATA), None)
    writer.release(IDS[0], source, None)
    put(strict_storage, "/".join(source.parts[2:]), b"another")
    with pytest.raises(RollbackFailed, match="another object"):
        writer.move_back(IDS[0], source)
    assert content_at(strict_storage, source) == b"another"
    assert strict_storage.archived(place) == {IDS[0]: DATA}


def test_an_object_that_is_replaced_meanwhile_is_not_stored(
    strict_storage: ObjectServer, connect: Connect, place: ObjectStore, source: Path
) -> None:
    def replace(_method: str, target: str) -> None:
        if "partNumber=3" in target and content_at(strict_storage, source) == DATA:
            put(strict_storage, "/".join(source.parts[2:]), DATA[::-1])

    with Between(strict_storage, replace) as between:
        writer = connect(between.server).writer(IDS, 1, resumed=False)
        with pytest.raises(ArchiveError, match="412 PreconditionFailed"):
            writer.move(IDS[0], source, len(DATA), None)
        writer.close()
    assert content_at(strict_storage, source) == DATA[::-1]
    assert strict_storage.archived(place) == {}


@pytest.mark.parametrize("fault", [FAILED, CUT, LOST, HALVED])
@pytest.mark.parametrize("part", ["?uploads", "partNumber=1", "partNumber=3", "?uploadId"])
def test_a_request_that_fails_once_is_made_again(
    strict_storage: ObjectServer, connect: Connect, place: ObjectStore, source: Path, part: str, fault: str
) -> None:
    with Between(strict_storage) as between:
        writer = connect(between.server).writer(IDS, 1, resumed=False)
        failing = count()
        between.decide = lambda method, target: (
            fault if method in ("PUT", "POST") and part in target and next(failing) == 0 else None
        )
        writer.move(IDS[0], source, len(DATA), None)
        writer.close()
        assert next(failing) > 1
    assert strict_storage.archived(place) == {IDS[0]: DATA}


def test_a_run_that_is_killed_in_the_midst(
    strict_storage: ObjectServer, connect: Connect, place: ObjectStore, source: Path
) -> None:
    running: list[subprocess.Popen[bytes]] = []

    def decide(_method: str, target: str) -> str | None:
        if "partNumber=2" not in target:
            return None
        until(lambda: running)
        os.kill(running[0].pid, signal.SIGKILL)
        return LOST

    with Between(strict_storage, decide) as between:
        server = between.server
        words = [server.url, server.key_id, server.secret, place.bucket, place.prefix, source, len(DATA), PART]
        running.append(subprocess.Popen([sys.executable, "-c", MOVE, *map(str, words)]))
        assert running[0].wait(60) == -signal.SIGKILL
    assert strict_storage.uploads(place.bucket, place.prefix) == 1
    heir = connect(strict_storage).writer(IDS, 2, resumed=True)
    assert strict_storage.uploads(place.bucket, place.prefix) == 0
    heir.move(IDS[0], source, len(DATA), None)
    heir.close()
    assert strict_storage.archived(place) == {IDS[0]: DATA}
    assert content_at(strict_storage, source) == DATA


@pytest.mark.parametrize("then", ["moved", "rolled back"])
def test_a_run_that_thaws_in_the_midst_changes_nothing(
    strict_storage: ObjectServer, connect: Connect, place: ObjectStore, source: Path, then: str
) -> None:
    """Even one that does not know that its job is another's by then."""
    with Between(strict_storage) as between, ThreadPoolExecutor(1) as pool:
        between.decide = lambda _method, target: HELD if "partNumber=2" in target else None
        frozen = connect(between.server).writer(IDS, 1, resumed=False)
        moving = pool.submit(frozen.move, IDS[0], source, len(DATA), None)
        assert between.holding.wait(30)
        heir = connect(strict_storage).writer(IDS, 2, resumed=True)
        if then == "moved":
            heir.move(IDS[0], source, len(DATA), None)
        else:
            heir.move_back(IDS[0], source)
        heir.flush()
        heir.close()
        between.release()
        error = moving.exception(60)
        assert isinstance(error, IngestError)
        assert error.transient
        frozen.close()
    assert content_at(strict_storage, source) == DATA
    assert strict_storage.archived(place) == ({IDS[0]: DATA} if then == "moved" else {})


def test_storage_that_copies_no_parts_is_told_of(lax_storage: ObjectServer, tmp_path: Path) -> None:
    from ingest_cli.services.s3.archive import S3Archive

    source = put(lax_storage, "instrument/large.dat", DATA)
    place = ObjectStore(lax_storage.shared_bucket, f"copies/{tmp_path.name}")
    archive = S3Archive(place, lax_storage.access, most_copied=PART)
    writer = archive.writer(IDS, 1, resumed=False)
    with pytest.raises(ArchiveError, match="copies no parts of objects"):
        writer.move(IDS[0], source, len(DATA), None)
    writer.close()
    assert content_at(lax_storage, source) == DATA
    assert lax_storage.archived(place) == {}
    archive.close()

"""What a run has sent to storage that speaks S3, and what is carried out when its job is another's by then."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ingest_cli.bundle.content import Content
from ingest_cli.errors import IngestError, LeaseLost
from ingest_cli.services.base import Archive, ArchiveWriter
from ingest_cli.settings import ObjectStore

from ..support.contents import Contents
from ..support.object_stores import HELD, Between, ObjectServer

pytestmark = pytest.mark.cluster

IDS = range(600, 604)
SMALL, LARGE = b"small", bytes(range(256)) * (70 << 10)  # the latter in three parts
PACKED, PACK_BELOW = b"small too", {b"small too": 1 << 20}
Connect = Callable[..., Archive]
KINDS = pytest.mark.parametrize("content", [SMALL, LARGE, PACKED], ids=["small", "large", "packed"])


@pytest.fixture
def place(strict_storage: ObjectServer, tmp_path: Path) -> ObjectStore:
    return ObjectStore(strict_storage.shared_bucket, f"late/{tmp_path.name}")


@pytest.fixture
def connect(place: ObjectStore) -> Iterator[Connect]:
    pytest.importorskip("obstore")
    from ingest_cli.services.s3.archive import S3Archive

    with ExitStack() as stack:

        def made(server: ObjectServer, content: bytes = SMALL) -> Archive:
            archive = S3Archive(place, server.access, pack_below=PACK_BELOW.get(content, 0))
            stack.callback(archive.close)
            return archive

        yield made


@pytest.fixture
def contents(tmp_path: Path) -> Iterator[Contents]:
    (tmp_path / "contents").mkdir()
    with Contents(tmp_path / "contents") as contents:
        yield contents


class Late:
    """A run with the fence 1 whose request is on its way, and stays there until the other run has done its work."""

    def __init__(self, between: Between, connect: Connect, content: bytes, contents: Contents) -> None:
        self._between, self.is_lost = between, False
        part = "partNumber=2" if content is LARGE else ".1"
        between.decide = lambda method, target: HELD if method == "PUT" and part in target else None
        self._pool = ThreadPoolExecutor(1)
        self._writer = connect(between.server, content).writer(IDS, 1, resumed=False, require=self._require)
        self._put: Future[None] = self._pool.submit(self._store, contents(content))
        assert between.holding.wait(30)

    def _store(self, content: Content) -> None:
        self._writer.put(IDS[0], content)
        self._writer.flush()

    def _require(self) -> None:
        if self.is_lost:
            raise LeaseLost("the job is another's")

    def arrive(self) -> IngestError | None:
        """Have the request be carried out; what comes of it for the run."""
        self._between.release()
        error = self._put.exception(60)
        self._pool.shutdown()
        assert error is None or isinstance(error, IngestError)
        return error


@contextmanager
def late(server: ObjectServer, connect: Connect, content: bytes, contents: Contents) -> Iterator[Late]:
    with Between(server) as between:
        yield Late(between, connect, content, contents)


def heir(connect: Connect, server: ObjectServer, content: bytes = SMALL) -> tuple[Archive, ArchiveWriter]:
    archive = connect(server, content)
    return archive, archive.writer(IDS, 2, resumed=True)


def undo(writer: ArchiveWriter) -> None:
    for file_id in IDS:
        writer.delete(file_id)
    writer.flush()
    writer.close()


@KINDS
def test_what_was_rolled_back_stays_so(
    strict_storage: ObjectServer, connect: Connect, contents: Contents, place: ObjectStore, content: bytes
) -> None:
    with late(strict_storage, connect, content, contents) as run:
        archive, writer = heir(connect, strict_storage)
        undo(writer)
        run.is_lost = True
        assert run.arrive() is not None
        assert archive.stat(IDS[0]) is None
        assert strict_storage.archived(place) == {}


@KINDS
def test_what_another_run_stored_stays_so(
    strict_storage: ObjectServer, connect: Connect, contents: Contents, place: ObjectStore, content: bytes
) -> None:
    with late(strict_storage, connect, content, contents) as run:
        _, writer = heir(connect, strict_storage, content)
        writer.put(IDS[0], contents(content))
        writer.flush()
        writer.close()
        run.is_lost = True
        assert run.arrive() is not None
    assert strict_storage.archived(place) == {IDS[0]: content}


def test_an_upload_in_parts_that_another_run_has_ended_is_never_finished(
    strict_storage: ObjectServer, connect: Connect, contents: Contents, place: ObjectStore
) -> None:
    """Even by a run that does not know that its job is another's."""
    with late(strict_storage, connect, LARGE, contents) as run:
        undo(heir(connect, strict_storage)[1])
        assert run.arrive() is not None
    assert strict_storage.archived(place) == {}


@pytest.mark.parametrize("content", [SMALL, PACKED], ids=["small", "packed"])
def test_a_small_file_of_a_run_that_never_learns_of_it_is_listed(
    strict_storage: ObjectServer, connect: Connect, contents: Contents, content: bytes
) -> None:
    with late(strict_storage, connect, content, contents) as run:
        archive, writer = heir(connect, strict_storage)
        undo(writer)
        assert run.arrive() is None
        assert [file.file_id for file in archive.list_files() or ()] == [IDS[0]]


@pytest.mark.parametrize("content", [SMALL, PACKED], ids=["small", "packed"])
def test_a_run_that_is_undone_late_deletes_nothing_of_a_later_one(
    strict_storage: ObjectServer, connect: Connect, contents: Contents, place: ObjectStore, content: bytes
) -> None:
    first = connect(strict_storage, content).writer(IDS, 1, resumed=False)
    first.put(IDS[0], contents(content))
    first.flush()
    undone = heir(connect, strict_storage)[1]
    third = connect(strict_storage, content).writer(IDS, 3, resumed=True)
    third.put(IDS[0], contents(content))
    third.flush()
    undo(undone)
    assert strict_storage.archived(place) == {IDS[0]: content}

"""Runs of a job that store files in packs, and end anywhere: what the next one makes of it."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest_cli.bundle.content import Content
from ingest_cli.errors import LeaseLost, ServiceUnavailable, Unavailable
from ingest_cli.in_threads import done_in_threads
from ingest_cli.meter import NOBODY, Meter
from ingest_cli.services.base import Archive, ArchiveWriter
from ingest_cli.settings import ObjectStore

from ..support.object_stores import CUT, FAILED, LOST, Between, ObjectServer

pytestmark = pytest.mark.cluster

PACK_BELOW = 4096
SIZES = (0, 1, 10, 300, 300, 4096)
Connect = Callable[..., Archive]


@pytest.fixture
def place(strict_storage: ObjectServer, tmp_path: Path) -> ObjectStore:
    return ObjectStore(strict_storage.shared_bucket, f"packs/{tmp_path.name}")


@pytest.fixture
def connect(place: ObjectStore) -> Iterator[Connect]:
    pytest.importorskip("obstore")
    from ingest_cli.services.s3.archive import S3Archive

    with ExitStack() as stack:

        def made(server: ObjectServer, pack_below: int = PACK_BELOW) -> Archive:
            archive = S3Archive(place, server.access, transfers=4, pack_below=pack_below)
            stack.callback(archive.close)
            return archive

        yield made


class Job:
    """A job with ids of its own, whose runs store its files as the pipeline does it: noted is what was flushed."""

    def __init__(self, ids: range, files: dict[int, bytes], chance: random.Random) -> None:
        self.ids, self.files, self._chance = ids, files, chance
        self.noted = self.fence = self.holder = 0

    def run(self, archive: Archive, *, until: int | None, dies: bool = True) -> bool:
        """One more run, which is killed when it has stored so many files, or, if it ``dies``, now and then before it
        has noted what it flushed; whether it came to its end."""
        self.fence = self.holder = fence = self.fence + 1

        def require() -> None:
            if self.holder != fence:
                raise LeaseLost("the job is another's")

        def put(position: int, _: Meter) -> None:
            writer.put(self.ids[position], content_of(self.files[self.ids[position]]))

        try:
            writer = archive.writer(self.ids, fence, resumed=fence > 1, require=require)
            left = range(self.noted, len(self.ids))
            done = done_in_threads(put, left, lambda position: len(self.files[self.ids[position]]), NOBODY, 4, 1)
            for position, _ in done:
                if position == until:
                    self.holder = 0
                    return False
                if self._chance.random() < 0.02:
                    self._note(writer, position + 1, dies=dies)
            self._note(writer, len(self.ids), dies=dies)
            writer.close()
        except (Unavailable, LeaseLost):
            return False
        return True

    def undo(self, archive: Archive) -> None:
        """A run that rolls back, with a fence of its own."""
        self.fence = self.holder = self.fence + 1
        writer = archive.writer(self.ids, self.fence, resumed=True)
        for file_id in reversed(self.ids):
            writer.delete(file_id)
        writer.flush()
        writer.close()

    def _note(self, writer: ArchiveWriter, stored: int, *, dies: bool) -> None:
        writer.flush()
        if dies and self._chance.random() < 0.3:
            raise LeaseLost("killed")
        self.noted = stored


def content_of(data: bytes) -> Content:
    """A file that was hashed before."""
    hashsum = hashlib.sha1(data).hexdigest()
    return Content("a file", -1, 0, len(data), 1.5e9, "sha1", hashsum, observe=lambda _: None, kept=[data])


def job_of(first: int, chance: random.Random) -> Job:
    ids = range(first, first + chance.choice([1, 3, 40, 270]))
    return Job(ids, {file_id: chance.randbytes(chance.choice(SIZES)) for file_id in ids}, chance)


def disturb(between: Between, chance: random.Random) -> None:
    """From some request on all of them fail, in one way or another, or each now and then."""
    share, what = chance.choice([0.0, 0.05, 1.0]), (FAILED, CUT, LOST)
    number, begin = 0, chance.randrange(40)
    numbers = random.Random(chance.random())

    def decide(_method: str, _target: str) -> str | None:
        nonlocal number
        number += 1
        return numbers.choice(what) if number > begin and numbers.random() < share else None

    between.decide = decide


@pytest.mark.parametrize("seed", range(3))
def test_jobs_that_end_anywhere_are_stored_once_or_not_at_all(
    strict_storage: ObjectServer,
    connect: Connect,
    place: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    from ingest_cli.services.s3 import patience, stores

    for module in (patience, stores):
        monkeypatch.setattr(module, "RETRIES", 1)
    chance = random.Random(seed)
    first, expected = chance.randrange(1000), dict[int, bytes]()
    with Between(strict_storage) as between:
        for _ in range(3):
            job = job_of(first, chance)
            first = job.ids.stop
            for _ in range(chance.randrange(4)):
                disturb(between, chance)
                # Whoever resumes it may be told to pack less.
                below = chance.choice([PACK_BELOW, PACK_BELOW, PACK_BELOW, 200])
                job.run(connect(between.server, below), until=chance.choice([None, chance.randrange(600)]))
            between.decide = lambda _method, _target: None
            archive = connect(between.server, chance.choice([PACK_BELOW, 0]))
            if chance.random() < 0.3:
                job.undo(archive)
            else:
                assert job.run(archive, until=None, dies=False)
                expected |= job.files
    assert strict_storage.archived(place) == expected
    archive = connect(strict_storage)
    assert {file_id: b"".join(archive.read(file_id)) for file_id in expected} == expected
    listed = list(archive.list_files() or ())
    assert sorted(file.file_id or -1 for file in listed) == sorted(expected)
    assert all(file.file_id in (file.beside or (file.file_id,)) for file in listed)
    some = [chance.choice(list(expected)) for _ in range(20 if expected else 0)]
    for file_id in some:
        start = chance.randrange(len(expected[file_id]) + 1)
        assert b"".join(archive.read(file_id, start)) == expected[file_id][start:]
        assert archive.stat(file_id) == len(expected[file_id])


def test_a_pack_that_another_run_has_replaced_is_looked_for_anew(
    strict_storage: ObjectServer, connect: Connect
) -> None:
    """By whoever has read in it a moment ago."""
    ids = range(2000, 2003)
    first = connect(strict_storage).writer(ids, 1, resumed=False)
    for file_id in ids:
        first.put(file_id, content_of(b"the same"))
    first.flush()
    reader = connect(strict_storage)
    assert b"".join(reader.read(2000)) == b"the same"
    second = connect(strict_storage).writer(ids, 2, resumed=True)
    for file_id in ids:
        second.put(file_id, content_of(b"the same"))
    second.flush()
    assert [b"".join(reader.read(file_id)) for file_id in ids] == [b"the same"] * 3


def test_what_one_thread_fails_to_send_is_sent_with_the_flush_or_that_fails(
    strict_storage: ObjectServer, connect: Connect, place: ObjectStore
) -> None:
    ids = range(256 * 9, 256 * 10)
    with Between(strict_storage) as between:
        writer = connect(between.server).writer(ids, 1, resumed=False)
        for file_id in ids[:-1]:
            writer.put(file_id, content_of(b"small"))
        between.decide = lambda method, _target: "refused" if method == "PUT" else None
        with pytest.raises(ServiceUnavailable):
            writer.put(ids[-1], content_of(b"last"))
        with pytest.raises(ServiceUnavailable):
            writer.flush()
        assert strict_storage.archived(place) == {}
        between.decide = lambda _method, _target: None
        writer.flush()
    assert strict_storage.archived(place) == {**dict.fromkeys(ids[:-1], b"small"), ids[-1]: b"last"}

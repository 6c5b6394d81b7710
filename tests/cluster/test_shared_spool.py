"""The spool that several servers share: whoever writes an upload, nothing of it is lost, nor of anybody else's."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from ingest_cli.errors import ResourceUnavailable, SourceError
from ingest_cli.jobs import postgres_connections
from ingest_cli.jobs.job import Job, JobKind
from ingest_cli.jobs.postgres_connections import pool_of
from ingest_cli.jobs.spool import Locked, SpoolKind
from ingest_cli.server.async_store import AsyncStore
from ingest_cli.server.shared_file import LARGEST_PIECE, SMALL_PIECE, SharedFile
from ingest_cli.server.shared_uploads import SharedReceptions, SharedUploads
from ingest_cli.server.uploads import Upload
from ingest_cli.services.s3.bucket import Bucket
from ingest_cli.settings import ObjectStore, PostgresUrl, load_settings
from ingest_cli.spool.rows import Gone, Piece, UploadRows
from ingest_cli.spool.shared import WRITING_BYTES, SharedSpool, Writers

from ..support.object_stores import REFUSED, Between, ObjectServer
from ..support.postgres import PostgresServer
from ..support.waiting import PATIENCE, until

pytestmark = pytest.mark.cluster
BEAT, STALE = 0.2, 4.0


@pytest.fixture
def spools(postgres: PostgresUrl, strict_storage: ObjectServer) -> Iterator[Callable[..., SharedSpool]]:
    """Makes the spool as each of several servers has it."""
    place = ObjectStore(strict_storage.new_bucket(), "spool")
    with ExitStack() as stack:

        def another(**given: int) -> SharedSpool:
            spool = SharedSpool(
                UploadRows(pool_of(postgres)), Bucket(place, strict_storage.access, 4), beat=BEAT, stale=STALE, **given
            )
            stack.callback(spool.close)
            return spool

        yield another


def opened(spool: SharedSpool, upload: Upload) -> SharedFile:
    """The upload, as soon as this server has it."""
    opening = SharedUploads(spool).opening(upload)
    found: list[SharedFile] = []

    def tried() -> bool:
        try:
            file = opening()
        except Locked:
            return False
        assert isinstance(file, SharedFile)
        found.append(file)
        return True

    until(tried)
    return found[0]


def written(spool: SharedSpool, upload: Upload, content: bytes) -> None:
    with opened(spool, upload) as file:
        file.write(content)
        file.sync()


def content_of(spool: SharedSpool, upload: Upload, scratch: Path) -> bytes:
    with spool.fetch(upload.source, scratch, lambda: None, lambda _: None).file as file:
        return file.read()


def heartbeat(spool: SharedSpool, upload: Upload) -> int:
    row = spool.rows.find(f"resumable-{upload.name}.tar")
    assert row is not None
    return row.heartbeat


def put(spool: SharedSpool, key: str, data: bytes) -> None:
    spool.bucket.put(key, data, {}, "put", create=False)


def keys(spool: SharedSpool) -> set[str]:
    return {key for key, _ in spool.bucket.keys("", "list")}


def orphans(spool: SharedSpool) -> set[str]:
    return {key for batch in spool.orphans() for key in batch}


def test_pieces_of_any_length_come_through_any_server_and_back(
    spools: Callable[[], SharedSpool], tmp_path: Path
) -> None:
    numbers, servers = random.Random(1), [spools(), spools()]
    upload = SharedUploads(servers[0]).create(None, "user", "client")
    content = b""
    for _ in range(60):
        piece = numbers.randbytes(numbers.choice([1, 700, 30_000, 300_000, 2_000_000]))
        written(numbers.choice(servers), upload, piece)
        content += piece
    assert SharedUploads(servers[1]).standing(upload).offset == len(content)
    assert content_of(servers[1], upload, tmp_path) == content
    pieces = servers[0].rows.pieces("resumable-" + upload.name + ".tar")
    assert keys(servers[0]) == {piece.key for piece in pieces}
    small = [piece for piece in pieces if piece.length < SMALL_PIECE // 4]
    assert len(small) < 30


def test_small_pieces_become_larger_ones(spools: Callable[[], SharedSpool], tmp_path: Path) -> None:
    spool = spools()
    upload = SharedUploads(spool).create(None, "user", "client")
    content = random.Random(2).randbytes(100 * 130)
    for start in range(0, len(content), 130):
        written(spool, upload, content[start : start + 130])
    pieces = spool.rows.pieces(f"resumable-{upload.name}.tar")
    assert len(pieces) < 10
    assert content_of(spool, upload, tmp_path) == content
    assert keys(spool) == {piece.key for piece in pieces}


def test_uploads_that_have_all_threads_write_at_once_are_written(
    spools: Callable[..., SharedSpool], tmp_path: Path
) -> None:
    spool = spools(writers=1)
    uploads = [SharedUploads(spool).create(None, "user", "client") for _ in range(2)]
    content = random.Random(3).randbytes(3 * LARGEST_PIECE + 1)
    half = len(content) // 2

    def send(upload: Upload) -> None:
        with opened(spool, upload) as file:
            file.write(content[:half])
            file.write(content[half:])
            file.sync()

    senders = [threading.Thread(target=send, args=[upload], daemon=True) for upload in uploads]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(PATIENCE)
    assert [content_of(spool, upload, tmp_path) == content for upload in uploads] == [True, True]


def test_no_more_waits_in_memory_than_there_is_room_for() -> None:
    writers, may_end, begun = Writers(3), threading.Event(), list[Future[Piece]]()

    def write() -> Piece:
        may_end.wait(PATIENCE)
        return Piece(0, 0, "", "")

    def begin() -> None:
        begun.extend(writers.begin(write, WRITING_BYTES // 2) for _ in range(4))

    sender = threading.Thread(target=begin, daemon=True)
    sender.start()
    sender.join(1)
    assert sender.is_alive()
    may_end.set()
    sender.join(PATIENCE)
    assert all(future.result(PATIENCE) for future in begun)


def test_who_lives_keeps_an_upload_and_who_does_not_loses_it(spools: Callable[[], SharedSpool], tmp_path: Path) -> None:
    living, frozen, next_one = spools(), spools(), spools()
    upload = SharedUploads(living).create(None, "user", "client")
    with opened(living, upload) as held:
        opening = SharedUploads(next_one).opening(upload)
        deadline = time.monotonic() + 2 * STALE
        while time.monotonic() < deadline:
            with pytest.raises(Locked):
                opening()
            time.sleep(0.1)
        held.write(b"from the living")
        held.sync()
    stopped = opened(frozen, upload)
    frozen.leases.close()  # nobody hears of it any more
    stopped.write(b" and what is not known to have come")
    with opened(next_one, upload) as file:
        file.write(b", and from the next")
        file.sync()
    with pytest.raises(Locked):
        stopped.sync()
    stopped.write(b"more")
    stopped.sync()
    with pytest.raises(Locked):
        stopped.entered_as(1)
    stopped.__exit__()
    assert content_of(next_one, upload, tmp_path) == b"from the living, and from the next"
    assert orphans(living) == set()
    assert keys(living) == {piece.key for piece in living.rows.pieces(f"resumable-{upload.name}.tar")}


def test_an_upload_that_somebody_is_changing_does_not_keep_the_holders_of_others_from_being_alive(
    spools: Callable[[], SharedSpool],
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_connections, "PATIENCE_SECONDS", 10 * PATIENCE)
    spool, other = spools(), spools()
    changing, beside = (SharedUploads(spool).create(None, "user", "client") for _ in range(2))
    with opened(spool, changing) as changed, opened(spool, beside):
        with psycopg.connect(postgres.text) as connection:
            name = f"resumable-{changing.name}.tar"
            connection.execute("SELECT FROM uploads WHERE name = %s FOR UPDATE", [name])
            # They have all connections that there are, and wait.
            waiting = [
                threading.Thread(target=changed.declare, args=[length], daemon=True)
                for length in range(postgres_connections.MOST)
            ]
            for thread in waiting:
                thread.start()
            until(lambda: postgres_server.waiting_for_locks(postgres) == len(waiting))
            before = heartbeat(other, beside)
            until(lambda: heartbeat(other, beside) > before + 3)
        for thread in waiting:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_it_is_tried_out_though_all_connections_are_taken_and_nothing_is_left_that_is_not_found(
    spools: Callable[[], SharedSpool],
    postgres: PostgresUrl,
    strict_storage: ObjectServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, bucket, done = pool_of(postgres), spools().bucket, list[bool]()

    def decide(method: str, _: str) -> str | None:
        return REFUSED if method == "POST" else None

    with Between(strict_storage, decide) as between:
        rows, keeping = UploadRows(pool), Bucket(bucket.place, between.server.access, 1)
        spool, leaving = SharedSpool(rows, bucket), SharedSpool(rows, keeping)
        taken = [pool.take()[0] for _ in range(postgres_connections.MOST)]
        monkeypatch.setattr(postgres_connections, "PATIENCE_SECONDS", 10 * PATIENCE)

        def try_out() -> None:
            SharedReceptions(spool).try_out(0)
            done.append(not keys(spool))
            SharedReceptions(leaving).try_out(0)
            done.append(len(keys(spool)) == 1)

        threading.Thread(target=try_out, daemon=True).start()
        until(lambda: len(done) == 2)
        for connection in taken:
            pool.give_back(connection)
        assert done == [True, True]
        assert orphans(spool) == keys(spool)
        keeping.close()
        rows.close()


def test_who_held_an_upload_as_the_database_lost_its_power_holds_it_no_more_than_the_next(
    spools: Callable[..., SharedSpool], postgres_server: PostgresServer, tmp_path: Path
) -> None:
    one, two = spools(), spools()
    upload = SharedUploads(one).create(10, "user", "client")
    with opened(one, upload) as first:
        first.write(b"first")
        postgres_server.kill()
        postgres_server.start()
        one.leases.close()
        with opened(two, upload) as second:
            with pytest.raises(Locked):
                first.sync()
            second.write(b"second")
            second.sync()
    assert content_of(two, upload, tmp_path) == b"second"


def test_what_is_in_doubt_does_not_count_until_it_is_trusted(spools: Callable[[], SharedSpool], tmp_path: Path) -> None:
    spool, other = spools(), spools()
    uploads = SharedUploads(spool)
    upload = uploads.create(None, "user", "client")
    written(spool, upload, b"certain")
    long = random.Random(3).randbytes(9 << 20)
    with opened(spool, upload) as file:
        uploads.doubt(upload, file)
        file.write(long)
        file.sync()
        assert uploads.standing(upload).offset == len(b"certain")
        file.cut(len(b"certain"))
        uploads.trust(upload, file)
    assert len(keys(spool)) == 1
    with opened(spool, upload) as file:
        uploads.doubt(upload, file)
        file.write(long)
        file.sync()
        uploads.trust(upload, file)
    assert content_of(other, upload, tmp_path) == b"certain" + long
    killed = opened(other, upload)
    SharedUploads(other).doubt(upload, killed)
    killed.write(b"lost")
    killed.sync()
    other.leases.close()
    written(spool, upload, b", and more")
    assert content_of(spool, upload, tmp_path) == b"certain" + long + b", and more"
    assert len(orphans(spool)) == 1
    for batch in spool.orphans():
        spool.forget(batch)
    assert keys(spool) == {piece.key for piece in spool.rows.pieces(f"resumable-{upload.name}.tar")}


def test_parts_are_joined_without_being_copied(spools: Callable[[], SharedSpool], tmp_path: Path) -> None:
    spool = spools()
    uploads = SharedUploads(spool)
    parts = [uploads.create(5, "user", "client", concat="partial") for _ in range(2)]
    for part, content in zip(parts, (b"first", b"other"), strict=True):
        written(spool, part, content)
    before = keys(spool)
    names = [parts[0].name, parts[1].name, parts[0].name]
    final = uploads.create(15, "user", "client", concat=f"final;{' '.join(f'/files/{name}' for name in names)}")
    with opened(spool, final) as file:
        for _ in range(2):  # asked again, it is the same
            file.join([f"resumable-{name}.tar" for name in names])
    assert keys(spool) == before
    uploads.remove_parts(final)
    assert [uploads.standing(part).offset for part in parts] == [None, None]
    assert content_of(spool, final, tmp_path) == b"firstotherfirst"
    again = uploads.create(5, "user", "client", concat=f"final;/files/{parts[1].name}")
    with opened(spool, again) as file, pytest.raises(Gone):
        file.join([f"resumable-{parts[1].name}.tar"])
    spool.remove_bytes(final.source)
    assert keys(spool) == set()
    assert uploads.find(final.name) == final
    with pytest.raises(SourceError, match="not in the spool any more"):
        content_of(spool, final, tmp_path)


def test_what_nobody_can_need_is_found_and_nothing_else(spools: Callable[[], SharedSpool]) -> None:
    spool, killed = spools(), spools()
    upload = SharedUploads(spool).create(10, "user", "client")
    with opened(spool, upload) as file:
        SharedUploads(spool).doubt(upload, file)
        file.write(b"under way")
        file.sync()
        assert orphans(spool) == set()
        with SharedReceptions(killed).fresh(".tar") as received:
            received.write(b"x")
            received.sync()
            received.keep()
        (key,) = {key for key in keys(spool) if "received-" in key}
        assert orphans(spool) == set()
        spool.rows.remove(received.source.rpartition("/")[2])
        assert orphans(spool) == {key}
        put(spool, "theirs/1-x", b"of another program")
        assert orphans(spool) == {key}
    assert orphans(spool) == {key}


def test_an_upload_that_nobody_touched_is_left_unless_a_job_needs_it(
    spools: Callable[[], SharedSpool], postgres: PostgresUrl
) -> None:
    spool = spools()
    uploads = SharedUploads(spool)
    fresh, empty, old = (uploads.create(10, "user", "client") for _ in range(3))

    def is_left(upload: Upload) -> bool:
        found = uploads.find(upload.name)
        return found is not None and found.is_left

    written(spool, old, b"something")
    with psycopg.connect(postgres.text) as connection:
        age(connection, empty, 3601)
        age(connection, old, SpoolKind.RESUMABLE.untouched.total_seconds() - 60)
    assert [is_left(upload) for upload in (fresh, empty, old)] == [False, True, False]
    with psycopg.connect(postgres.text) as connection:
        age(connection, old, SpoolKind.RESUMABLE.untouched.total_seconds() + 60)
    assert is_left(old)
    with opened(spool, old):  # at the last moment
        spool.remove_left(old.source)
        assert uploads.standing(old).offset == len(b"something")
        with psycopg.connect(postgres.text) as connection:
            age(connection, old, SpoolKind.RESUMABLE.untouched.total_seconds() + 60)
        until(lambda: not is_left(old))  # who holds it says so


def age(connection: "psycopg.Connection[tuple[object, ...]]", upload: Upload, seconds: float) -> None:
    connection.execute(
        "UPDATE uploads SET touched = now() - make_interval(secs => %s) WHERE name = %s",
        (seconds, f"resumable-{upload.name}.tar"),
    )


def test_an_object_that_is_another_by_now_is_not_what_was_written(
    spools: Callable[[], SharedSpool], tmp_path: Path
) -> None:
    spool = spools()
    upload = SharedUploads(spool).create(None, "user", "client")
    written(spool, upload, b"as it was")
    (piece,) = spool.rows.pieces(f"resumable-{upload.name}.tar")
    put(spool, piece.key, b"as it is ")
    with pytest.raises(ResourceUnavailable, match="is not what was written"):
        content_of(spool, upload, tmp_path)
    spool.bucket.delete([piece.key], "delete")
    with pytest.raises(ResourceUnavailable, match="is not there"):
        content_of(spool, upload, tmp_path)


class Thawed(SharedFile):
    """An upload whose server was frozen between noting the id of its job and entering it."""

    noted = 0

    def entered_as(self, job_id: int) -> int:
        return self.noted


def test_of_an_upload_one_job_is_entered_even_by_a_server_that_thaws(
    spools: Callable[[], SharedSpool], postgres: PostgresUrl, tmp_path: Path
) -> None:
    frozen, other = spools(), spools()
    upload = SharedUploads(frozen).create(5, "user", "client")
    written(frozen, upload, b"whole")
    with opened(frozen, upload) as file:
        noted = file.entered_as(7)
        row = frozen.rows.find(f"resumable-{upload.name}.tar")
        assert row is not None
        frozen.leases.close()
        with opened(other, upload) as again:
            assert again.entered_as(8) == noted == 7
        thawed = Thawed(frozen, row, new=False)
        thawed.noted = noted
    environment = {"INGEST_DATABASE_URL": postgres.text, "HOME": str(tmp_path)}

    async def entered() -> list[Job]:
        store = AsyncStore(load_settings(environment=environment), max_waiting=10)
        try:
            with opened(other, upload) as again:
                first = await store.submit(9, JobKind.BUNDLE, again, "user", "name")
            return [first, await store.submit(7, JobKind.BUNDLE, thawed, "user", "name")]
        finally:
            await store.close()

    assert [job.job_id for job in asyncio.run(entered())] == [7, 7]

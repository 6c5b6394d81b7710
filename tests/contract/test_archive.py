"""What every archive promises, whatever keeps the files: one suite, inherited for each."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest_cli.errors import ArchiveError, FileRefused, IngestError, LeaseLost, RollbackFailed, SourceChanged
from ingest_cli.services.base import Archive, ArchivedFile, ArchiveWriter
from ingest_cli.services.embedded.archive import EmbeddedArchive
from ingest_cli.services.pacifica.archive import PacificaArchive
from ingest_cli.settings import Endpoint, ObjectStore

from ..support.contents import Contents
from ..support.object_stores import ObjectServer
from ..support.pacifica_double import PacificaSite
from ..support.site import is_mark

IDS = range(0x3039, 0x3039 + 4)
LARGE = bytes(range(256)) * (3 << 12) + b"the end"  # three pieces of 1 MiB and a bit
NewWriter = Callable[..., ArchiveWriter]


def read(archive: Archive, file_id: int) -> bytes:
    return b"".join(archive.read(file_id))


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class ArchiveContract:
    """To be inherited, with a fixture ``archive`` that is empty."""

    @pytest.fixture
    def archive(self, tmp_path: Path) -> Iterator[Archive]:
        raise NotImplementedError

    @pytest.fixture
    def new_writer(self, archive: Archive) -> Iterator[NewWriter]:
        with ExitStack() as stack:

            def made(fence: int = 1, ids: range = IDS) -> ArchiveWriter:
                writer = archive.writer(ids, fence, resumed=fence > 1)
                stack.callback(writer.close)
                return writer

            yield made

    @pytest.fixture
    def writer(self, new_writer: NewWriter) -> ArchiveWriter:
        return new_writer()

    @pytest.fixture
    def contents(self, tmp_path: Path) -> Iterator[Contents]:
        folder = tmp_path / "contents"
        folder.mkdir()
        with Contents(folder) as contents:
            yield contents

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        folder = tmp_path / "instrument"
        folder.mkdir()
        path = folder / "run 1.dat"
        path.write_bytes(b"measured")
        return path

    def test_it_answers(self, archive: Archive) -> None:
        assert archive.ping()
        archive.require_room(1)
        archive.require_free(IDS)
        free = archive.free_bytes()
        assert free is None or free > 0

    def test_what_is_listed_is_what_is_there(self, archive: Archive, writer: ArchiveWriter, contents: Contents) -> None:
        for file_id in IDS[:2]:
            writer.put(file_id, contents(b"stored"))
        writer.flush()
        listed = archive.list_files()
        if listed is None:  # the archive cannot, and says so
            return
        found = {file.file_id: file for file in listed}
        assert set(found) == set(IDS[:2])
        writer.delete(IDS[0])
        writer.flush()
        assert [archive.still_holds(found[file_id]) for file_id in IDS[:2]] == [False, True]

    @pytest.mark.parametrize("data", [b"alpha\n", b"", LARGE], ids=["small", "empty", "large"])
    def test_what_is_put_is_there(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, data: bytes
    ) -> None:
        writer.put(IDS[0], contents(data))
        writer.flush()
        assert archive.stat(IDS[0]) == len(data)
        assert read(archive, IDS[0]) == data
        assert archive.is_unchanged(IDS[0], lambda _: None) is not False
        assert writer.resent == 0

    def test_what_is_there_is_read_from_any_byte_on(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents
    ) -> None:
        writer.put(IDS[0], contents(LARGE))
        writer.flush()
        for start in (0, 1, (1 << 20) - 1, 1 << 20, len(LARGE) - 1, len(LARGE)):
            assert b"".join(archive.read(IDS[0], start)) == LARGE[start:]

    def test_files_are_put_by_several_threads(
        self, archive: Archive, new_writer: NewWriter, contents: Contents
    ) -> None:
        ids = range(1000, 1040)
        writer, data = new_writer(ids=ids), {file_id: str(file_id).encode() for file_id in ids}
        made = {file_id: contents(data[file_id]) for file_id in ids}
        with ThreadPoolExecutor(archive.transfers) as executor:
            list(executor.map(lambda file_id: writer.put(file_id, made[file_id]), ids))
        writer.flush()
        assert {file_id: read(archive, file_id) for file_id in ids} == data

    def test_what_is_not_there(self, archive: Archive) -> None:
        assert archive.stat(IDS[0]) is None
        with pytest.raises(ArchiveError):
            read(archive, IDS[0])

    @pytest.mark.parametrize("data", [b"other", b"", LARGE], ids=["small", "empty", "large"])
    def test_a_resumed_run_puts_over_what_an_earlier_one_stored(
        self, archive: Archive, new_writer: NewWriter, contents: Contents, data: bytes
    ) -> None:
        new_writer(fence=1).put(IDS[0], contents(b"of the first run"))
        resumed = new_writer(fence=2)
        for file_id in IDS[:2]:
            resumed.put(file_id, contents(data))
        resumed.flush()
        assert [read(archive, file_id) for file_id in IDS[:2]] == [data, data]

    @pytest.mark.parametrize("data", [b"alpha\n", b"", LARGE], ids=["small", "empty", "large"])
    def test_bytes_that_are_not_those_recorded_are_never_there_in_full(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, data: bytes
    ) -> None:
        with pytest.raises(FileRefused):
            writer.put(IDS[0], contents(data, recorded=b"others"))
        assert archive.stat(IDS[0]) != len(data)

    def test_a_run_that_lost_its_job_leaves_what_is_there(
        self, archive: Archive, new_writer: NewWriter, contents: Contents
    ) -> None:
        def lost(_: int) -> None:
            raise LeaseLost("the job is another's")

        first = new_writer(fence=1)
        first.put(IDS[0], contents(b"kept"))
        first.flush()
        stale = new_writer(fence=2)
        for data in (b"small", LARGE):
            with pytest.raises(LeaseLost):
                stale.put(IDS[0], contents(data, observe=lost))
            assert read(archive, IDS[0]) == b"kept"

    @pytest.mark.parametrize("file_id", [0, IDS.start - 1, IDS.stop])
    @pytest.mark.parametrize("method", ["put", "move", "move_back", "release", "delete"])
    def test_nothing_is_changed_outside_of_the_ids(
        self,
        archive: Archive,
        new_writer: NewWriter,
        contents: Contents,
        source: Path,
        method: str,
        file_id: int,
    ) -> None:
        other = new_writer(ids=range(file_id, file_id + 1))
        other.put(file_id, contents(b"another job's"))
        other.flush()
        arguments = {
            "put": (contents(b"mine"),),
            "move": (source, len(b"measured"), contents.of(source)),
            "move_back": (source.with_name("back"),),
            "release": (source, None),
            "delete": (),
        }
        with pytest.raises(ArchiveError, match=rf"\b{file_id}\b"):
            getattr(new_writer(fence=2), method)(file_id, *arguments[method])
        assert read(archive, file_id) == b"another job's"
        assert source.read_bytes() == b"measured"
        assert list(source.parent.iterdir()) == [source]

    def test_what_is_deleted_is_gone(self, archive: Archive, writer: ArchiveWriter, contents: Contents) -> None:
        writer.put(IDS[0], contents(b"one"))
        writer.put(IDS[1], contents(b"two"))
        writer.delete(IDS[0])
        writer.delete(IDS[0])
        writer.delete(IDS[2])
        writer.flush()
        assert archive.stat(IDS[0]) is None
        assert read(archive, IDS[1]) == b"two"

    def test_what_was_stored_last_may_be_deleted_before_it_is_flushed(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents
    ) -> None:
        writer.put(IDS[0], contents(b"one"))
        writer.delete(IDS[0])
        writer.flush()
        assert archive.stat(IDS[0]) is None

    def test_a_file_is_moved(self, archive: Archive, writer: ArchiveWriter, contents: Contents, source: Path) -> None:
        writer.move(IDS[0], source, len(b"measured"), contents.of(source))
        writer.flush()
        writer.release(IDS[0], source, None)
        assert read(archive, IDS[0]) == b"measured"
        assert not source.exists()

    def test_what_has_come_to_stand_at_a_source_is_left_there(
        self, writer: ArchiveWriter, contents: Contents, source: Path
    ) -> None:
        writer.move(IDS[0], source, len(b"measured"), contents.of(source))
        writer.flush()
        source.unlink(missing_ok=True)
        source.write_bytes(b"the next measurement")
        writer.release(IDS[0], source, None)
        assert source.read_bytes() == b"the next measurement"

    def test_a_file_is_moved_back(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, source: Path
    ) -> None:
        writer.move(IDS[0], source, len(b"measured"), contents.of(source))
        writer.move_back(IDS[0], source)
        writer.flush()
        assert source.read_bytes() == b"measured"
        assert archive.stat(IDS[0]) is None

    @pytest.mark.parametrize("kind", ["a FIFO", "a link", "a folder"])
    def test_a_file_is_not_moved_back_to_where_something_else_stands(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, source: Path, kind: str
    ) -> None:
        writer.move(IDS[0], source, len(b"measured"), contents.of(source))
        source.unlink(missing_ok=True)
        (source.parent / "other").write_bytes(b"measured")
        if kind == "a FIFO":
            os.mkfifo(source)
        elif kind == "a link":
            source.symlink_to("other")
        else:
            source.mkdir()
        before = source.lstat()
        with pytest.raises(RollbackFailed, match="another file is at"):
            writer.move_back(IDS[0], source)
        assert os.path.samestat(source.lstat(), before)
        assert read(archive, IDS[0]) == b"measured"

    def test_a_later_run_moves_a_file_back(
        self, archive: Archive, new_writer: NewWriter, contents: Contents, source: Path
    ) -> None:
        new_writer(fence=1).move(IDS[0], source, len(b"measured"), contents.of(source))
        heir = new_writer(fence=2)
        heir.move_back(IDS[0], source)
        heir.flush()
        assert source.read_bytes() == b"measured"
        assert archive.stat(IDS[0]) is None

    def test_what_was_not_moved_stays_where_it_is(self, archive: Archive, writer: ArchiveWriter, source: Path) -> None:
        writer.move_back(IDS[0], source)
        assert source.read_bytes() == b"measured"
        assert archive.stat(IDS[0]) is None

    def test_a_source_that_is_missing(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, source: Path
    ) -> None:
        content = contents.of(source)
        source.unlink()
        with pytest.raises(IngestError) as caught:
            writer.move(IDS[0], source, content.size, content)
        assert not caught.value.transient
        assert archive.stat(IDS[0]) is None

    def test_another_file_in_the_place_of_the_one_that_was_hashed_is_not_moved(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, source: Path
    ) -> None:
        content = contents.of(source)
        other = source.with_name("other")
        other.write_bytes(b"MEASURED")
        other.rename(source)
        with pytest.raises(SourceChanged):
            writer.move(IDS[0], source, content.size, content)
        writer.move_back(IDS[0], source)
        assert source.read_bytes() == b"MEASURED"
        assert archive.stat(IDS[0]) is None

    def test_a_file_of_this_machine_is_known_as_the_archives_own(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, source: Path
    ) -> None:
        """Where the archive knows that; and no other is."""
        writer.put(IDS[0], contents(b"stored"))
        writer.flush()
        files = [path for path in files_below(source.parents[1]) if not is_mark(path)]
        inodes = {(found.st_dev, found.st_ino): path for path in files for found in [path.stat()]}
        assert {inodes[inode].read_bytes() for inode in archive.own_files(inodes, range(0))} <= {b"stored"}
        assert archive.own_files(inodes, IDS) == set()

    def test_flushing_and_closing_twice(self, archive: Archive, writer: ArchiveWriter, contents: Contents) -> None:
        writer.flush()
        writer.put(IDS[0], contents(b"kept"))
        for _ in range(2):
            writer.flush()
        for _ in range(2):
            writer.close()
        assert read(archive, IDS[0]) == b"kept"


class TestEmbedded(ArchiveContract):
    @pytest.fixture
    def archive(self, tmp_path: Path) -> Iterator[Archive]:
        archive = EmbeddedArchive(tmp_path / "archive")
        archive.require_room(0)
        yield archive
        archive.close()

    def test_what_a_run_writes_is_listed_as_its_own(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents
    ) -> None:
        seen: list[ArchivedFile] = []
        writer.put(IDS[1], contents(b"in progress", observe=lambda _: seen.extend(archive.list_files() or ())))
        assert [(file.file_id, file.run_of) for file in seen] == [(None, IDS.start)]
        assert not archive.still_holds(seen[0])

    @pytest.mark.parametrize("data", [b"alpha\n", b"", LARGE], ids=["small", "empty", "large"])
    def test_what_is_staged_is_not_there_until_it_is_placed(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, data: bytes
    ) -> None:
        assert archive.stages
        writer.stage(IDS[0], contents(data))
        assert archive.stat(IDS[0]) is None
        writer.place(IDS[0])
        writer.flush()
        assert read(archive, IDS[0]) == data

    def test_what_is_staged_is_gone_with_the_run_and_with_the_next(
        self, archive: Archive, new_writer: NewWriter, contents: Contents
    ) -> None:
        closed, ended = new_writer(fence=1), new_writer(fence=1, ids=range(1, 3))
        closed.stage(IDS[0], contents(b"staged"))
        ended.stage(1, contents(b"staged"))
        closed.close()
        new_writer(fence=2, ids=range(1, 3))
        assert list(archive.list_files() or ()) == []
        for stale, file_id in ((closed, IDS[0]), (ended, 1)):
            with pytest.raises(ArchiveError):
                stale.place(file_id)
            assert archive.stat(file_id) is None

    def test_what_is_not_as_recorded_is_not_staged(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents
    ) -> None:
        with pytest.raises(FileRefused):
            writer.stage(IDS[0], contents(LARGE, recorded=b"others"))
        assert list(archive.list_files() or ()) == []

    @pytest.mark.parametrize("file_id", [0, IDS.start - 1, IDS.stop])
    def test_nothing_is_staged_or_placed_outside_of_the_ids(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, file_id: int
    ) -> None:
        with pytest.raises(ArchiveError, match=rf"\b{file_id}\b"):
            writer.stage(file_id, contents(b"mine"))
        with pytest.raises(ArchiveError, match=rf"\b{file_id}\b"):
            writer.place(file_id)
        assert list(archive.list_files() or ()) == []

    def test_every_other_name_of_a_stored_file_is_known(
        self, archive: Archive, new_writer: NewWriter, contents: Contents, tmp_path: Path
    ) -> None:
        ids = range(0xFE, 0x103)  # of which some lie in folders
        writer = new_writer(ids=ids)
        for file_id in ids:
            writer.put(file_id, contents(str(file_id).encode()))
        stored = [path for path in files_below(tmp_path / "archive") if path.read_bytes().isdigit()]
        inodes = {(path.stat().st_dev, path.stat().st_ino) for path in stored}
        assert len(inodes) == len(ids)
        assert archive.own_files(inodes, range(0)) == inodes
        assert archive.own_files(inodes, ids) == set()
        assert len(archive.own_files(inodes, ids[1:])) == 1


class TestPacifica(ArchiveContract):
    @pytest.fixture
    def archive(self, pacific: PacificaSite, tmp_path: Path) -> Iterator[Archive]:
        pacific.folder = tmp_path / "archive"
        pacific.folder.mkdir()
        archive = PacificaArchive(Endpoint(url=pacific.url), transfers=4)
        yield archive
        archive.close()


class S3Contract(ArchiveContract):
    """To be inherited, with a fixture ``storage``."""

    pack_below = 0

    @pytest.fixture
    def place(self, storage: ObjectServer, tmp_path: Path) -> ObjectStore:
        # To make a bucket takes longer than most of these tests.
        return ObjectStore(storage.shared_bucket, f"site/{tmp_path.name}")

    @pytest.fixture
    def archive(self, storage: ObjectServer, place: ObjectStore) -> Iterator[Archive]:
        from ingest_cli.services.s3.archive import S3Archive

        archive = S3Archive(place, storage.access, transfers=4, pack_below=self.pack_below)
        archive.require_room(0)
        yield archive
        archive.close()

    def test_nothing_else_is_left_in_the_bucket(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, storage: ObjectServer, place: ObjectStore
    ) -> None:
        for number, file_id in enumerate(IDS[:3]):
            writer.put(file_id, contents(LARGE if number else b"small"))
        with pytest.raises(FileRefused):
            writer.put(IDS[3], contents(LARGE, recorded=b"others"))
        for file_id in IDS:
            writer.delete(file_id)
        writer.flush()
        writer.close()
        assert archive.ping()
        assert storage.keys(place.bucket, place.prefix) == {f"{place.prefix}/ARCHIVE-ID"}
        assert storage.uploads(place.bucket) == 0


@pytest.mark.cluster
class TestS3(S3Contract):
    @pytest.fixture
    def storage(self, strict_storage: ObjectServer) -> ObjectServer:
        return strict_storage


@pytest.mark.cluster
class TestLaxS3(S3Contract):
    @pytest.fixture
    def storage(self, lax_storage: ObjectServer) -> ObjectServer:
        return lax_storage


class Packed(S3Contract):
    """With small files in packs."""

    pack_below = 1 << 20

    def test_neighbours_share_an_object(
        self, archive: Archive, writer: ArchiveWriter, contents: Contents, storage: ObjectServer, place: ObjectStore
    ) -> None:
        for number, file_id in enumerate(IDS):
            writer.put(file_id, contents(LARGE if number == 1 else b"small"))
        writer.flush()
        assert len(storage.keys(place.bucket, place.prefix)) == 3
        small = (IDS[0], IDS[2], IDS[3])
        listed = {file.file_id: file for file in archive.list_files() or ()}
        assert {file_id: file.beside for file_id, file in listed.items()} == {
            **dict.fromkeys(small, small),
            IDS[1]: (),
        }
        with pytest.raises(ArchiveError, match="already holds"):
            archive.require_free(range(IDS[2], IDS[2] + 1))
        archive.require_free(range(IDS.stop, IDS.stop + 3))


@pytest.mark.cluster
class TestPackedS3(Packed):
    @pytest.fixture
    def storage(self, strict_storage: ObjectServer) -> ObjectServer:
        return strict_storage


@pytest.mark.cluster
class TestPackedLaxS3(Packed):
    @pytest.fixture
    def storage(self, lax_storage: ObjectServer) -> ObjectServer:
        return lax_storage

"""On a disk that can share bytes among files, the archive shares those of a bundle: they are stored once.

INGEST_TEST_SEED sets what sizes and offsets are tried.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from itertools import product
from pathlib import Path
from typing import IO

import pytest

from ingest_cli.bundle.content import SHARED_BLOCK, SHARED_FROM_BYTES, Content
from ingest_cli.bundle.pack import write_bundle as pack_bundle
from ingest_cli.bundle.reader import Bundle
from ingest_cli.bundle.records import transaction_records
from ingest_cli.disk import RESERVE_BYTES, free_bytes
from ingest_cli.errors import ExitCode, FileRefused, IngestError
from ingest_cli.pipeline.bundle_files import KEPT_BYTES
from ingest_cli.services.embedded.cloning import SETTLED_NS, Cloner

from ..support.bundles import OF_FOLDERS, file_record, transaction, write_bundle, write_folder
from ..support.command import Command
from ..support.extents import shared_bytes
from ..support.forks import Running
from ..support.mounting import formatted_disk, small_disk
from ..support.site import Site, Witness, assert_sound
from ..support.waiting import until

SEED = int(os.environ.get("INGEST_TEST_SEED", "1"))
RECORDS = transaction_records(10, "1234a", 54, [])
LARGE = random.Random(SEED).randbytes(3_000_001)
FILES = {"data/before": b"small", "data/large": LARGE, "data/other": LARGE[:70_000], "data/whole": LARGE[: 1 << 20]}


@pytest.fixture(params=["xfs", "btrfs"])
def disk(request: pytest.FixtureRequest, environment: Path) -> Iterator[Path]:
    """A disk that can share, on which the site lies. It is in memory: what is seen is not how fast it is."""
    with (
        small_disk(environment / "memory", "320m"),
        formatted_disk(environment / "memory" / "image", environment / "data", 310, request.param),
    ):
        yield environment / "data"


def packed(folder: Path, files: dict[str, bytes]) -> Path:
    write_folder(folder, files)
    pack_bundle([folder], RECORDS, folder.with_suffix(".tar"))
    return folder.with_suffix(".tar")


def used(disk: Path) -> int:
    subprocess.run(["sync", "-f", disk], check=True)
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def shared_of(site: Site) -> dict[str, int]:
    return {row["name"]: shared_bytes(site.file(row["id"])) for row in site.rows("Files")}


def whole_blocks(content: bytes) -> int:
    return len(content) // SHARED_BLOCK * SHARED_BLOCK


ALL_SHARED = {
    "before": 0,
    **{name.removeprefix("data/"): whole_blocks(FILES[name]) for name in FILES if name != "data/before"},
}


def test_a_bundle_that_was_packed_here_is_stored_without_a_second_copy(
    disk: Path, site: Site, command: Command
) -> None:
    files = {f"data/{number}": random.Random(number).randbytes((3 << 20) + number) for number in range(4)}
    bundle = packed(disk / "run", files)
    before = used(disk)
    assert command(bundle, "-q").returncode == 0
    assert used(disk) - before < 3 << 20, "of 12 MiB"
    assert site.contents() == files
    assert command("verify", "--all").returncode == 0
    # It is the archive's own, whatever becomes of the bundle.
    with bundle.open("r+b") as file:
        file.write(bytes(9 << 20))
    assert site.contents() == files


def test_the_files_of_a_folder_are_shared_with_it(disk: Path, site: Site, command: Command) -> None:
    folder = write_folder(disk / "run", FILES)
    assert command("ingest", folder, *OF_FOLDERS, "-q").returncode == 0
    assert site.contents() == FILES
    assert shared_of(site) == ALL_SHARED


def test_what_cannot_be_linked_into_the_archive_is_shared(disk: Path, site: Site) -> None:
    source = disk / "source"
    source.write_bytes(LARGE)
    (disk / "its other name").hardlink_to(source)
    document = disk / "d.json"
    document.write_text(json.dumps([*transaction(), file_record("data/large", LARGE, source=str(source))]))
    site.move(document)
    assert site.contents() == {"data/large": LARGE}
    assert shared_of(site) == {"large": whole_blocks(LARGE)}


@pytest.mark.parametrize("packer", ["tar --format=gnu -cf", "tar --format=posix -cf", "bsdtar -cf"])
def test_files_of_a_tar_of_others_that_begin_between_blocks_are_copied(
    disk: Path, site: Site, command: Command, packer: str
) -> None:
    if not shutil.which(packer.split()[0]):
        pytest.skip(f"not installed: {packer}")
    subprocess.run(["tar", "-xf", packed(disk / "run", FILES)], cwd=disk, check=True)
    subprocess.run([*packer.split(), "b.tar", "data", "metadata.txt"], cwd=disk, check=True)
    with Bundle(disk / "b.tar", disk) as bundle:
        aligned = {name for name, member in bundle.members.items() if member.offset % SHARED_BLOCK == 0}
    assert command(disk / "b.tar", "-q").returncode == 0
    assert site.contents() == FILES
    assert {f"data/{name}" for name, shared in shared_of(site).items() if shared} <= aligned


def test_a_bundle_on_another_disk_is_copied(disk: Path, site: Site, command: Command, environment: Path) -> None:
    bundle = packed(environment / "run", FILES)
    assert command(bundle, "-q").returncode == 0
    assert site.contents() == FILES
    assert not any(shared_of(site).values())


@pytest.fixture
def nearly_full(disk: Path, site: Site) -> Callable[[int], None]:
    """Leaves so much of the disk that a job may begin to store so many bytes, and hardly more."""

    def fill(length: int) -> None:
        used(disk)  # by then, all that was written has its place
        leaving = length + RESERVE_BYTES + (1 << 20)
        with (disk / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free_bytes(disk) - leaving)

    return fill


@pytest.mark.parametrize("kind", ["bundle", "folder"])
def test_what_is_shared_needs_no_room(
    disk: Path, site: Site, command: Command, nearly_full: Callable[[int], None], kind: str
) -> None:
    files = {f"data/{number}": random.Random(number).randbytes(4 << 20) for number in range(3)}
    bundle = packed(disk / "run", files)
    words = (bundle,) if kind == "bundle" else ("ingest", disk / "run", *OF_FOLDERS)
    nearly_full(3 << 20)
    done = command(*words, "-q")
    assert done.returncode == 0, done.stderr
    assert site.contents() == files


def test_what_is_copied_waits_for_room(
    disk: Path, site: Site, command: Command, nearly_full: Callable[[int], None]
) -> None:
    files = {"data/shared": LARGE, "data/copied": bytes(12 << 20)}
    bundle = write_bundle(disk / "b.tar", files)
    nearly_full(6 << 20)
    done = command(bundle, "-q")
    assert done.returncode == ExitCode.UNREACHABLE
    assert "not enough space in the archive" in done.stderr
    (disk / "ballast").unlink()
    used(disk)
    assert command(bundle, "-q").returncode == 0
    assert site.contents() == files


def test_doctor_says_whether_uploads_can_be_shared(
    disk: Path, environment: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> str:
        (line,) = (line for line in command("doctor").stdout.splitlines() if "spool folder" in line)
        return line.partition(" free")[2]

    assert said() == "", "there is neither spool nor archive"
    assert command(packed(disk / "run", FILES), "-q").returncode == 0
    for spool in (disk / "spool", environment / "spool"):
        spool.mkdir()
    monkeypatch.setenv("VOLUME_PATH", str(disk / "spool"))
    assert said() == "; uploads are stored without a second copy"
    monkeypatch.setenv("VOLUME_PATH", str(environment / "spool"))
    assert said() == "; uploads would be stored without a second copy if it were on the archive's disk"
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", (environment / "spool").as_uri())
    assert said() == ""


def content_at(file: IO[bytes], offset: int, content: bytes, observe: Callable[[int], None]) -> Content:
    return Content(
        name="content",
        descriptor=file.fileno(),
        offset=offset,
        size=len(content),
        mtime=0,
        hashtype="sha1",
        hashsum=hashlib.sha1(content).hexdigest(),
        observe=observe,
    )


def cloned(cloner: Cloner, content: Content, path: Path) -> bool:
    """Whether the content was cloned to the path; where not, nothing is there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        return cloner.clone(content, descriptor)
    finally:
        os.close(descriptor)


def test_lengths_and_offsets_around_those_of_blocks(disk: Path) -> None:
    numbers = random.Random(SEED)
    least, cloner = SHARED_FROM_BYTES, Cloner(disk)
    lengths = [least - 1, *(least + blocks + odd for blocks in (0, SHARED_BLOCK) for odd in range(-1, 3))]
    lengths += [numbers.randrange(least, 4 * least) for _ in range(20)]
    offsets = [0, SHARED_BLOCK, 512, 1, *(numbers.randrange(1 << 16) for _ in range(4))]
    with (disk / "source").open("w+b") as file:
        file.write(LARGE)
        file.flush()
        for number, (length, offset) in enumerate(product(lengths, offsets)):
            content, path = LARGE[offset : offset + length], disk / str(number)
            done = cloned(cloner, content_at(file, offset, content, lambda _: None), path)
            assert done == (length >= least and offset % SHARED_BLOCK == 0)
            assert path.read_bytes() == (content if done else b"")


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "xfs without it"])
def test_a_disk_that_cannot_share_is_asked_once(tmp_path: Path, kind: str) -> None:
    with other_disk(tmp_path, kind), (tmp_path / "disk" / "source").open("w+b") as file:
        file.write(LARGE)
        file.flush()
        cloner, read = Cloner(tmp_path / "disk"), list[int]()
        for number in range(3):
            path = tmp_path / "disk" / str(number)
            assert not cloned(cloner, content_at(file, 0, LARGE, read.append), path)
            assert not path.stat().st_size
        assert cloner.unable == {os.fstat(file.fileno()).st_dev}
        assert not read, "what is read is what is copied"


def other_disk(folder: Path, kind: str) -> AbstractContextManager[None]:
    if kind == "tmpfs":
        return small_disk(folder / "disk", "20m")
    if kind == "ext4":
        return formatted_disk(folder / "image", folder / "disk", 24)
    return formatted_disk(folder / "image", folder / "disk", 320, "xfs", "-m", "reflink=0")


@pytest.mark.parametrize("rested", [0.0, 2 * SETTLED_NS / 1e9])
def test_what_is_written_to_the_bundle_while_it_is_hashed_is_not_stored(disk: Path, rested: float) -> None:
    source = disk / "source"
    source.write_bytes(LARGE)
    time.sleep(rested)  # files of both ages are hashed in another way
    with source.open("rb") as file, source.open("r+b", buffering=0) as other:

        def overwrite(_: int) -> None:
            other.seek(0)  # what was read already
            other.write(bytes(4096))

        assert cloned(Cloner(disk), content_at(file, 0, LARGE, overwrite), disk / "clone")
    assert (disk / "clone").read_bytes() == LARGE


@pytest.mark.parametrize("rested", [0.0, 2 * SETTLED_NS / 1e9])
def test_a_bundle_that_is_mended_while_it_is_hashed_is_not_stored_as_it_was(disk: Path, rested: float) -> None:
    source = disk / "source"
    source.write_bytes(LARGE[: 2 << 20] + bytes(len(LARGE) - (2 << 20)))
    time.sleep(rested)
    with source.open("rb") as file, source.open("r+b", buffering=0) as other:

        def mend(_: int) -> None:
            other.seek(2 << 20)
            other.write(LARGE[2 << 20 :])

        with pytest.raises(FileRefused, match="hashes to"):
            cloned(Cloner(disk), content_at(file, 0, LARGE, mend), disk / "clone")


class Rewriter(Witness):
    """Writes into the bundle when so many bytes were read."""

    def __init__(self, bundle: Path, after: int) -> None:
        super().__init__()
        self._bundle, self._after = bundle, after

    def _write(self) -> None:
        if self._after <= self.bytes_checked + self.bytes_stored:
            with self._bundle.open("r+b") as file:
                file.seek(1 << 20)
                file.write(bytes(1 << 20))
            self._after = 1 << 40

    def checked(self, length: int, files: int = 0) -> None:
        super().checked(length, files)
        self._write()

    def stored(self, length: int, files: int = 0) -> None:
        super().stored(length, files)
        self._write()


@pytest.mark.parametrize("after", [1 << 20, 3_500_000, 5_000_000])
def test_a_bundle_that_is_rewritten_during_the_run_is_stored_as_it_was_or_not_at_all(
    disk: Path, site: Site, after: int
) -> None:
    bundle = packed(disk / "run", FILES)
    site.witness = Rewriter(bundle, after)
    try:
        site.ingest(bundle)
    except IngestError:
        assert site.holds_nothing()
    else:
        assert site.contents() == FILES


def test_a_run_that_is_killed_leaves_nothing_and_is_finished_by_the_next(
    disk: Path, site: Site, command: Command, starting: Callable[..., Running]
) -> None:
    files = {f"data/{number:03}": LARGE[number : number + 100_000] for number in range(200)}
    bundle = packed(disk / "run", files)
    running = starting(bundle, "-q")
    until(lambda: any(path.suffix != ".ingest" and path.is_file() for path in site.archive.rglob("*")))
    running.kill()
    running.wait()
    assert command(bundle, "-q").returncode == 0
    assert_sound(site, files, 1)
    assert set(shared_of(site).values()) == {whole_blocks(bytes(100_000))}


@pytest.mark.sweep
def test_a_bundle_too_large_for_memory_is_finished_however_often_it_is_killed(
    disk: Path, site: Site, command: Command, starting: Callable[..., Running]
) -> None:
    moments = random.Random(SEED)
    files = {f"data/{number:02}": LARGE[number:] for number in range(25)}
    bundle = packed(disk / "run", files)
    shutil.rmtree(disk / "run")
    assert bundle.stat().st_size > KEPT_BYTES
    for _ in range(10):
        running = starting(bundle, "-q")
        with suppress(subprocess.TimeoutExpired):
            running.wait(moments.uniform(0.1, 1))
        running.kill()
        running.wait()
    assert command(bundle, "-q").returncode == 0
    assert_sound(site, files, 1)
    assert set(shared_of(site).values()) == {whole_blocks(LARGE)}

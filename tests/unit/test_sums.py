"""What a tar's files hash to, found while it arrives, and noted at the file for as long as it is the same."""

import gzip
import hashlib
import os
import random
import shutil
import tarfile
from pathlib import Path

import pytest

from ingest_cli.bundle.arrival import LARGE_BYTES, Arrival
from ingest_cli.bundle.sums import SIZES, SOON_NS, Sums, note_sums, proven_sums
from ingest_cli.bundle.tar import members

from ..support.attributes import require_attributes
from ..support.bundles import document_for, write_bundle

LARGE = {f"data/{number}": random.Random(number).randbytes(LARGE_BYTES + number) for number in range(3)}
FILES = {"data/small": b"small", **LARGE, "data/empty": b""}


@pytest.fixture(autouse=True)
def attributes(tmp_path: Path) -> None:
    require_attributes(tmp_path)


def arrive(path: Path, content: bytes, rng: random.Random) -> Sums:
    """Write ``content`` to ``path`` as it might come."""
    with path.open("wb", buffering=0) as file:
        arrival = Arrival(path)
        try:
            while file.tell() < len(content):
                at = file.tell()
                file.write(content[at : at + rng.choice([1, 511, 512, 100_000, 3_000_000])])
                arrival.wrote(file.tell())
            arrival.finish()
        finally:
            arrival.close()
    return proven(path)


def proven(path: Path) -> Sums:
    with path.open("rb") as file:
        return proven_sums(file.fileno())


def by_name(path: Path, sums: Sums, hashtype: str = "sha1") -> dict[str, str]:
    with path.open("rb") as file:
        found = {member.name: sums.find(hashtype, member.offset, member.size) for member in members(file.fileno())}
    return {name: hashsum for name, hashsum in found.items() if hashsum is not None}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_large_files_are_hashed_as_they_come(tmp_path: Path, seed: int, form: int) -> None:
    with tarfile.open(tmp_path / "made.tar", "w", format=form) as tar:
        for name, content in FILES.items():
            (tmp_path / "f").write_bytes(content)
            tar.add(tmp_path / "f", name + ("x" * 150 if form != tarfile.USTAR_FORMAT else ""))
    sums = arrive(tmp_path / "a.tar", (tmp_path / "made.tar").read_bytes(), random.Random(seed))
    found = by_name(tmp_path / "a.tar", sums)
    assert {name.rstrip("x"): hashsum for name, hashsum in found.items()} == {
        name: hashlib.sha1(content).hexdigest() for name, content in LARGE.items()
    }


def test_a_document_that_comes_first_says_by_what(tmp_path: Path) -> None:
    records = [record | ({"hashtype": "sha256"} if "hashtype" in record else {}) for record in document_for(LARGE)]
    write_bundle(tmp_path / "made.tar", LARGE, records, metadata_first=True)
    sums = arrive(tmp_path / "a.tar", (tmp_path / "made.tar").read_bytes(), random.Random(0))
    found = by_name(tmp_path / "a.tar", sums, "sha256")
    assert found == {name: hashlib.sha256(content).hexdigest() for name, content in LARGE.items()}
    assert by_name(tmp_path / "a.tar", sums, "sha1") == {}


@pytest.mark.parametrize("cut", [1, 512, 1024, 600_000, 1_500_000])
def test_of_what_is_cut_off_only_whole_files_are_known(tmp_path: Path, cut: int) -> None:
    content = write_bundle(tmp_path / "made.tar", LARGE).read_bytes()
    arrive(tmp_path / "whole.tar", content, random.Random(0))
    whole = proven(tmp_path / "whole.tar").parts
    found = arrive(tmp_path / "a.tar", content[:-cut], random.Random(0)).parts
    assert found.items() <= whole.items()
    assert all(offset + length <= len(content) - cut for offset, length in found)


@pytest.mark.parametrize("content", [b"", b"x", random.Random(1).randbytes(3_000_000), bytes(3_000_000)])
def test_of_what_is_no_tar_nothing_is_known(tmp_path: Path, content: bytes) -> None:
    assert arrive(tmp_path / "a", content, random.Random(0)) == Sums()


def test_of_what_is_packed_nothing_is_known(tmp_path: Path) -> None:
    content = gzip.compress(write_bundle(tmp_path / "made.tar", LARGE).read_bytes(), 1)
    assert arrive(tmp_path / "a", content, random.Random(0)) == Sums()


def test_an_arrival_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    content = write_bundle(tmp_path / "a.tar", LARGE).read_bytes()
    arrival = Arrival(tmp_path / "a.tar")
    arrival.wrote(len(content) // 2)
    arrival.close()
    assert proven(tmp_path / "a.tar") == Sums()


def test_a_file_that_was_changed_is_another(tmp_path: Path) -> None:
    """Whoever writes to it can have its times look as before, but for the one that the system keeps for itself."""
    path = tmp_path / "a.tar"
    content = write_bundle(tmp_path / "made.tar", LARGE).read_bytes()
    arrive(path, content, random.Random(0))
    assert len(proven(path).parts) == len(LARGE)
    copy = Path(shutil.copy2(path, tmp_path / "copy.tar"))  # with its attributes
    assert proven(copy) == Sums()
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    assert proven(path) == Sums()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    while path.stat().st_ctime_ns < found.st_ctime_ns + 2 * SOON_NS:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert proven(path) == Sums()


@pytest.mark.parametrize(
    "noted", [b"", b"1", b"1 sha1 1:2:3 4\n", b"2 sha1 x 0\nxxxx", b"\xff\n", b"1 md4 1:2:3 0\n12"]
)
def test_a_note_that_is_none(tmp_path: Path, noted: bytes) -> None:
    (tmp_path / "a").write_bytes(b"x")
    os.setxattr(tmp_path / "a", "user.ingest.sums", noted)
    assert proven(tmp_path / "a") == Sums()


def test_of_many_files_the_largest_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    parts = [(number, number, number.to_bytes(20)) for number in range(10_000)]
    with path.open("rb") as file:
        note_sums(file.fileno(), "sha1", parts)
    found = proven(path).parts
    assert len(found) in {size // 36 for size in SIZES}
    assert min(length for _, length in found) == 10_000 - len(found)

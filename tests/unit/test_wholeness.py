"""What is cut short, or has its full size and not yet all of its bytes, does not look whole; what is whole does."""

import fcntl
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_cli.jobs.job import JobKind
from ingest_cli.watch.candidates import Candidate
from ingest_cli.watch.rules import WatchRules
from ingest_cli.watch.stability import Sight
from ingest_cli.watch.wholeness import why_not_yet

from ..support.bundles import document_for
from ..support.watching import make_folder

MAKERS: dict[str, Callable[[int], bytes]] = {
    "random": lambda length: random.Random(length).randbytes(length),
    "zeros": bytes,
    "zeros at its end": lambda length: b"x" + bytes(length),
}
CONTENTS = st.lists(st.tuples(st.sampled_from(sorted(MAKERS)), st.integers(0, 30_000)), min_size=1, max_size=4)
FORMATS = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
BUNDLES, MOVES = WatchRules(), WatchRules(kind=JobKind.MOVE)


def flaw(path: Path, rules: WatchRules = BUNDLES) -> str:
    """Why it is not taken when it was looked at for the first time, and was not renamed into place."""
    now = time.monotonic()
    source = path if not rules.packs else path.with_suffix(".packed")
    candidate = Candidate(path, "", source, now, now)
    return why_not_yet(candidate, Sight("", now, now, 0.0), rules, path.parent / "spool")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wholeness")


def a_tar(contents: list[bytes], tar_format: int, *, metadata_first: bool) -> tuple[bytes, int]:
    """A bundle, and where its end blocks begin."""
    files = {f"data/{number}": content for number, content in enumerate(contents)}
    members = {**files, "metadata.txt": json.dumps(document_for(files)).encode()}
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tar_format) as tar:
        for name in ["metadata.txt", *files] if metadata_first else members:
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            tar.addfile(info, io.BytesIO(members[name]))
        end = tar.offset
    return whole.getvalue(), end


@settings(max_examples=80)
@given(
    contents=CONTENTS,
    tar_format=FORMATS,
    metadata_first=st.booleans(),
    packer=st.sampled_from(sorted(PACKERS)),
    at=st.floats(0, 1),
    is_filled=st.booleans(),
)
def test_a_bundle(
    folder: Path,
    contents: list[tuple[str, int]],
    tar_format: int,
    metadata_first: bool,
    packer: str,
    at: float,
    is_filled: bool,
) -> None:
    made = [MAKERS[kind](length) for kind, length in contents]
    whole, end = a_tar(made, tar_format, metadata_first=metadata_first)
    whole = PACKERS[packer](whole)
    path = folder / "b.tar"
    path.write_bytes(whole)
    assert flaw(path) == ""
    written = whole[: int(at * len(whole))]
    part = written.ljust(len(whole), b"\0") if is_filled else written
    path.write_bytes(part)
    # Of the empty blocks at the end of a tar, two are enough.
    is_all_there = part == whole or (not packer and len(part) >= end + 1024 and whole.startswith(part))
    assert bool(flaw(path)) is not is_all_there


@settings(max_examples=40)
@given(count=st.integers(1, 30), at=st.floats(0, 1), is_filled=st.booleans())
def test_a_document(folder: Path, count: int, at: float, is_filled: bool) -> None:
    whole = json.dumps(document_for({f"data/{number}": b"x" for number in range(count)})).encode()
    path = folder / "m.json"
    path.write_bytes(whole)
    assert flaw(path, MOVES) == ""
    written = whole[: int(at * len(whole))]
    part = written.ljust(len(whole), b"\0") if is_filled else written
    path.write_bytes(part)
    assert bool(flaw(path, MOVES)) is (part != whole)


def test_what_was_not_written_in_its_order(folder: Path) -> None:
    whole, _ = a_tar([random.Random(1).randbytes(3 << 20)], tarfile.GNU_FORMAT, metadata_first=True)
    path = folder / "b.tar"
    path.write_bytes(whole)
    with path.open("wb") as file:
        file.write(whole[: 1 << 20])
        file.seek(2 << 20)
        file.write(whole[2 << 20 :])
        file.flush()
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) == len(whole):
            pytest.skip("this file system does not tell of holes")
    assert "not written" in flaw(path)


def test_what_is_open_for_writing(folder: Path) -> None:
    path = folder / "b.tar"
    path.write_bytes(a_tar([b"a"], tarfile.GNU_FORMAT, metadata_first=False)[0])
    with path.open("ab"):
        if can_lease(path):
            assert "open for writing" in flaw(path)
    with path.open("rb"):
        assert flaw(path) == ""


def can_lease(path: Path) -> bool:
    """Whether the kernel tells that the file, which is, is open for writing."""
    with path.open("rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


@pytest.mark.parametrize(
    ("name", "is_temporary"),
    [
        (".data.bin.Xa3f9q", True),  # rsync
        ("data.bin.filepart", True),  # WinSCP
        ("data.bin.crdownload", True),
        ("~$report.docx", True),  # Office
        (".~lock.report.odt#", True),  # LibreOffice
        (".notes.swp", True),
        ("data.bin", False),
        (".hidden", False),
        (".git", False),
        ("~data", False),
        ("data.lock", False),
        ("notes~", False),
    ],
)
def test_temporary_names_in_a_folder(folder: Path, name: str, is_temporary: bool) -> None:
    run = make_folder(folder / f"run of {name}", {"data/sub/a": b"a", f"data/sub/{name}": b"b"})
    rules = WatchRules(template=[])
    assert (repr(f"sub/{name}") in flaw(run, rules)) is is_temporary
    assert bool(flaw(run, rules)) is is_temporary


@pytest.mark.parametrize("content", [b"x" * 100 + bytes(5000), bytes(10)])
def test_zeros_at_the_end_of_a_file_in_a_folder(folder: Path, content: bytes) -> None:
    run = make_folder(folder / f"run of {len(content)}", {"data/a": content, "data/b": b"b"})
    assert "'a' in it: it ends in zeros" in flaw(run, WatchRules(template=[]))
    (run / "a").write_bytes(b"".join([content, b"x"]))
    assert flaw(run, WatchRules(template=[])) == ""

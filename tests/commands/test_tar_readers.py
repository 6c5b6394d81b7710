"""What we read of a tar is what others read of it: Python's tarfile, GNU tar, bsdtar. Where they differ, it is refused.

INGEST_TEST_MUTANTS sets how many mutants the second tier reads (20,000 unless set); INGEST_TEST_SEED the first one.
"""

import os
import subprocess
from pathlib import Path

import pytest

from ingest_cli.bundle.compression import zstd_module
from ingest_cli.errors import BundleError

from ..support.tar_corpus import FILES, PACKERS, WRITERS, by_pacifica_cli, is_installed, packed, write_corpus
from ..support.tar_forms import AGREED, DAMAGED, DISPUTED, END, member
from ..support.tar_forms import FILES as FORM_FILES
from ..support.tar_mutants import mutant
from ..support.tar_readers import ALL_READERS, READERS, are_installed, by_us, disagreements

pytestmark = pytest.mark.skipif(not are_installed(), reason="GNU tar, bsdtar and libarchive are not all installed")

MUTANTS = int(os.environ.get("INGEST_TEST_MUTANTS", "20000"))
SEED = int(os.environ.get("INGEST_TEST_SEED", "1"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("writer", [*WRITERS, "Python, ustar", "Python, GNU", "Python, pax"])
def test_what_a_writer_of_the_world_wrote(corpus: dict[str, Path], writer: str) -> None:
    if writer not in corpus:
        pytest.skip(f"not installed: {writer}")
    ours = by_us(corpus[writer])
    assert ours["data/a.txt"] == FILES["data/a.txt"]
    assert ours.items() <= FILES.items()
    assert disagreements(corpus[writer], ours, ALL_READERS) == {}


@pytest.mark.parametrize("packer", PACKERS)
def test_what_a_packer_of_the_world_packed(corpus: dict[str, Path], tmp_path: Path, packer: str) -> None:
    if not is_installed(PACKERS[packer]):
        pytest.skip(f"not installed: {packer}")
    if packer.startswith("zstd") and zstd_module() is None:
        pytest.skip("this Python cannot unpack zstd")
    raw = corpus["Python, pax"].read_bytes()
    path = tmp_path / "packed"
    for twice in (
        packed(raw, PACKERS[packer]),
        packed(raw[:5000], PACKERS[packer]) + packed(raw[5000:], PACKERS[packer]),
    ):
        path.write_bytes(twice)
        assert by_us(path) == FILES


def test_what_pacifica_cli_packs_with_gzip(tmp_path: Path) -> None:
    files = {"data/large": os.urandom(3 << 20), "data/z": b"z"}
    raw = b"".join(member(name.encode(), content) for name, content in files.items()) + END
    (tmp_path / "packed").write_bytes(by_pacifica_cli(raw))
    assert by_us(tmp_path / "packed") == files


@pytest.mark.parametrize("form", AGREED)
def test_a_form_that_all_read_alike(tmp_path: Path, form: str) -> None:
    path = tmp_path / "form.tar"
    path.write_bytes(AGREED[form] + END)
    assert by_us(path) == FORM_FILES
    assert disagreements(path, FORM_FILES) == {}


@pytest.mark.parametrize("form", DAMAGED)
def test_a_form_that_says_what_no_reader_makes_of_it(tmp_path: Path, form: str) -> None:
    raw, saying = DAMAGED[form]
    (tmp_path / "form.tar").write_bytes(raw + END)
    with pytest.raises(BundleError, match=saying):
        by_us(tmp_path / "form.tar")


@pytest.mark.parametrize("form", DISPUTED)
def test_a_form_of_which_readers_make_different_things(tmp_path: Path, form: str) -> None:
    raw, saying = DISPUTED[form]
    path = tmp_path / "form.tar"
    path.write_bytes(raw + END)
    with pytest.raises(BundleError, match=saying):
        by_us(path)
    seen = [read(path) for read in READERS.values()]
    assert any(files != seen[0] for files in seen), seen


SPARSE_WRITERS = {
    **{f"GNU tar, {name}": f"tar -S --format={name} -cf" for name in ("oldgnu", "gnu")},
    **{
        f"GNU tar, posix {version}": f"tar -S --format=posix --sparse-version={version} -cf"
        for version in ("0.0", "0.1", "1.0")
    },
    **{f"bsdtar, {name}": f"bsdtar --format={name} -cf" for name in ("pax", "paxr")},
}


@pytest.mark.parametrize("writer", SPARSE_WRITERS)
def test_a_sparse_file_is_refused_by_its_name_on_the_disk(tmp_path: Path, writer: str) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "sparse").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(512 << 10)
        file.write(b"in the middle")
    subprocess.run([*SPARSE_WRITERS[writer].split(), "b.tar", "data"], cwd=tmp_path, check=True)
    with pytest.raises(BundleError, match="'data/sparse' is a sparse file; pack it without"):
        by_us(tmp_path / "b.tar")


def test_the_advice_about_sparse_files_helps(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["bsdtar", "--no-read-sparse", "-cf", "b.tar", "data"], cwd=tmp_path, check=True)
    assert by_us(tmp_path / "b.tar") == {"data/sparse": bytes(1 << 20)}


def accepted_mutants(corpus: dict[str, Path], path: Path, seeds: range) -> int:
    """Read a mutant of what was written for each seed; count those that we accept, which others must read as we do."""
    sound = [written.read_bytes() for written in corpus.values()]
    accepted = 0
    for seed in seeds:
        path.write_bytes(mutant(sound[seed % len(sound)], seed))
        try:
            ours = by_us(path)
        except BundleError:
            continue
        accepted += 1
        assert disagreements(path, ours) == {}, f"mutant {seed} of {[*corpus][seed % len(sound)]}, {path}"
    return accepted


def test_mutants_are_refused_or_read_as_others_read_them(corpus: dict[str, Path], tmp_path: Path) -> None:
    assert accepted_mutants(corpus, tmp_path / "mutant.tar", range(400)) > 40


@pytest.mark.sweep
def test_very_many_mutants(corpus: dict[str, Path], tmp_path: Path) -> None:
    assert accepted_mutants(corpus, tmp_path / "mutant.tar", range(SEED, SEED + MUTANTS)) > MUTANTS // 10

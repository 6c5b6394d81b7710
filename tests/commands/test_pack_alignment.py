"""Large files of a bundle that is packed here begin where a disk's block does, and any reader of tars reads it.

INGEST_TEST_SEED sets which files are packed.
"""

import json
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ingest_cli.bundle.content import SHARED_BLOCK, SHARED_FROM_BYTES
from ingest_cli.bundle.pack import write_bundle as pack_bundle
from ingest_cli.bundle.reader import METADATA_NAME, Bundle
from ingest_cli.bundle.records import transaction_records
from ingest_cli.server import pages

from ..support.bundles import OF_FOLDERS, write_folder
from ..support.command import Command
from ..support.tar_readers import ALL_READERS, are_installed, by_us, disagreements

TAR_OF_THE_PAGE = Path(pages.__file__).with_name("tar.js")
SEED = int(os.environ.get("INGEST_TEST_SEED", "1"))
RECORDS = transaction_records(10, "1234a", 54, [])
# What takes an extended header of its own: a long name, one that is not ASCII.
NAMES = ("plain{}", "n\xe4me{}", f"{'long' * 30}{{}}", f"{'/'.join(['folder' * 10] * 4)}/{{}}")
EXTRACTORS = {
    "GNU tar": "tar -xf b.tar -C out",
    "bsdtar": "bsdtar -xf b.tar -C out",
    "busybox": "busybox tar -xf b.tar -C out",
    "7z": "7z x -oout b.tar",
    "pax": "cd out && pax -r < ../b.tar",
}


def some_files(seed: int, count: int = 24) -> dict[str, bytes]:
    numbers = random.Random(seed)
    near = [SHARED_FROM_BYTES + odd for odd in (-1, 0, 1)]
    lengths = [*near, *(numbers.choice((numbers.randrange(2000), numbers.randrange(100_000))) for _ in range(count))]
    names = [numbers.choice(NAMES).format(number) for number in range(len(lengths))]
    return {f"data/{name}": numbers.randbytes(length) for name, length in zip(names, lengths, strict=True)}


def packed(folder: Path, files: dict[str, bytes], name: str = "b.tar") -> Path:
    if not folder.exists():
        write_folder(folder, files)
    pack_bundle([folder], RECORDS, folder.parent / name)
    return folder.parent / name


def offsets(bundle: Path) -> dict[str, int]:
    with Bundle(bundle, bundle.parent) as opened:
        return {member.name: member.offset for member in opened.members.values() if member.name != METADATA_NAME}


def assert_aligned(bundle: Path, files: dict[str, bytes]) -> None:
    found = offsets(bundle)
    assert found.keys() == files.keys()
    assert all(found[name] % SHARED_BLOCK == 0 for name in files if len(files[name]) >= SHARED_FROM_BYTES)
    assert any(offset % SHARED_BLOCK for offset in found.values())


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_large_files_begin_at_a_block(tmp_path: Path, seed: int) -> None:
    files = some_files(seed)
    bundle = packed(tmp_path / "run", files)
    assert_aligned(bundle, files)
    assert bundle.read_bytes() == packed(tmp_path / "run", files, "again.tar").read_bytes()
    if are_installed():
        assert disagreements(bundle, by_us(bundle), ALL_READERS) == {}


@pytest.mark.sweep
def test_very_many_bundles(tmp_path: Path) -> None:
    for seed in range(SEED, SEED + 100):
        files = some_files(seed)
        assert_aligned(packed(tmp_path / str(seed) / "run", files), files)


@pytest.mark.parametrize("program", EXTRACTORS)
def test_a_program_of_the_world_unpacks_it(tmp_path: Path, program: str) -> None:
    if not shutil.which({"GNU tar": "tar"}.get(program, program)):
        pytest.skip(f"not installed: {program}")
    files = some_files(SEED)
    packed(tmp_path / "run", files)
    (tmp_path / "out").mkdir()
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(EXTRACTORS[program], shell=True, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != METADATA_NAME]
    assert {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in found} == files


def test_a_bundle_of_small_files_is_as_small_as_a_tar_of_them(tmp_path: Path) -> None:
    files = {f"data/{number}": bytes(number) for number in range(100)}
    bundle = packed(tmp_path / "run", files)
    with tarfile.open(bundle) as tar:
        assert not any(member.pax_headers for member in tar)


def test_standard_output_gets_the_same(command: Command, tmp_path: Path) -> None:
    files = some_files(SEED)
    write_folder(tmp_path / "run", files)
    assert command("pack", "run", *OF_FOLDERS, "-o", "b.tar").returncode == 0
    with (tmp_path / "out.tar").open("wb") as out:
        line = command.line("pack", "run", *OF_FOLDERS, "-o", "-")
        subprocess.run(line, cwd=tmp_path, stdout=out, check=True)
    assert (tmp_path / "out.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert_aligned(tmp_path / "out.tar", files)


OF_THE_PAGE = """
const fs = require("fs"), [script, list, out] = process.argv.slice(1);
const members = `const parts = []; let position = 0;
  for (const [name, file] of JSON.parse(fs.readFileSync(list))) {
    const content = fs.readFileSync(file), member = tarMember(name, content.length, 1480428545, content, position);
    position = member.reduce((end, part) => end + part.length, position);
    parts.push(...member);
  }
  fs.writeFileSync(out, Buffer.concat([...parts, tarEnd()]));`;
eval(fs.readFileSync(script, "utf8") + members);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_large_files_of_what_a_browser_packs_begin_at_a_block(tmp_path: Path) -> None:
    files = some_files(SEED, 60)
    folder = write_folder(tmp_path / "run", files)
    listed = [(name, str(folder / name.removeprefix("data/"))) for name in files]
    (tmp_path / "list").write_text(json.dumps(listed))
    words = ("node", "-e", OF_THE_PAGE, TAR_OF_THE_PAGE, tmp_path / "list", tmp_path / "b.tar")
    subprocess.run(words, check=True)
    assert_aligned(tmp_path / "b.tar", files)
    assert by_us(tmp_path / "b.tar") == files
    if are_installed():
        assert disagreements(tmp_path / "b.tar", files, ALL_READERS) == {}

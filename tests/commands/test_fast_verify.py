"""``ingest verify --fast``: a second digest is kept of what is stored, and says whether it is still that."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.services.embedded.archive import EmbeddedArchive
from ingest_cli.services.embedded.mark import MARK_NAME
from ingest_cli.services.embedded.noted import ATTRIBUTE, can_be_noted, is_usable

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.contents import Contents
from ..support.mounts import Mount
from ..support.site import Site

# One that is kept in memory between its check and its storing, one that is read in pieces, and one of nothing.
FILES = {"data/a": b"measured", "data/large": os.urandom((9 << 20) + 5), "data/none": b""}


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not is_usable():
        pytest.skip("there is no package blake3")
    if not can_be_noted(tmp_path):
        pytest.skip("this disk has no extended attributes of users")
    monkeypatch.setenv("ARCHIVEINTERFACE_DIGEST", "blake3")


@pytest.fixture
def noted(noting: None, command: Command, site: Site, tmp_path: Path) -> None:
    assert command(write_bundle(tmp_path / "b.tar", FILES)).returncode == 0


def verified(command: Command, *words: object) -> tuple[dict[str, Any], list[int]]:
    """What is said at the end, and the files that are wrong."""
    *found, last = [json.loads(line) for line in command("verify", 1, "--json", *words).stdout.splitlines()]
    return last, [damage["file_id"] for damage in found]


def alter(path: Path, change: Any) -> None:
    """Change a file that is read-only; its mode and its times stay."""
    before = path.stat()
    path.chmod(0o600)
    change(path)
    path.chmod(stat.S_IMODE(before.st_mode))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_digest_is_kept_of_each_file_that_is_stored(noted: None, site: Site) -> None:
    import blake3

    for number, content in enumerate(FILES.values(), start=1):
        assert os.getxattr(site.file(number), ATTRIBUTE) == blake3.blake3(content).digest()
        assert stat.S_IMODE(site.file(number).stat().st_mode) == 0o444
    assert site.contents() == FILES


def test_it_is_compared_with_what_is_there(noted: None, command: Command) -> None:
    done = command("verify", 1, "--fast")
    assert done.returncode == 0, done.stderr
    assert "3 files by a digest of the archive's own" in done.stderr
    assert verified(command, "--fast")[0]["by_digest"] == 3
    assert verified(command)[0]["by_digest"] == 0


@pytest.mark.parametrize("number", [1, 2])
def test_a_bit_that_flipped_is_found_by_either(noted: None, command: Command, site: Site, number: int) -> None:
    alter(site.file(number), flip)
    for words in (["--fast"], []):
        assert verified(command, *words)[1] == [number]
        assert command("verify", 1, *words).returncode == ExitCode.FAILED


def test_the_recorded_hash_counts_where_the_digest_is_lost_or_wrong(noted: None, command: Command, site: Site) -> None:
    wrong, lost = bytes(32), site.file(2)
    alter(site.file(1), lambda path: os.setxattr(path, ATTRIBUTE, wrong))
    alter(lost, lambda path: os.removexattr(path, ATTRIBUTE))
    last, found = verified(command, "--fast")
    assert (last["files"], last["by_digest"], last["damaged"], found) == (3, 1, 0, [])
    assert os.getxattr(site.file(1), ATTRIBUTE) == wrong, "nothing is noted anew"
    assert ATTRIBUTE not in os.listxattr(lost)
    alter(site.file(1), flip)
    alter(lost, flip)
    assert verified(command, "--fast")[1] == [1, 2]


def test_none_is_kept_where_nobody_wants_it(command: Command, site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar", FILES))
    assert not [name for number in (1, 2, 3) for name in os.listxattr(site.file(number)) if name == ATTRIBUTE]
    assert "0 files by a digest" in command("verify", 1, "--fast").stderr


def test_a_disk_without_attributes_keeps_none(noting: None, tmp_path: Path, mount: Mount) -> None:
    disk = tmp_path / "disk"
    mount(disk, "-t", "ramfs", "none")
    assert not can_be_noted(disk)
    archive = EmbeddedArchive(disk, notes=True)
    (disk / MARK_NAME).touch()
    with Contents(tmp_path) as contents:
        writer = archive.writer(range(1, 2), 1, resumed=False)
        writer.put(1, contents(b"measured"))
        writer.close()
    assert b"".join(archive.read(1)) == b"measured"
    assert archive.is_unchanged(1, lambda _: None) is None


def test_without_the_package_none_is_kept(noted: None, command: Command, tmp_path: Path, monkeypatch: Any) -> None:
    doctor = command("doctor")
    assert "BLAKE3 is kept of each file that is stored" in doctor.stdout
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "blake3.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", f"{broken}:{os.environ.get('PYTHONPATH', '')}")
    assert command("--again", "b.tar").returncode == 0
    assert verified(command, "--fast")[0]["by_digest"] == 0
    done = command("doctor")
    assert (done.returncode, "there is no package blake3" in done.stdout) == (ExitCode.USAGE, True)


def test_a_receipt_is_compared_with_hashes_alone(command: Command) -> None:
    done = command("verify", "--receipt", "r.json", "--fast")
    assert (done.returncode, done.stderr) == (2, "ingest: --fast and --receipt cannot be used together\n")

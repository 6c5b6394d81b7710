"""Receipts: what was stored, in a file by which an archive can be checked by itself."""

import json
import os
import stat
from pathlib import Path

import pytest

from ingest_cli.bundle.schema import explain
from ingest_cli.errors import ExitCode
from ingest_cli.maintenance.receipt import receipt_schema

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.mounts import Mount
from ..support.site import Site


@pytest.fixture
def receipt(command: Command, tmp_path: Path) -> Path:
    path = tmp_path / "receipt.json"
    done = command(write_bundle(tmp_path / "b.tar"), "--receipt", path)
    assert done.returncode == 0, done.stderr
    return path


def test_a_receipt_says_what_was_stored(receipt: Path, site: Site) -> None:
    said = json.loads(receipt.read_text("utf-8"))
    assert explain(said, receipt_schema()) is None
    assert (said["job_id"], said["submitter"], said["project"], said["instrument"]) == (1, 10, "1234a", 54)
    assert {file["path"]: file["size"] for file in said["files"]} == {path: len(data) for path, data in FILES.items()}
    assert said["created"] <= said["completed"]
    assert receipt.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("files", [{}, {"data/a": b"a"}, {'data/"a"\u2028\x85b\\n': b"", "data/é ": b"e"}])
def test_a_receipt_is_laid_out_for_people(command: Command, tmp_path: Path, files: dict[str, bytes]) -> None:
    assert command(write_bundle(tmp_path / "b.tar", files), "--receipt", "r.json").returncode == 0
    text = (tmp_path / "r.json").read_text("utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
    assert len(json.loads(text)["files"]) == len(files)


def test_an_archive_is_checked_by_a_receipt_alone(command: Command, receipt: Path, site: Site) -> None:
    for database in site.archive.parent.glob("*.sqlite3*"):
        database.unlink()
    done = command("verify", "--receipt", receipt)
    assert done.returncode == 0, done.stderr
    assert "3 files" in done.stderr
    assert not site.database.exists()
    victim = next(path for path in site.archive.rglob("file.*") if path.stat().st_size)
    victim.chmod(0o644)
    victim.write_bytes(b"x" * victim.stat().st_size)
    done = command("verify", "--receipt", receipt)
    assert done.returncode == 1
    assert " instead of " in done.stdout


def test_a_bundle_that_was_ingested_before_has_the_receipt_of_its_job(command: Command, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    assert command(bundle).returncode == 0
    copy = tmp_path / "copy.tar"
    copy.write_bytes(bundle.read_bytes())
    for given in (bundle, copy):
        assert command(given, "--receipt", "r.json").returncode == 0
        assert json.loads((tmp_path / "r.json").read_text())["job_id"] == 1


@pytest.mark.parametrize("words", [["--queue"], ["other.tar"]])
def test_a_receipt_is_of_one_complete_job(command: Command, tmp_path: Path, words: list[str]) -> None:
    done = command(write_bundle(tmp_path / "b.tar"), "--receipt", "r.json", *words)
    assert done.returncode == 2
    assert "--receipt" in done.stderr


def test_a_receipt_that_cannot_be_written(command: Command, site: Site, tmp_path: Path) -> None:
    done = command(write_bundle(tmp_path / "b.tar"), "--receipt", "no/such/folder/r.json")
    assert done.returncode == 1
    assert "is complete, but its receipt cannot be written" in done.stderr
    assert site.contents() == FILES


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["a device", "a link to a device", "a link", "a FIFO", "a folder"])
def test_what_is_no_file_is_not_replaced(command: Command, tmp_path: Path, kind: str) -> None:
    """As /dev/null and /dev/stdout are none."""
    path = tmp_path / "r.json"
    (tmp_path / "file").write_text("precious")
    if kind == "a device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.stat(os.devnull).st_rdev)
        except PermissionError:
            pytest.skip("only root can make a device")
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("file" if kind == "a link" else os.devnull)
    before = path.lstat()
    done = command(write_bundle(tmp_path / "b.tar"), "--receipt", path)
    assert done.returncode == 1
    assert f"its receipt cannot be written to {path}: it is not a regular file" in done.stderr
    assert os.path.samestat(path.lstat(), before)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.sweep
def test_a_receipt_on_a_full_disk(command: Command, tmp_path: Path, mount: Mount) -> None:
    mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m,nr_inodes=2", "none")
    (tmp_path / "disk" / "last").touch()
    bundle = write_bundle(tmp_path / "b.tar")
    done = command(bundle, "--receipt", "disk/r.json")
    assert done.returncode == ExitCode.UNREACHABLE
    assert "cannot be written to disk/r.json: No space left on device" in done.stderr
    (tmp_path / "disk" / "last").unlink()
    assert command(bundle, "--receipt", "disk/r.json").returncode == 0
    assert json.loads((tmp_path / "disk" / "r.json").read_text())["job_id"] == 1


def test_a_failed_job_has_no_receipt(command: Command, tmp_path: Path) -> None:
    assert command(write_bundle(tmp_path / "b.tar", metadata=b"{}"), "--receipt", "r.json").returncode == 1
    assert not (tmp_path / "r.json").exists()


@pytest.mark.sweep
@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"receipt": 2}', "[" * 100_000, '{"receipt": 1, "job_id": "../1"}'], ids=range(6)
)
def test_what_is_no_receipt(command: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    done = command("verify", "--receipt", "r.json")
    assert done.returncode == 1
    assert "is not a receipt" in done.stderr
    assert "Traceback" not in done.stderr

"""A disk that is really full, at each place that is written: a sentence, nothing lost, and the next run goes on."""

import gzip
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_cli.settings import load_settings

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.site import Site

FILES = {"data/small": b"s" * 100, "data/large": os.urandom(400_000), "data/last": b"l" * 100}
LIMITS = [0, 100, 4096, 20_000, 40_000, 100_000, 300_000]


@pytest.fixture(params=["plain", "packed", "standard input"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], bytes]:
    """The words of a command line, and what goes to its standard input."""
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    if request.param == "standard input":
        return ["-"], bundle.read_bytes()
    if request.param == "packed":
        (tmp_path / "b.tar.gz").write_bytes(gzip.compress(bundle.read_bytes()))
        bundle = tmp_path / "b.tar.gz"
    return [str(bundle)], b""


def assert_finished(command: Command, site: Site, given: tuple[list[str], bytes]) -> None:
    words, stdin = given
    done = command(*words, "-q", stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert site.contents() == FILES
    assert len(site.archived()) == len(FILES), "no orphans, temporary files included"
    assert len(site.rows("Transactions")) == 1


@pytest.mark.parametrize("limit", LIMITS)
def test_no_file_can_grow_beyond_a_limit(
    command: Command, site: Site, given: tuple[list[str], bytes], limit: int
) -> None:
    words, stdin = given
    done = command(*words, "-q", stdin=stdin, file_limit=limit)
    assert done.returncode in (1, 4), done.stderr
    assert done.stderr.startswith("ingest: ")
    assert "Traceback" not in done.stderr
    assert_finished(command, site, given)


@pytest.fixture(params=["archive", "job store", "catalogue", "spool"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One place lies on a disk of 300 kB, of which some are filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True).returncode != 0:
        pytest.skip("a disk cannot be mounted here")
    variable, value = {
        "archive": ("ARCHIVEINTERFACE_URL", (disk / "archive").as_uri()),
        "job store": ("INGEST_DB", str(disk / "jobs.sqlite3")),
        "catalogue": ("METADATA_INGEST_URL", (disk / "catalogue.sqlite3").as_uri()),
        "spool": ("VOLUME_PATH", str(disk / "spool")),
    }[request.param]
    monkeypatch.setenv(variable, value)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("free", [0, 20_000, 70_000])
def test_a_disk_is_full(
    command: Command, given: tuple[list[str], bytes], small_disk: Path, environment: Path, free: int
) -> None:
    site = Site(environment / "data" / "pacifica-ingest-cli")
    site.settings = load_settings()
    if isinstance(site.settings.archive, Path) and isinstance(site.settings.catalog, Path):
        site.archive, site.catalog = site.settings.archive, site.settings.catalog
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(max(0, os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - free)))
    words, stdin = given
    done = command(*words, "-q", stdin=stdin)
    assert "Traceback" not in done.stderr
    if done.returncode != 0:
        assert done.returncode in (1, 4)
        assert done.stderr.startswith("ingest: ")
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=40m", small_disk], check=True)
    assert_finished(command, site, given)

"""A bundle that takes long to unpack, or for which there is no room: a signal ends it, a disk keeps a reserve."""

import gzip
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ingest_cli.bundle.reader import Bundle
from ingest_cli.disk import RESERVE_BYTES
from ingest_cli.errors import ExitCode, ResourceUnavailable

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.site import Site
from ..support.tar_forms import END, header
from ..support.waiting import until

PIECE = 64 << 20
# Much longer than a process takes to end.
GRACE = 20.0


@pytest.fixture(scope="module")
def long_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 6 GB, all but nothing of it, that takes long to unpack."""
    path = tmp_path_factory.mktemp("long") / "b.tar.gz"
    with path.open("wb") as file:
        file.write(gzip.compress(header(b"data/zeros", 100 * PIECE)))
        file.write(gzip.compress(bytes(PIECE), 9) * 100)
        file.write(gzip.compress(END))
    return path


def is_unpacking(running: Running, spool: Path) -> bool:
    """Whether the process has a file without a name in the spool, and has written to it."""
    for descriptor in Path(f"/proc/{running.pid}/fd").iterdir():
        with suppress(OSError):  # closed since
            if str(descriptor.readlink()).startswith(f"{spool}/") and descriptor.stat().st_size > PIECE:
                return True
    return False


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("words", "ending"),
    [([], signal.SIGTERM), ([], signal.SIGINT), (["check"], signal.SIGINT), (["check"], signal.SIGTERM)],
)
def test_a_signal_ends_it_at_once(
    starting: Callable[..., Running],
    site: Site,
    long_bundle: Path,
    words: list[str],
    ending: signal.Signals,
) -> None:
    running = starting(*words, long_bundle, "-q", timings={"grace": GRACE})
    until(lambda: is_unpacking(running, site.settings.spool))
    os.kill(running.pid, ending)
    begun = time.monotonic()
    assert running.wait(60) == ExitCode.INTERRUPTED
    assert time.monotonic() - begun < GRACE
    assert not list(site.settings.spool.iterdir())
    if not words:
        assert [job.is_interrupted for job in site.jobs()] == [True]


@pytest.fixture
def small_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", disk], capture_output=True).returncode != 0:
        pytest.skip("a disk cannot be mounted here")
    monkeypatch.setenv("VOLUME_PATH", str(disk / "spool"))
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


FILES = {"data/zeros": bytes(30 << 20)}


def test_unpacking_keeps_a_reserve_of_the_disk(small_spool: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar.gz", FILES, mode="w:gz")
    free = []

    def look() -> None:
        disk = os.statvfs(small_spool)
        free.append(disk.f_bavail * disk.f_frsize)

    with pytest.raises(ResourceUnavailable, match=r"cannot unpack .* MB free, 16\.8 MB in reserve"):
        Bundle(bundle, small_spool / "spool", require=look)
    assert RESERVE_BYTES <= min(free) < RESERVE_BYTES + (4 << 20)


def test_a_job_waits_for_room_to_unpack(command: Command, small_spool: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar.gz", FILES, mode="w:gz")
    done = command(bundle, "-q")
    assert done.returncode == 4
    assert f"is deferred: it failed at 'open tar': cannot unpack {bundle} into {small_spool}/spool: " in done.stderr
    assert command("check", bundle).returncode == 4
    subprocess.run(["mount", "-o", "remount,size=80m", small_spool], check=True)
    assert command(bundle, "-q").returncode == 0

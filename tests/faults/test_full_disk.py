"""A disk that is really full, at each place that is written: a job waits, however long, and the next run resumes it."""

import gzip
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest_cli import api
from ingest_cli.errors import ExitCode, Interrupted, ResourceUnavailable
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.factory import connect

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.mounting import fill, formatted_disk, small_disk
from ..support.site import Leaver, Site, Witness
from ..support.waiting import until

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


def assert_waits(status: int, said: str, site: Site) -> None:
    """Nothing was given up, and all that is stored is of a job that will be resumed. There is room again."""
    assert status == ExitCode.UNREACHABLE, said
    assert said.startswith("ingest: ")
    assert "Traceback" not in said
    if site.database.exists() and site.database.stat().st_size:
        jobs = site.jobs()
        assert {job.state for job in jobs} <= {JobState.QUEUED, JobState.RUNNING}
        reserved = [job.reservation.ids for job in jobs if job.reservation is not None]
        assert all(any(file_id in ids for ids in reserved) for file_id in site.archived())


def assert_finished(command: Command, site: Site, given: tuple[list[str], bytes]) -> None:
    words, stdin = given
    done = command(*words, "-q", stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert site.contents() == FILES
    assert len(site.archived()) == len(FILES), "no orphans, temporary files included"
    assert len(site.rows("Transactions")) == 1


@pytest.mark.sweep
@pytest.mark.parametrize("limit", LIMITS)
def test_no_file_can_grow_beyond_a_limit(
    command: Command, site: Site, given: tuple[list[str], bytes], limit: int
) -> None:
    words, stdin = given
    done = command(*words, "-q", stdin=stdin, file_limit=limit)
    assert_waits(done.returncode, done.stderr, site)
    assert_finished(command, site, given)


@pytest.fixture(params=["archive", "job store", "catalogue", "ids", "spool"])
def small_place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One place lies on a disk of 300 kB, of which some are filled."""
    disk = tmp_path / "disk"
    with small_disk(disk, "300k"):
        variable, value = {
            "archive": ("ARCHIVEINTERFACE_URL", (disk / "archive").as_uri()),
            "job store": ("INGEST_DB", str(disk / "jobs.sqlite3")),
            "catalogue": ("METADATA_INGEST_URL", (disk / "catalogue.sqlite3").as_uri()),
            "ids": ("UNIQUEID_URL", (disk / "ids.sqlite3").as_uri()),
            "spool": ("VOLUME_PATH", str(disk / "spool")),
        }[request.param]
        monkeypatch.setenv(variable, value)
        yield disk


def site_of(environment: Path) -> Site:
    site = Site(environment / "data" / "pacifica-ingest-cli")
    assert isinstance(site.settings.archive, Path)
    assert isinstance(site.settings.catalog, Path)
    site.archive, site.catalog = site.settings.archive, site.settings.catalog
    return site


@pytest.mark.sweep
@pytest.mark.parametrize("free", [0, 20_000, 70_000])
def test_a_disk_is_full(
    command: Command, given: tuple[list[str], bytes], small_place: Path, environment: Path, free: int
) -> None:
    site = site_of(environment)
    ballast = fill(small_place, leaving=free)
    words, stdin = given
    done = command(*words, "-q", stdin=stdin)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=40m", small_place], check=True)
    if done.returncode != 0:
        assert_waits(done.returncode, done.stderr, site)
    assert_finished(command, site, given)


@pytest.fixture
def full_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Path) -> Iterator[Site]:
    """A site whose archive is on a disk of its own, an ext4 of 24 MB."""
    with formatted_disk(tmp_path / "image", tmp_path / "disk", 24):
        monkeypatch.setenv("ARCHIVEINTERFACE_URL", (tmp_path / "disk" / "archive").as_uri())
        yield site_of(environment)


def on(site: Site) -> Path:
    return site.archive.parent


def test_a_job_waits_for_hours_and_keeps_its_id(
    full_archive: Site, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    site = full_archive
    ballast = fill(on(site), leaving=1 << 20)
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    with open_store(site.settings) as store, connect(site.settings, store) as services:
        submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u")
    starting("worker", "-q", timings={"first_backoff": 0.01, "longest_backoff": 0.05, "poll": 0.01, "runs": 3})
    # Between two runs: one that has just begun has not failed yet.
    until(lambda: site.job(1).waits > 10 and "not enough space in the archive" in site.job(1).exception)
    job = site.job(1)
    assert (job.attempts, job.reservation) <= (1, None)
    ballast.unlink()
    until(lambda: site.job(1).is_done)
    assert site.contents() == FILES


def test_a_file_larger_than_the_disk_waits_for_a_larger_disk(full_archive: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {"data/large": bytes(30 << 20)})
    for _ in range(2):
        with pytest.raises(ResourceUnavailable, match="not enough space"):
            full_archive.ingest(bundle)
        assert full_archive.job(1).is_deferred


def test_nothing_in_a_drop_folder_is_taken_for_failed(full_archive: Site, tmp_path: Path, command: Command) -> None:
    drop, failed, done_folder = tmp_path / "drop", tmp_path / "failed", tmp_path / "done"
    for folder in (drop, failed, done_folder):
        folder.mkdir()
    write_bundle(drop / "b.tar", FILES)
    ballast = fill(on(full_archive), leaving=1 << 20)
    words = ["watch", "--once", "--settle", "0", "--failed", failed, "--done", done_folder, drop]
    done = command(*words)
    assert done.returncode == ExitCode.UNREACHABLE, done.stderr
    assert "job 1 is deferred: it failed at 'ingest files': not enough space" in done.stderr
    assert (drop / "b.tar").exists()
    assert not list(failed.iterdir())
    assert not list(drop.glob("*.error.json"))
    ballast.unlink()
    with open_store(full_archive.settings) as store:
        assert store.get(1).retry_at > 0
    assert command("retry", 1).returncode == 0
    assert command(*words).returncode == 0
    assert (tmp_path / "done" / "b.tar").exists()


@pytest.mark.parametrize("files", [1, 200])
def test_what_fills_the_disk_is_rolled_back(full_archive: Site, tmp_path: Path, files: int) -> None:
    """No room is needed to give room: neither for the folder of a run, nor for the names of what is deleted."""
    site = full_archive
    bundle = write_bundle(tmp_path / "b.tar", {f"data/{number}": b"%d" % number for number in range(files + 1)})
    with open_store(site.settings) as store, connect(site.settings, store) as services:
        runner = Runner(site.settings, services, store)
        job = submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u")
        with pytest.raises(Interrupted):
            runner.run(job, Leaver(runner, after=files))
    assert len(site.archived()) == files
    fill(on(site))
    fill_inodes(on(site))
    (outcome,) = api.discard_jobs([1], settings=site.settings)
    assert outcome.error is None, outcome.error
    assert site.archived() == {}


def fill_inodes(disk: Path) -> None:
    """Not even an empty file can be made."""
    for number in range(1 << 20):
        try:
            (disk / f"filler {number}").touch()
        except OSError:
            return


def test_a_full_archive_is_told_before_anything_is_stored(full_archive: Site, tmp_path: Path) -> None:
    fill(on(full_archive), leaving=16 << 20)
    with pytest.raises(ResourceUnavailable):
        full_archive.ingest(write_bundle(tmp_path / "b.tar", FILES))
    assert full_archive.archived() == {}
    assert full_archive.job(1).reservation is None


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(6))
def test_a_disk_that_fills_up_while_jobs_run(full_archive: Site, tmp_path: Path, seed: int) -> None:
    """Others fill it and free it again at any time; in the end all is stored once."""
    site, chance = full_archive, random.Random(seed)
    bundles = [
        write_bundle(tmp_path / f"{number}.tar", {f"data/{number}-{name}": data for name, data in FILES.items()})
        for number in range(3)
    ]
    site.witness = Filler(on(site), chance)
    waited = 0
    for bundle in bundles:
        for _ in range(20):
            try:
                site.ingest(bundle)
                break
            except ResourceUnavailable:
                waited += 1
                site.witness.free()
    assert waited
    assert [job.state for job in site.jobs()] == [JobState.COMPLETE] * len(bundles)
    assert len(site.archived()) == len(bundles) * len(FILES)
    assert not list(api.verify_all(settings=site.settings))


class Filler(Witness):
    """Fills the disk between two of a job's steps, now and then."""

    def __init__(self, disk: Path, chance: random.Random) -> None:
        super().__init__()
        self._disk, self._chance = disk, chance
        self._ballast: Path | None = None
        self._left = 8

    def free(self) -> None:
        if self._ballast is not None:
            self._ballast.unlink()
            self._ballast = None

    def stage(self, task: str) -> None:
        self._perhaps_fill()

    def stored(self, length: int, files: int = 0) -> None:
        self._perhaps_fill()

    def _perhaps_fill(self) -> None:
        if self._ballast is None and self._left and self._chance.random() < 0.3:
            self._left -= 1
            self._ballast = fill(self._disk, leaving=self._chance.choice([0, 4096, 100_000]))


def test_what_needs_a_little_room_says_that_there_is_none(
    environment: Path, command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that it is worth a report: closing a file that could not be written fails again."""
    monkeypatch.setenv("NOTIFICATIONS_COMMAND", "false")
    assert command(write_bundle(tmp_path / "b.tar")).returncode == 0
    disk = tmp_path / "disk"
    with small_disk(disk, "100k"):
        monkeypatch.setenv("VOLUME_PATH", str(disk / "spool"))
        (disk / "spool").mkdir()
        fill(disk)
        api.resend_events([1])
        checked = command("doctor")
        (event,) = api.list_events(1)
    assert event.reason == f"cannot write into {disk}/spool: No space left on device"
    assert f"FAIL spool folder cannot write into {disk}/spool: No space left on device" in checked.stdout
    assert "Traceback" not in checked.stderr


def test_jobs_are_counted_where_there_is_no_room_to_note_why_they_failed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "4m"):
        monkeypatch.setenv("XDG_DATA_HOME", str(disk))
        assert command("-q", write_bundle(tmp_path / "b.tar", metadata=b"{}")).returncode != 0
        fill(disk, leaving=40_000)  # which is enough to read
        done = command("stats")
        assert done.returncode == 0
        assert "\nfailed        1 " in done.stdout
        assert "why jobs failed is not told" in done.stderr
        assert "1  load metadata: " not in done.stdout

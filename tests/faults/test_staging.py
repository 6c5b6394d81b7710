"""A bundle that is too large to be kept in memory is hashed while it is written aside: until all of it has been found
right, nothing of it has a name in the archive, and nothing stays aside whatever comes between."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ingest_cli import api
from ingest_cli.errors import FileRefused, IngestError, Interrupted, ResourceUnavailable
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline import bundle_files
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.shutdown import graceful_shutdown
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.embedded.archive import EmbeddedArchive
from ingest_cli.services.embedded.layout import RUNS_FOLDER
from ingest_cli.services.factory import connect

from ..support.bundles import Record, document_for, file_record, transaction, write_bundle
from ..support.mounting import fill, formatted_disk
from ..support.site import Site, Witness, assert_sound
from ..support.waiting import until

# Enough for several threads to have their share, and some that are large.
FILES = {
    **{f"data/small/{number:03}": b"%d" % number * (number % 50) for number in range(300)},
    **{f"data/large/{number}": os.urandom(3 << 20) for number in range(3)},
    "data/last": b"the last",
}


@pytest.fixture(autouse=True, params=["1", "2"], ids=["one thread", "two threads"])
def nothing_is_kept(request: pytest.FixtureRequest, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a bundle that is larger than what is kept in memory, by one or several threads."""
    monkeypatch.setattr(bundle_files, "KEPT_BYTES", -1)
    monkeypatch.setenv("ARCHIVEINTERFACE_THREADS", request.param)


class Onlooker(Witness):
    """Does something when so many files were written aside, and looks at what the archive holds then."""

    def __init__(self, site: Site, *, after: int, act: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._site, self._after, self._act = site, after, act
        self.named: set[str] | None = None
        self.aside = 0

    def checked(self, length: int, files: int = 0) -> None:
        super().checked(length, files)
        if files and self.files_checked == self._after:
            self.named = names_in(self._site.archive)
            self.aside = len(aside_in(self._site.archive))
            self._act()


def names_in(archive: Path) -> set[str]:
    """What has a file's name in the archive."""
    found = (path.relative_to(archive) for path in archive.rglob("*") if path.is_file())
    return {str(path) for path in found if path.parts[0] not in (RUNS_FOLDER, "ARCHIVE-ID")}


def aside_in(archive: Path) -> list[Path]:
    return [path for path in (archive / RUNS_FOLDER).rglob("*") if path.is_file()]


def assert_nothing_of_it(site: Site) -> None:
    assert names_in(site.archive) == set()
    assert list((site.archive / RUNS_FOLDER).iterdir()) == []


def test_all_is_aside_before_the_first_is_stored(site: Site, tmp_path: Path) -> None:
    witness = site.witness = Onlooker(site, after=len(FILES))
    assert site.ingest(write_bundle(tmp_path / "b.tar", FILES)).state is JobState.COMPLETE
    assert (witness.named, witness.aside) == (set(), len(FILES))
    assert (witness.files_checked, witness.files_stored) == (len(FILES), len(FILES))
    assert witness.bytes_checked == witness.bytes_stored == sum(map(len, FILES.values()))
    assert_sound(site, FILES, jobs=1)
    assert aside_in(site.archive) == []


@pytest.mark.parametrize("of_the_last", [{"hashsum": "0" * 40}, {"size": 9}, {"name": "missing"}], ids=str)
def test_a_bad_last_file_leaves_nothing(site: Site, tmp_path: Path, of_the_last: dict[str, object]) -> None:
    *good, last = FILES
    records = [file_record(path, FILES[path]) for path in good] + [file_record(last, FILES[last], **of_the_last)]
    witness = site.witness = Onlooker(site, after=len(good))
    with pytest.raises(FileRefused):
        site.ingest(write_bundle(tmp_path / "b.tar", FILES, [*transaction(), *records]))
    job = site.job(1)
    assert (job.state, job.reservation, job.task) == (JobState.FAILED, None, "ingest files")
    assert not witness.named
    assert site.archived() == {}
    assert not list(api.verify_all(settings=site.settings))


def kill_while_it_is_staged(site: Site, bundle: Path, after: int) -> None:
    """Have a process of its own ingest the bundle, and kill it when so many files are aside."""
    child = os.fork()
    if child == 0:
        site.witness = Onlooker(site, after=after, act=lambda: os.kill(os.getpid(), signal.SIGKILL))
        try:
            site.ingest(bundle)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert aside_in(site.archive)
    assert names_in(site.archive) == set()


def test_what_a_killed_run_had_aside_is_no_orphan_and_gone_with_the_next(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    for after in (1, len(FILES)):
        kill_while_it_is_staged(site, bundle, after)
        assert not list(api.verify_all(settings=site.settings))
    assert site.ingest(bundle).state is JobState.COMPLETE
    assert_sound(site, FILES, jobs=1)
    assert list((site.archive / RUNS_FOLDER).iterdir()) == []


def test_what_a_killed_run_had_aside_is_gone_when_its_job_is_discarded(site: Site, tmp_path: Path) -> None:
    kill_while_it_is_staged(site, write_bundle(tmp_path / "b.tar", FILES), len(FILES))
    (outcome,) = api.discard_jobs([1], settings=site.settings)
    assert outcome.error is None
    assert site.job(1).state is JobState.DISCARDED
    assert_nothing_of_it(site)


def test_what_a_killed_run_had_aside_is_gone_when_its_bundle_was_replaced(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    kill_while_it_is_staged(site, bundle, len(FILES))
    write_bundle(tmp_path / "new.tar", {"data/new": b"new"}).rename(bundle)
    site.ingest(bundle)
    assert {job.state for job in site.jobs()} == {JobState.COMPLETE, JobState.FAILED}
    assert site.contents() == {"data/new": b"new"}
    assert len(site.archived()) == 1


@pytest.mark.parametrize("after", [1, len(FILES) - 1])
def test_interrupted_it_leaves_nothing_aside_and_is_resumed(site: Site, tmp_path: Path, after: int) -> None:
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    with connect(site.settings) as services, open_store(site.settings) as store:
        runner = Runner(site.settings, services, store)
        job = submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u", holder=this_process())
        with pytest.raises(Interrupted):
            runner.run(job, Onlooker(site, after=after, act=runner.interrupt))
    assert_nothing_of_it(site)
    assert site.job(1).state is JobState.QUEUED
    site.ingest(bundle)
    assert_sound(site, FILES, jobs=1)


def test_a_disk_that_fills_up_meanwhile_gets_its_room_back(
    tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job waits, and is resumed when there is room."""
    disk = tmp_path / "disk"
    with formatted_disk(tmp_path / "image", disk, 64):
        monkeypatch.setenv("ARCHIVEINTERFACE_URL", (disk / "archive").as_uri())
        site = Site(environment / "data" / "pacifica-ingest-cli")
        site.archive = disk / "archive"
        bundle = write_bundle(tmp_path / "b.tar", FILES)
        ballast: list[Path] = []
        site.witness = AtFirst(lambda: ballast.append(fill(disk, leaving=1 << 20)))
        with pytest.raises(ResourceUnavailable, match="No space left on device"):
            site.ingest(bundle)
        assert site.job(1).is_deferred
        assert_nothing_of_it(site)
        ballast[0].unlink()
        site.witness = Witness()
        site.ingest(bundle)
        assert_sound(site, FILES, jobs=1)


class AtFirst(Witness):
    """Does something as soon as the first bytes were read, before any of them is written."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act, self._lock = act, threading.Lock()

    def checked(self, length: int, files: int = 0) -> None:
        with self._lock:
            if not self.bytes_checked:
                self._act()
            super().checked(length, files)


def test_what_is_written_to_the_bundle_after_it_was_hashed_is_not_stored(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where it was staged, nor where it was kept in memory."""
    for kept in (-1, 64 << 20):
        monkeypatch.setattr(bundle_files, "KEPT_BYTES", kept)
        bundle = write_bundle(tmp_path / f"{kept}.tar", FILES, [*document_for(FILES), comment(kept)])
        zeros = bytes(bundle.stat().st_size)
        site.witness = Onlooker(site, after=len(FILES), act=partial(bundle.write_bytes, zeros))
        assert site.ingest(bundle).state is JobState.COMPLETE
        assert bundle.read_bytes() == zeros
        assert site.contents() == FILES
    assert not list(api.verify_all(settings=site.settings))


def comment(number: int) -> Record:
    """What makes another document."""
    return {"destinationTable": "TransactionKeyValue", "key": "kept", "value": str(number)}


def test_a_bundle_that_is_cut_short_while_it_is_read(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar", FILES)
    site.witness = AtFirst(lambda: os.truncate(bundle, 1 << 20))
    with pytest.raises(IngestError, match="truncated while it was read"):
        site.ingest(bundle)
    assert site.job(1).state is JobState.FAILED
    assert_nothing_of_it(site)


class Impatient(Witness):
    """Sends a signal when the first bytes were read to be stored, and another one when that has been heeded."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner, self._lock = runner, threading.Lock()

    def stored(self, length: int, files: int = 0) -> None:
        with self._lock:
            if not self._runner.interrupted:
                os.kill(os.getpid(), signal.SIGINT)
                until(lambda: self._runner.interrupted)
                os.kill(os.getpid(), signal.SIGINT)
                until(lambda: self._runner.abandoned)
            super().stored(length, files)


def test_at_a_second_signal_no_thread_comes_to_the_end_of_its_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files that are not staged, which may be of any size; and the job is resumed."""
    monkeypatch.setattr(EmbeddedArchive, "stages", False)
    files = {f"data/{number}": os.urandom(6 << 20) for number in range(4)}
    bundle = write_bundle(tmp_path / "b.tar", files)
    with connect(site.settings) as services, open_store(site.settings) as store:
        runner = Runner(site.settings, services, store)
        job = submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u", holder=this_process())
        witness = Impatient(runner)
        with pytest.raises(KeyboardInterrupt), graceful_shutdown(runner, 60.0):
            runner.run(job, witness)
    assert witness.files_stored == 0
    assert names_in(site.archive) == set()
    site.ingest(bundle)
    assert_sound(site, files, jobs=1)

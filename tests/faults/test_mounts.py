"""Disks that are not mounted: nothing is made in their place, jobs wait, and all is as it was once they are back."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingest_cli import api
from ingest_cli.errors import ExitCode, Interrupted, ResourceUnavailable
from ingest_cli.jobs.job import Job, JobKind, JobState
from ingest_cli.jobs.store import open_store
from ingest_cli.maintenance.prune import find_prunable
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.embedded.mark import MARK_NAME
from ingest_cli.services.factory import connect
from ingest_cli.settings import load_settings

from ..support.bundles import FILES, file_record, transaction, write_bundle
from ..support.forks import Running
from ..support.mounting import Disk, mounting
from ..support.old_stores import old_store
from ..support.site import Leaver, Site, Witness, assert_sound
from ..support.stepping import Order, Outcome, Stepper
from ..support.waiting import until

pytestmark = pytest.mark.sweep

MORE = {"data/more": b"more\n"}
Ingest = Callable[..., Outcome]
QUICK = {"first_backoff": 0.05, "longest_backoff": 0.2, "poll": 0.02}


@pytest.fixture(autouse=True, scope="module")
def program() -> Iterator[Stepper]:
    """The program, which sees the mounts of this module as nobody else does."""
    with mounting(), Stepper() as program:
        yield program


@pytest.fixture
def ingest(program: Stepper, tmp_path: Path) -> Ingest:
    def run(*words: object) -> Outcome:
        return program(Order(words=list(map(str, words)), folder=str(tmp_path), environment=dict(os.environ)))

    return run


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(tmp_path / "content", tmp_path / "mnt")
    disk.mount()
    return disk


@pytest.fixture(params=["archive", "."], ids=["a folder of the disk", "the disk itself"])
def on_disk(request: pytest.FixtureRequest, disk: Disk, monkeypatch: pytest.MonkeyPatch, environment: Path) -> Site:
    """A site whose archive is on the disk."""
    return site_with(disk.place / request.param, monkeypatch, environment)


def site_with(archive: Path, monkeypatch: pytest.MonkeyPatch, environment: Path) -> Site:
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", archive.as_uri())
    site = Site(environment / "data" / "pacifica-ingest-cli")
    site.archive = archive
    return site


def queue(site: Site, path: Path, kind: JobKind = JobKind.BUNDLE, *, spooled: bool = False) -> Job:
    with open_store(site.settings) as store, connect(site.settings, store) as services:
        return submit(store, services.unique_id, kind, path, user="u", spooled=spooled)


def run(site: Site, job_id: int) -> Job:
    """Run a job once more, whatever comes of it."""
    api.retry_jobs([job_id], lambda *_: site.witness, settings=site.settings)
    return site.job(job_id)


# The archive


def test_a_job_waits_for_the_archives_disk(ingest: Ingest, on_disk: Site, disk: Disk, tmp_path: Path) -> None:
    assert ingest("-q", write_bundle(tmp_path / "a.tar")).status == 0
    disk.unmount()
    bundle = write_bundle(tmp_path / "b.tar", MORE)
    done = ingest("-q", bundle)
    assert done.status == ExitCode.UNREACHABLE
    assert str(on_disk.archive) in done.stderr
    assert "Is its disk mounted?" in done.stderr
    assert "'ingest retry 2', the same command or a worker resumes it" in done.stderr
    assert disk.leaves_nothing()
    assert on_disk.job(2).is_deferred
    disk.mount()
    assert ingest("-q", bundle).status == 0
    assert_sound(on_disk, {**FILES, **MORE}, jobs=2)


def test_a_worker_resumes_a_job_once_the_disk_is_back(
    on_disk: Site, disk: Disk, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    on_disk.ingest(write_bundle(tmp_path / "a.tar"))
    disk.unmount()
    queue(on_disk, write_bundle(tmp_path / "b.tar", MORE))
    starting("worker", "-q", timings={**QUICK, "runs": 2})
    until(lambda: on_disk.job(2).waits > 3)
    assert on_disk.job(2).attempts <= 1, "what must wait is not given up"
    assert disk.leaves_nothing()
    disk.mount()
    until(lambda: on_disk.job(2).is_done)
    assert_sound(on_disk, {**FILES, **MORE}, jobs=2)


def test_what_only_reads_does_not_take_an_archive_that_is_away_for_a_damaged_one(
    ingest: Ingest, on_disk: Site, disk: Disk, tmp_path: Path
) -> None:
    ingest("-q", write_bundle(tmp_path / "a.tar"), "--receipt", "receipt")
    disk.unmount()
    for words in (
        ["verify", 1],
        ["verify", "--all"],
        ["verify", "--receipt", "receipt"],
        ["restore", 1, "--to", "restored"],
        ["doctor"],
    ):
        done = ingest(*words)
        assert done.status == ExitCode.UNREACHABLE, words
        assert "Is its disk mounted?" in done.stdout + done.stderr
    assert not (tmp_path / "restored").exists()
    assert disk.leaves_nothing()
    disk.mount()
    assert ingest("verify", "--all").status == 0
    assert ingest("verify", "--receipt", "receipt").status == 0


@pytest.mark.parametrize("files", [0, 1, 2])
def test_what_is_to_be_rolled_back_waits_for_the_disk(on_disk: Site, disk: Disk, tmp_path: Path, files: int) -> None:
    """Half stored when it is abandoned: nothing else is deleted, and nothing of it is forgotten."""
    on_disk.ingest(write_bundle(tmp_path / "a.tar", MORE))
    job = half_stored(on_disk, write_bundle(tmp_path / "b.tar"), files)
    disk.unmount()
    (outcome,) = api.discard_jobs([job.job_id], settings=on_disk.settings)
    assert isinstance(outcome.error, ResourceUnavailable)
    assert on_disk.job(job.job_id).state is JobState.UNDOING
    assert disk.leaves_nothing()
    disk.mount()
    (outcome,) = api.discard_jobs([job.job_id], settings=on_disk.settings)
    assert outcome.error is None
    assert list(on_disk.archived().values()) == list(MORE.values())


class Unmounting(Witness):
    """Unmounts the disk when so many files are stored."""

    def __init__(self, disk: Disk, *, after: int) -> None:
        super().__init__()
        self._disk, self._after = disk, after

    def stored(self, length: int, files: int = 0) -> None:
        super().stored(length, files)
        if files and self.files_stored == self._after:
            self._disk.unmount()


def half_stored(site: Site, bundle: Path, files: int) -> Job:
    """A job that is left when so many of its files are stored."""
    job = queue(site, bundle)
    with open_store(site.settings) as store, connect(site.settings, store) as services:
        leased = store.lease(job.job_id)
        store.identify(leased.fence, "digest", len(FILES), 0)
        first = services.unique_id.reserve("file", len(FILES))
        ids = range(first, first + len(FILES))
        store.reserve(leased.fence, ids, None)
        services.archive.writer(ids, leased.fence_number, resumed=False).close()
        for file_id in ids[:files]:
            site.file(file_id).write_bytes(b"stored")
        store.requeue(leased.fence)
    return site.job(job.job_id)


def test_a_disk_that_goes_while_files_are_stored(on_disk: Site, disk: Disk, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.tar", {f"data/{number}": b"%d" % number for number in range(9)})

    on_disk.witness = Unmounting(disk, after=4)
    with pytest.raises(ResourceUnavailable):
        on_disk.ingest(bundle)
    assert on_disk.job(1).is_deferred
    assert disk.leaves_nothing()
    disk.mount()
    assert run(on_disk, 1).is_done
    assert len(on_disk.archived()) == 9


@pytest.mark.parametrize("other", ["empty", "of another site"])
def test_another_disk_in_the_place_of_the_archives(on_disk: Site, disk: Disk, tmp_path: Path, other: str) -> None:
    on_disk.ingest(write_bundle(tmp_path / "a.tar"))
    disk.unmount()
    another = Disk(tmp_path / "another", disk.place)
    another.mount()
    if other == "of another site":
        on_disk.archive.mkdir(exist_ok=True)
        (on_disk.archive / MARK_NAME).write_text("# of another site\n123\n")
        on_disk.file(1).write_bytes(b"of another site")
    before = sorted(another.content.rglob("*"))
    with pytest.raises(ResourceUnavailable, match=r"Is (its|the right) disk mounted\?"):
        on_disk.ingest(write_bundle(tmp_path / "b.tar", MORE))
    assert sorted(another.content.rglob("*")) == before
    with pytest.raises(ResourceUnavailable):
        api.verify_job(1, settings=on_disk.settings)
    another.unmount()
    disk.mount()
    assert run(on_disk, 2).is_done
    assert_sound(on_disk, {**FILES, **MORE}, jobs=2)


def test_an_administrator_has_another_folder_be_the_archive(on_disk: Site, disk: Disk, tmp_path: Path) -> None:
    """As the messages say: by an empty mark, or by a line in one that other sites use too."""
    on_disk.ingest(write_bundle(tmp_path / "a.tar"))
    (identity,) = [line for line in mark_of(on_disk) if not line.startswith("#")]
    for path in disk.place.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    on_disk.archive.mkdir(exist_ok=True)
    (on_disk.archive / MARK_NAME).touch()
    on_disk.ingest(write_bundle(tmp_path / "b.tar", MORE))
    assert mark_of(on_disk) == [identity]
    (on_disk.archive / MARK_NAME).write_text("another\n")
    with pytest.raises(ResourceUnavailable, match=f"add the line {identity} to {on_disk.archive / MARK_NAME}"):
        on_disk.ingest(write_bundle(tmp_path / "c.tar", {"data/c": b"c"}))
    with (on_disk.archive / MARK_NAME).open("a") as file:
        file.write(f"{identity}\n")
    assert run(on_disk, 3).is_done
    assert mark_of(on_disk) == ["another", identity]


def mark_of(site: Site) -> list[str]:
    return (site.archive / MARK_NAME).read_text().splitlines()


def test_an_archive_is_moved_with_its_mark(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Path
) -> None:
    site = site_with(disk.place / "archive", monkeypatch, environment)
    site.ingest(write_bundle(tmp_path / "a.tar"))
    shutil.move(site.archive, tmp_path / "moved")
    moved = site_with(tmp_path / "moved", monkeypatch, environment)
    assert not api.verify_job(1, settings=moved.settings)
    moved.ingest(write_bundle(tmp_path / "b.tar", MORE))
    assert_sound(moved, {**FILES, **MORE}, jobs=2)


def test_several_sites_share_an_archive(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Path
) -> None:
    sites = []
    for name in ("one", "two"):
        monkeypatch.setenv("INGEST_DB", str(tmp_path / name))
        sites.append(site_with(disk.place / "archive", monkeypatch, environment))
        sites[-1].ingest(write_bundle(tmp_path / f"{name}.tar", {f"data/{name}": b"x"}))
    for site in sites:
        assert not list(api.verify_all(settings=site.settings)), "the mark is no orphan, nor is what the other stored"
    disk.unmount()
    for site in sites:
        with pytest.raises(ResourceUnavailable):
            site.ingest(write_bundle(tmp_path / "more.tar", MORE))
    assert disk.leaves_nothing()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("away", [True, False])
def test_an_archive_from_before_there_were_marks(
    on_disk: Site, disk: Disk, tmp_path: Path, version: int, away: bool
) -> None:
    complete = {"state": "OK", "recorded": 1, "resumable": 0, "first_file_id": 1, "stored": 3, "files": 3}
    on_disk.database.parent.mkdir(parents=True)
    old_store(on_disk.database, version, [complete])
    on_disk.archive.mkdir(exist_ok=True)
    for file_id in (1, 2, 3):
        on_disk.file(file_id).write_bytes(b"stored")
    with connect(on_disk.settings) as services:
        services.unique_id.reserve("upload_job", 1)
        services.unique_id.reserve("file", 3)
    if away:
        disk.unmount()
        with pytest.raises(ResourceUnavailable):
            on_disk.ingest(write_bundle(tmp_path / "a.tar"))
        assert disk.leaves_nothing()
        disk.mount()
    on_disk.ingest(write_bundle(tmp_path / "a.tar"))
    assert len(on_disk.archived()) == 3 + len(FILES)
    disk.unmount()
    with pytest.raises(ResourceUnavailable):
        on_disk.ingest(write_bundle(tmp_path / "b.tar", MORE))
    assert disk.leaves_nothing()


def test_an_archive_that_is_only_read_needs_no_mark(on_disk: Site, disk: Disk, tmp_path: Path) -> None:
    """One from before there were marks, on a disk that cannot be written."""
    on_disk.ingest(write_bundle(tmp_path / "a.tar"))
    (on_disk.archive / MARK_NAME).unlink()
    with open_store(on_disk.settings) as store:
        store.note_archive("")
    subprocess.run(["mount", "-o", "remount,bind,ro", disk.place], check=True)
    assert list(api.verify_all(settings=on_disk.settings)) == []
    assert api.restore_folder(1, tmp_path / "restored", settings=on_disk.settings) == len(FILES)
    with pytest.raises(ResourceUnavailable, match="Read-only file system"):
        on_disk.ingest(write_bundle(tmp_path / "b.tar", MORE))


# The databases

DATABASES = {
    "INGEST_DB": "jobs.sqlite3",
    "UNIQUEID_URL": "ids.sqlite3",
    "METADATA_INGEST_URL": "catalogue.sqlite3",
}


@pytest.mark.parametrize("variable", DATABASES)
def test_a_database_whose_disk_is_away_is_not_made_anew(
    ingest: Ingest, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Path, variable: str
) -> None:
    path = disk.place / DATABASES[variable]
    monkeypatch.setenv(variable, path.as_uri() if variable.endswith("URL") else str(path))
    assert ingest("-q", write_bundle(tmp_path / "a.tar")).status == 0
    disk.unmount()
    for words in (
        [write_bundle(tmp_path / "b.tar", MORE)],
        ["--queue", tmp_path / "b.tar"],
        ["worker", "--until-empty"],
        ["verify", 1],
        ["restore", 1, "--to", "restored"],
        ["backup", "copies"],
        ["doctor"],
    ):
        done = ingest(*words)
        assert done.status == ExitCode.UNREACHABLE, (words, done.stderr)
        assert f"{path} is not there" in done.stdout + done.stderr
    assert disk.leaves_nothing()
    disk.mount()
    assert ingest("-q", tmp_path / "b.tar").status == 0
    site = Site(environment / "data" / "pacifica-ingest-cli")
    site.catalog = Path(path) if variable == "METADATA_INGEST_URL" else site.catalog
    assert_sound(site, {**FILES, **MORE}, jobs=2)


def test_an_administrator_begins_a_new_database(site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "a.tar"))
    site.database.unlink()
    with pytest.raises(ResourceUnavailable, match="An empty file in its place begins a new one"):
        site.ingest(write_bundle(tmp_path / "b.tar", MORE))
    site.database.touch()
    site.ingest(write_bundle(tmp_path / "b.tar", MORE))
    assert [job.job_id for job in site.jobs()] == [2]


def test_a_heartbeat_makes_no_new_store(site: Site, tmp_path: Path) -> None:
    with open_store(site.settings) as store:
        site.database.unlink()
        with pytest.raises(ResourceUnavailable, match="is its disk mounted"):
            store.another()
    assert not site.database.exists()


# Bundles and the sources of moves


def test_a_queued_bundle_whose_disk_is_away_is_waited_for(site: Site, disk: Disk, tmp_path: Path) -> None:
    for folder in (disk.place, disk.place / "run"):
        folder.mkdir(exist_ok=True)
        queue(site, write_bundle(folder / "a.tar", {f"data/{folder.name}": b"x"}))
    disk.unmount()
    for job_id in (1, 2):
        job = run(site, job_id)
        assert (job.is_deferred, job.attempts, job.waits) == (True, 0, 1)
        assert f"nothing is mounted at {disk.place}" in job.exception
    disk.mount()
    assert run(site, 1).is_done
    assert run(site, 2).is_done


def test_a_queued_bundle_that_was_removed_from_its_disk_has_failed(site: Site, disk: Disk, tmp_path: Path) -> None:
    bundle = write_bundle(disk.place / "a.tar")
    job = queue(site, bundle)
    bundle.unlink()
    outcomes = api.retry_jobs([job.job_id], lambda *_: site.witness, settings=site.settings)
    assert outcomes[0].error is not None
    assert site.job(1).state is JobState.FAILED


def test_a_bundle_in_a_spool_folder_that_is_away_is_waited_for(site: Site, tmp_path: Path) -> None:
    spool = site.settings.spool
    spool.mkdir(parents=True)
    queue(site, write_bundle(spool / "upload-1.tar"), spooled=True)
    spool.rename(tmp_path / "away")
    job = run(site, 1)
    assert job.is_deferred
    assert "is the disk of the spool folder mounted?" in job.exception
    (tmp_path / "away").rename(spool)
    assert run(site, 1).is_done


def a_move(tmp_path: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    records = [*transaction()]
    for path, content in FILES.items():
        source = folder / path.replace("/", "_")
        source.write_bytes(content)
        records.append(file_record(path, content, source=str(source)))
    (tmp_path / "move.json").write_text(json.dumps(records))
    return tmp_path / "move.json"


@pytest.mark.parametrize("below", ["", "run"])
def test_a_move_whose_sources_are_away(site: Site, disk: Disk, tmp_path: Path, below: str) -> None:
    """It has begun, and is resumed or abandoned: nothing is moved back to below where the disk was mounted."""
    document = a_move(tmp_path, disk.place / below)
    queue(site, document, JobKind.MOVE)
    leave_after(site, 2)
    assert len(site.archived()) == 2
    disk.unmount()
    assert run(site, 1).is_deferred
    (outcome,) = api.discard_jobs([1], settings=site.settings)
    assert isinstance(outcome.error, ResourceUnavailable)
    assert disk.leaves_nothing()
    assert len(site.archived()) == 2
    disk.mount()
    (outcome,) = api.discard_jobs([1], settings=site.settings)
    assert outcome.error is None, outcome.error
    assert not site.archived()
    assert {path.read_bytes() for path in (disk.place / below).iterdir()} == set(FILES.values())


def test_a_move_is_abandoned_though_the_disk_of_its_document_is_away(site: Site, disk: Disk, tmp_path: Path) -> None:
    shutil.move(a_move(tmp_path, tmp_path / "run"), disk.place)
    queue(site, disk.place / "move.json", JobKind.MOVE)
    leave_after(site, 2)
    disk.unmount()
    assert run(site, 1).is_deferred
    (outcome,) = api.discard_jobs([1], settings=site.settings)
    assert outcome.error is None, outcome.error
    assert {path.read_bytes() for path in (tmp_path / "run").iterdir()} == set(FILES.values())


def leave_after(site: Site, files: int) -> None:
    """Run the only job until so many of its files are stored."""
    with open_store(site.settings) as store, connect(site.settings, store) as services:
        runner = Runner(site.settings, services, store)
        with pytest.raises(Interrupted):
            runner.run(store.get(1), Leaver(runner, after=files))


def test_a_job_is_known_while_the_disk_of_its_bundle_is_away(site: Site, disk: Disk, tmp_path: Path) -> None:
    """Or its bundle would be ingested again when the disk is back."""
    site.ingest(write_bundle(disk.place / "a.tar"))
    site.ingest(write_bundle(tmp_path / "b.tar", MORE))

    def prunable() -> list[int]:
        with open_store(site.settings) as store:
            pieces = find_prunable(site.settings, store, timedelta(seconds=-1))
            return [job.job_id for piece in pieces for job in piece.jobs]

    disk.unmount()
    assert prunable() == []
    (tmp_path / "b.tar").unlink()
    assert prunable() == [2]
    disk.mount()
    (disk.place / "a.tar").unlink()
    assert prunable() == [1, 2]


# The names of mounts

ODD = [
    b"not \xff UTF-8",
    b"a\ttab",
    b"a\nline",
    b"a\rreturn",
    b"back\\slash 040",
    "größe".encode(),
    b"a#b",
    b"\xe2\x82",
    b"- tmpfs x",
]
KINDS = """
import os, sys
from pathlib import Path
from ingest_cli import mounts
mounts.NETWORK_FILE_SYSTEMS.add("tmpfs")
for folder in sys.argv[1:]:
    below = Path(folder, "below")
    print(mounts.on_network(below), mounts.on_network(Path(folder).parent), mounts.mounts_of([below]) == {Path(folder)})
"""


def test_mount_points_of_any_name(ingest: Ingest, site: Site, tmp_path: Path) -> None:
    places = []
    for name in ODD:
        places.append(os.fsencode(tmp_path) + b"/" + name)
        Path(os.fsdecode(places[-1])).mkdir()
        subprocess.run([b"mount", b"-t", b"tmpfs", b"none", places[-1]], check=True)
    done = subprocess.run([sys.executable, "-c", KINDS, *places], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True False True"] * len(ODD)
    assert ingest("-q", write_bundle(tmp_path / "a.tar")).status == 0
    assert ingest("state").status == 0
    site.settings = load_settings()
    assert_sound(site, FILES, jobs=1)

"""Folders that are gone or cannot be written, and output that nobody takes: a sentence, and nothing lost."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_cli.jobs.job import JobState
from ingest_cli.jobs.store import open_store

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.site import Site
from ..support.stepping import Order, Stepper
from ..support.trials import Trial, Trials, finish, sample

pytestmark = pytest.mark.sweep

PLACES = {"archive": "archive", "spool": "spool", "catalogue": "catalogue.sqlite3", "job store": "jobs.sqlite3",
          "ids": "ids.sqlite3", "everything": "."}  # fmt: skip


@pytest.fixture(scope="module")
def stepper() -> Iterator[Stepper]:
    with Stepper() as program:
        yield program


def remove(path: Path) -> None:
    for found in path.parent.glob(f"{path.name}*"):  # a database's companions too
        shutil.rmtree(found) if found.is_dir() else found.unlink()


def assert_sentence(said: str, status: int) -> None:
    assert "Traceback" not in said
    assert status in (0, 1, 4), said
    assert (status == 0) or any(line.startswith("ingest: ") for line in said.splitlines())


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_was_removed_after_a_job(command: Command, site: Site, tmp_path: Path, place: str) -> None:
    bundle = write_bundle(tmp_path / "b.tar", mode="w:gz")
    assert command(bundle, "-q").returncode == 0
    remove((site.archive.parent / PLACES[place]).absolute())
    for words in (
        [bundle],
        ["state"],
        ["state", 1],
        ["doctor"],
        [write_bundle(tmp_path / "new.tar", {"data/n": b"n"})],
    ):
        done = command(*words)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1, 4, 2 if place == "everything" else 0)


@pytest.mark.parametrize("kind", ["packed", "move"])
@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_was_removed_in_the_midst_of_a_job(
    stepper: Stepper, tmp_path: Path, place: str, kind: str
) -> None:
    """Killed at any step: what is left of the job is not what it notes any more."""
    trials = Trials(tmp_path)
    with trials(kind) as trial:
        steps = trial.run(stepper).steps["main"]
    for step in sample(steps, f"{kind}, {place} removed"):
        with trials(kind) as trial:
            assert trial.run(stepper, step=step).status == -9
            if (trial.data / PLACES[place]).exists():
                remove((trial.data / PLACES[place]).absolute())
            done = trial.run(stepper)
            assert_sentence(done.stderr, done.status)


@pytest.fixture
def half_moved(stepper: Stepper, tmp_path: Path) -> Iterator[Trial]:
    """A move that was killed when some of its files were in the archive."""
    trials = Trials(tmp_path)
    with trials("move") as trial:
        steps = trial.run(stepper).steps["main"]
    for step in range(steps // 2, steps, 5):
        with trials("move") as trial:
            trial.run(stepper, step=step)
            if any(trial.site.archive.glob("file.*")):
                yield trial
                return
    pytest.fail("no step is behind a move")


def test_a_new_file_at_the_place_of_a_moved_one_costs_neither(stepper: Stepper, half_moved: Trial) -> None:
    path, source = next(iter(half_moved.sources.items()))
    source.rename(source.with_name("moved away"))
    source.write_bytes(b"the next measurement")
    done = half_moved.run(stepper)
    assert done.status == 1
    assert half_moved.jobs()[0].state is JobState.HELD
    assert "another file is at" in half_moved.jobs()[0].exception
    assert source.read_bytes() == b"the next measurement"
    assert FILES[path] in half_moved.archived().values()
    source.unlink()
    finish(half_moved, stepper)


def test_a_source_that_is_gone_is_the_archives_alone(stepper: Stepper, half_moved: Trial) -> None:
    next(iter(half_moved.sources.values())).unlink()
    finish(half_moved, stepper)


def test_a_move_whose_archive_is_away_loses_nothing(stepper: Stepper, half_moved: Trial) -> None:
    """As a disk that is not mounted."""
    away = half_moved.site.archive.rename(half_moved.folder / "away")
    done = half_moved.run(stepper)
    assert (done.status, half_moved.jobs()[0].is_deferred) == (4, True)
    assert not half_moved.site.archive.exists()
    away.rename(half_moved.site.archive)
    finish(half_moved, stepper)


def test_what_the_archive_lost_since_is_stored_again(stepper: Stepper, tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    with trials("bundle") as trial:
        steps = trial.run(stepper).steps["main"]
    for step in range(steps // 2, steps):
        with trials("bundle") as trial:
            trial.run(stepper, step=step)
            stored = list(trial.site.archive.glob("file.*"))
            if len(stored) < len(FILES):
                continue
            assert not trial.catalogued()
            (job,) = trial.jobs()
            with open_store(trial.site.settings) as store:
                store.checkpoint(job.fence, len(FILES))  # as its next heartbeat would have
            for path in stored:
                path.unlink()
            finish(trial, stepper)
            return
    pytest.fail("no step is between the last file and the end")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written, not even by root."""
    folder = tmp_path / "read only"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], capture_output=True).returncode != 0:
        if os.geteuid() == 0:
            pytest.skip("a read-only disk cannot be mounted here")
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("variable", ["INGEST_DB", "UNIQUEID_URL", "ARCHIVEINTERFACE_URL", "METADATA_INGEST_URL",
                                      "VOLUME_PATH"])  # fmt: skip
def test_a_place_that_cannot_be_written(
    command: Command, site: Site, tmp_path: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    bundle = write_bundle(tmp_path / "b.tar", mode="w:gz")
    place = read_only / "place"
    with monkeypatch.context() as patch:
        patch.setenv(variable, place.as_uri() if variable.endswith("URL") else str(place))
        done = command(bundle, "-q")
        assert done.returncode in (1, 4)
        assert str(place) in done.stderr
        assert_sentence(done.stderr, done.returncode)
    assert command(bundle, "-q").returncode == 0
    assert site.contents() == FILES


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", ["bundle", "move"])
@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
def test_output_that_cannot_be_written_fails_no_job(
    stepper: Stepper, tmp_path: Path, stream: str, kind: str, words: list[str]
) -> None:
    """A log on a full disk is no reason to take back what was stored, and no success either."""
    with Trials(tmp_path)(kind) as trial:
        order = trial.order_of(*trial.words, *words)
        done = stepper(Order(**{**vars(order), stream: "/dev/full"}))
        assert "Traceback" not in done.stderr
        trial.assert_sound(1, jobs=1)
        if stream == "stdout":
            assert done.status != 0, "what was to be written is not there"


def test_output_that_nobody_reads_fails_no_job(site: Site, command: Command, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    bundle = write_bundle(tmp_path / "b.tar")
    done = subprocess.run(command.line(bundle), stdout=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    assert done.returncode == 0
    assert site.contents() == FILES

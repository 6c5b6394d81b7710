"""``ingest FOLDER``: what is stored is what was hashed; of a folder that has grown, only what is new."""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest_cli import api
from ingest_cli.bundle.folder import FolderRequest
from ingest_cli.bundle.records import transaction_records
from ingest_cli.errors import ExitCode, IngestError, Interrupted, PolicyRefused
from ingest_cli.jobs.job import Job, JobKind, JobState
from ingest_cli.jobs.stages import INGEST_FILES, INGEST_METADATA, LOAD_METADATA
from ingest_cli.pipeline.observer import Observer
from ingest_cli.pipeline.submission import FolderSource

from ..support.bundles import FILES, OF_FOLDERS, write_folder
from ..support.command import Command
from ..support.site import Site, Witness, assert_sound, path_in_bundle

OF: dict[str, Any] = {"submitter": 10, "project": "1234a", "instrument": 54}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "run")


def ingest(path: Path, observer: Observer | None = None, **more: Any) -> Job:
    return api.ingest_folder(path, **{**OF, **more}, observer=observer)


class Acting(Witness):
    """Does something when a stage is entered, or when so many files are checked in it."""

    def __init__(self, act: Callable[[], object], stage: str, *, checked: int | None = None) -> None:
        super().__init__()
        self._act, self._stage, self._checked = act, stage, checked

    def stage(self, task: str) -> None:
        super().stage(task)
        self.files_checked = 0
        if task == self._stage and self._checked is None:
            self._act()

    def checked(self, length: int, files: int = 0) -> None:
        super().checked(length, files)
        if self.stages[-1:] == [self._stage] and files and self.files_checked == self._checked:
            self._act()


# What is stored.


def test_a_folder_is_stored_without_a_copy_in_between(command: Command, site: Site, run: Path) -> None:
    before = {path: path.stat() for path in run.rglob("*")}
    done = command(run, *OF_FOLDERS)
    assert (done.returncode, done.stdout) == (0, f"job 1: {run} is complete, 3 files\n")
    assert site.contents() == FILES
    assert {row["name"]: row["mtime"] for row in site.rows("Files")}["a.txt"] == "2016-11-29T14:09:05"
    assert site.job(1).name == str(run)
    assert not site.settings.spool.exists(), "nothing of it was written elsewhere"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == {
        path: found.st_mtime_ns for path, found in before.items()
    }
    assert command("verify", "--all").returncode == 0
    assert command("restore", 1, "--to", "back").returncode == 0
    assert (run.parent / "back" / "data" / "sub" / "b.bin").read_bytes() == FILES["data/sub/b.bin"]


def test_a_folder_that_was_ingested_is_known_by_whatever_name(site: Site, run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    paths = [run, tmp_path / "link", Path(os.path.relpath(run)), run / "sub" / ".."]
    assert {ingest(path).job_id for path in paths} == {1}
    assert len(site.jobs()) == 1
    assert ingest(run, again=True).job_id == 2


def test_what_was_only_touched_is_a_duplicate(site: Site, run: Path) -> None:
    ingest(run)
    os.utime(run / "a.txt")
    assert ingest(run).job_id == 1
    assert site.job(2).state is JobState.DUPLICATE
    assert len(site.archived()) == 3


def test_a_bundle_of_the_same_folder_is_a_duplicate(command: Command, site: Site, run: Path) -> None:
    assert command(run, *OF_FOLDERS).returncode == 0
    assert command("pack", run, *OF_FOLDERS, "-q", "-o", "b.tar").returncode == 0
    assert command("b.tar").stdout == "job 1: b.tar was ingested before\n"
    assert len(site.archived()) == 3


# A folder that grows.


def test_of_a_folder_that_has_grown_only_what_is_new_is_stored(command: Command, site: Site, run: Path) -> None:
    assert command(run, *OF_FOLDERS).returncode == 0
    (run / "new.txt").write_text("new")
    (run / "a.txt").write_text("other")
    done = command(run, *OF_FOLDERS)
    assert done.stdout == f"job 2: {run} is complete, 2 files\n"
    assert f"{run}: 2 files ingested before by job 1; 2 files new\n" in done.stderr
    assert {row["name"] for row in site.rows("Files") if row["transaction"] == 2} == {"new.txt", "a.txt"}
    assert len(site.archived()) == 5
    (run / "last.txt").write_text("last")
    assert "3 files ingested" not in (said := command(run, *OF_FOLDERS).stderr)
    assert f"{run}: 4 files ingested before by jobs 1, 2; 1 file new\n" in said
    assert command(run, *OF_FOLDERS).stdout == f"job 3: {run} was ingested before\n"


def test_who_restores_what_was_new_is_told_where_the_rest_is(command: Command, run: Path, tmp_path: Path) -> None:
    assert command(run, *OF_FOLDERS).returncode == 0
    (run / "new.txt").write_text("new")
    assert command(run, *OF_FOLDERS).returncode == 0
    rest = "ingest: it has only what was new in its folder then: job 1 has the rest\n"
    assert rest in command("restore", 2, "--to", tmp_path / "2").stderr
    assert rest not in command("restore", 1, "--to", tmp_path / "1").stderr
    (run / "a.txt").unlink()  # now there is nothing new, and a duplicate of the last job
    assert command(run, *OF_FOLDERS).returncode == 0
    assert rest in command("restore", 3, "--to", tmp_path / "3").stderr


def test_a_folder_that_is_known_needs_no_ids(command: Command, site: Site, run: Path) -> None:
    assert command(run, *OF_FOLDERS[:6]).returncode == 0
    (run / "new.txt").write_text("new")
    assert command(run).stdout == f"job 2: {run} is complete, 1 file\n"


def test_a_dry_run_says_what_other_metadata_lead_to(command: Command, run: Path) -> None:
    assert command(run, *OF_FOLDERS).returncode == 0
    told = "ingested before with other metadata, by job 1: what that has is stored once more"
    assert told not in command("ingest", "--dry-run", run, *OF_FOLDERS).stdout
    assert told in command("ingest", "--dry-run", run, *OF_FOLDERS, "--key", "a=b").stdout


def test_while_a_folder_is_ingested_no_other_command_begins_with_it(command: Command, site: Site, run: Path) -> None:
    """It would store what is new once more: both see it as new."""
    seen = []

    def grow_and_ingest() -> None:
        (run / "new.txt").write_text("new")
        seen.append(command(run, *OF_FOLDERS))

    with pytest.raises(IngestError, match="changed"):
        ingest(run, Acting(grow_and_ingest, LOAD_METADATA), keys=[("Taxonomic Family", "bacteria")])
    (done,) = seen
    assert done.returncode == ExitCode.UNREACHABLE
    assert f"{run}: job 1 is being worked on by " in done.stderr
    assert command(run, *OF_FOLDERS).returncode == 0
    assert len(site.archived()) == 4


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 20))])
def test_a_folder_that_changes_at_random_is_stored_whole_and_nothing_twice(site: Site, run: Path, seed: int) -> None:
    chance = random.Random(seed)
    seen: set[tuple[str, bytes]] = set()
    for _ in range(5):
        for _ in range(chance.randint(0, 4)):
            path = run / chance.choice(["a.txt", "b", "sub/c", "sub/deep/d", "ünï"])
            if path.exists() and chance.random() < 0.3:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(chance.randbytes(chance.randint(0, 2)))
        seen |= {(f"data/{path.relative_to(run)}", path.read_bytes()) for path in run.rglob("*") if path.is_file()}
        ingest(run)
    archived = site.archived()
    stored = [(path_in_bundle(row), archived[row["id"]]) for row in site.rows("Files")]
    assert len(stored) == len(set(stored)), "nothing twice"
    assert set(stored) == seen


def test_what_is_said_to_be_of_another_project_is_stored_anew(site: Site, run: Path) -> None:
    ingest(run)
    assert ingest(run, project="other").job_id == 2
    assert len(site.archived()) == 6


# A folder that changes meanwhile.


def rewrite_unseen(path: Path) -> None:
    """As nothing but a hash can tell: of the same size, and of the same time."""
    found = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        path.unlink()
        make(path)

    return act


CHANGES: dict[str, Callable[[Path], object]] = {
    "appended to": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "truncated": lambda path: os.truncate(path, 3),
    "rewritten": lambda path: path.write_bytes(bytes(reversed(path.read_bytes()))),
    "rewritten unseen": rewrite_unseen,
    "removed": lambda path: path.unlink(),
    "a link": replace_by(lambda path: path.symlink_to("/etc/passwd")),
    "a folder": replace_by(lambda path: path.mkdir()),
    "a FIFO": replace_by(os.mkfifo),
    "folder gone": lambda path: path.parent.rename(path.parents[2] / "gone"),
}
MOMENTS: dict[str, tuple[str, int | None]] = {
    "while it is hashed": (LOAD_METADATA, 1),
    "once it is hashed": (INGEST_FILES, None),
    "once all are checked": (INGEST_FILES, 3),
}
LATEST = "once all are checked"


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=[pytest.mark.sweep] if name != LATEST else []) for name in MOMENTS]
)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_fails_the_job_and_nothing_is_kept(site: Site, run: Path, change: str, moment: str) -> None:
    path = run / "sub" / "b.bin"
    path.write_bytes(bytes(range(256)) * 300)  # too large to be kept from one reading to the next
    stage, checked = MOMENTS[moment]
    observer = Acting(lambda: CHANGES[change](path), stage, checked=checked)
    if (change, moment) == ("rewritten unseen", "while it is hashed"):
        assert ingest(run, observer).is_done, "it was not read before"
        assert site.contents()["data/sub/b.bin"] == path.read_bytes()
        return
    with pytest.raises(IngestError) as failed:
        ingest(run, observer)
    assert str(path) in str(failed.value)
    (job,) = site.jobs()
    assert (job.state, job.exception) == (JobState.FAILED, str(failed.value))
    assert site.holds_nothing()


@pytest.mark.parametrize("change", ["rewritten unseen", "removed", "a FIFO"])
def test_a_small_file_that_changes_once_it_is_checked_is_stored_as_it_was(site: Site, run: Path, change: str) -> None:
    stage, checked = MOMENTS[LATEST]
    assert ingest(run, Acting(lambda: CHANGES[change](run / "sub" / "b.bin"), stage, checked=checked)).is_done
    assert site.contents() == FILES


def test_what_changes_once_all_is_stored_is_of_the_next_job(site: Site, run: Path) -> None:
    assert ingest(run, Acting(lambda: (run / "a.txt").write_text("later"), INGEST_METADATA)).is_done
    assert site.contents() == FILES
    assert ingest(run).files == 1


def test_a_queued_folder_that_is_changed_fails(command: Command, site: Site, run: Path) -> None:
    assert command("--queue", run, *OF_FOLDERS).stdout == f"job 1: {run} is queued\n"
    (run / "new").write_text("x")
    assert command("worker", "--until-empty", "-q").returncode == 0
    assert site.job(1).exception == f"{run} was changed after job 1 was submitted (new): ingest it as a new job"
    assert command("retry", 1).returncode == 1
    assert command(run, *OF_FOLDERS).stdout == f"job 2: {run} is complete, 4 files\n"


# A job that is interrupted, failed, discarded.


class Leaving(Witness):
    """Has the run left when two files are stored."""

    def stored(self, length: int, files: int = 0) -> None:
        super().stored(length, files)
        if self.files_stored == 2:
            os.kill(os.getpid(), signal.SIGINT)


def interrupt(run: Path) -> None:
    """Leave a job of the folder with two files stored."""
    source = FolderSource(run, FolderRequest(records=transaction_records(10, "1234a", 54, [])))
    with pytest.raises(Interrupted):
        api.ingest_files(JobKind.FOLDER, [source], lambda *_: Leaving())


def test_an_interrupted_job_is_resumed(site: Site, run: Path) -> None:
    interrupt(run)
    assert [(job.state, job.stored) for job in site.jobs()] == [(JobState.QUEUED, 2)]
    witness = Witness()
    assert ingest(run, witness).job_id == 1
    assert_sound(site, FILES, jobs=1)


def test_an_interrupted_job_of_a_folder_that_changed_is_rolled_back(site: Site, run: Path) -> None:
    interrupt(run)
    (run / "new").write_text("x")
    assert ingest(run).files == 4
    assert site.job(1).state is JobState.FAILED
    assert len(site.archived()) == 4


def test_the_failure_of_a_job_whose_folder_has_changed_is_told(command: Command, run: Path) -> None:
    interrupt(run)
    (run / "new").write_text("x")
    done = command(run, *OF_FOLDERS[:6])
    assert done.stdout == f"job 2: {run} is complete, 4 files\n"
    assert f"{run}: job 1 was of what stood here before, and has failed: this is job 2\n" in done.stderr


def test_an_interrupted_job_of_another_project_is_left_for_its_own_run(site: Site, run: Path) -> None:
    interrupt(run)
    assert ingest(run, project="other").is_done
    assert (site.job(1).state, site.job(1).stored) == (JobState.QUEUED, 2)
    assert ingest(run).job_id == 1


def test_a_job_that_failed_is_retried(
    command: Command, site: Site, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "schema.json").write_text('{"minItems": 1000}')
    with monkeypatch.context() as for_now:
        for_now.setenv("POLICY_INGEST_URL", (tmp_path / "schema.json").as_uri())
        with pytest.raises(PolicyRefused):
            ingest(run)
    assert site.job(1).state is JobState.FAILED
    assert command("retry", 1).stdout == f"job 1: {run} is complete, 3 files\n"


def test_a_queued_job_is_discarded(command: Command, site: Site, run: Path) -> None:
    assert command("--queue", run, *OF_FOLDERS).returncode == 0
    assert command("discard", 1).returncode == 0
    assert site.job(1).state is JobState.DISCARDED
    assert ingest(run).job_id == 2

"""A job is of content, not of a name: neither what took its file's place nor what was written there is archived."""

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.bundle.fingerprint import identity_of
from ingest_cli.errors import IngestError, Interrupted, SourceChanged
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.stages import INGEST_METADATA
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.factory import connect
from ingest_cli.watch.disposition import Destination, Disposition

from ..support.bundles import FILES, file_record, transaction, write_bundle
from ..support.candidates import candidate_at
from ..support.command import Command
from ..support.site import Leaver, Site, Witness

NEW = {"data/new": b"new", "data/more": b"more", "data/still more": b"1", "data/one more than before": b"2"}


@pytest.fixture
def stored(site: Site, tmp_path: Path) -> Path:
    """A bundle whose files are stored, but not recorded, since its run was interrupted."""
    bundle = write_bundle(tmp_path / "b.tar")
    with connect(site.settings) as services, open_store(site.settings) as store:
        runner = Runner(site.settings, services, store)
        job = submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u", holder=this_process())
        with pytest.raises(Interrupted):
            runner.run(job, Leaver(runner, after=len(FILES)))
    assert len(site.archived()) == len(FILES)
    return bundle


def replace(bundle: Path) -> None:
    write_bundle(bundle.with_name("new.tar"), NEW).rename(bundle)


def test_a_worker_does_not_resume_with_other_bytes(command: Command, site: Site, stored: Path) -> None:
    replace(stored)
    assert command("retry", "--interrupted", "-q").returncode == 1
    job = site.job(1)
    assert job.state is JobState.FAILED
    assert "was replaced after job 1 was submitted" in job.exception
    assert site.archived() == {}


def test_the_new_content_is_a_job_of_its_own(command: Command, site: Site, stored: Path) -> None:
    replace(stored)
    assert command(stored, "-q").returncode == 0
    assert [job.state for job in site.jobs()] == [JobState.COMPLETE, JobState.FAILED]
    assert site.contents() == NEW
    assert len(site.archived()) == len(NEW)


def test_a_queue_that_holds_both(command: Command, site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    assert command("--queue", bundle).returncode == 0
    replace(bundle)
    assert command("--queue", bundle).returncode == 0
    assert command("worker", "--until-empty", "-q").returncode == 0
    assert [job.state for job in site.jobs()] == [JobState.COMPLETE, JobState.FAILED]
    assert site.contents() == NEW


def test_a_job_of_old_content_leaves_that_of_the_new(command: Command, site: Site, stored: Path) -> None:
    replace(stored)
    assert command("--queue", stored).returncode == 0
    assert command("retry", 1, "-q").returncode == 1
    assert [job.state for job in site.jobs()] == [JobState.QUEUED, JobState.FAILED]


def test_a_failed_job_keeps_its_reason(command: Command, site: Site, tmp_path: Path) -> None:
    records = [*transaction(), file_record("data/x", b"another")]
    bundle = write_bundle(tmp_path / "b.tar", {"data/x": b"content"}, records)
    assert command(bundle, "-q").returncode == 1
    reason = site.job(1).exception
    replace(bundle)
    assert command("retry", 1, "-q").returncode == 1
    assert command("discard", 1, "-q").returncode == 0
    assert (site.job(1).state, site.job(1).exception) == (JobState.DISCARDED, reason)


def test_a_duplicate_keeps_nothing_and_is_known_again(command: Command, site: Site, stored: Path) -> None:
    copy = write_bundle(stored.with_name("copy.tar"))
    assert command("--again", copy, "-q").returncode == 0
    for _ in range(3):
        assert command(stored, "-q").returncode == 0
    assert [(job.state, job.successor) for job in site.jobs()] == [
        (JobState.COMPLETE, None),
        (JobState.DUPLICATE, 2),
    ]
    assert site.contents() == FILES
    assert len(site.archived()) == len(FILES)
    done = command("verify", 1)
    assert (done.returncode, "job 2 has the content of job 1" in done.stderr) == (0, True)


class Writer(Witness):
    """Writes to a source in place when so many files were checked, or stored."""

    def __init__(self, source: Path, *, checked: int | None = None, stored: int | None = None) -> None:
        super().__init__()
        self._source, self._checked, self._stored = source, checked, stored

    def checked(self, length: int, files: int = 0) -> None:
        super().checked(length, files)
        if files and self.files_checked == self._checked:
            self._write()

    def stored(self, length: int, files: int = 0) -> None:
        super().stored(length, files)
        if files and self.files_stored == self._stored:
            self._write()

    def _write(self) -> None:
        with self._source.open("r+b") as file:
            file.write(b"?")


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    found = {path: tmp_path / "instrument" / path for path in FILES}
    for path, source in found.items():
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(FILES[path])
        os.utime(source, (1_500_000_000, 1_500_000_000))
    return found


def move_document(folder: Path, sources: dict[str, Path]) -> Path:
    records = [file_record(path, FILES[path], source=str(source)) for path, source in sources.items()]
    document = folder / "m.json"
    document.write_text(json.dumps([*transaction(), *records]))
    return document


@pytest.mark.parametrize("moment", [{"checked": len(FILES)}, {"stored": 1}, {"stored": len(FILES)}], ids=str)
def test_a_source_that_is_written_to_is_not_archived(
    site: Site, tmp_path: Path, sources: dict[str, Path], moment: dict[str, int]
) -> None:
    written = sources["data/a.txt"]
    document = move_document(tmp_path, sources)
    site.witness = Writer(written, **moment)
    with pytest.raises(SourceChanged, match=r"a\.txt was changed after it was hashed"):
        site.move(document)
    assert site.job(1).state is JobState.FAILED
    assert site.archived() == {}
    assert written.read_bytes() == b"?lpha\n"
    assert all(source.read_bytes() == FILES[path] for path, source in sources.items() if source != written)


def test_a_source_that_was_removed_before_it_was_moved_holds_no_job(
    site: Site, tmp_path: Path, sources: dict[str, Path]
) -> None:
    class Remover(Witness):
        def stored(self, length: int, files: int = 0) -> None:
            super().stored(length, files)
            if self.files_stored == 1:
                sources["data/empty"].unlink()

    site.witness = Remover()
    with pytest.raises(IngestError):
        site.move(move_document(tmp_path, sources))
    assert site.job(1).state is JobState.FAILED
    assert site.archived() == {}
    assert sources["data/a.txt"].read_bytes() == FILES["data/a.txt"]


class LateWriter(Witness):
    """Writes to a source when all is stored, and gives it another name."""

    def __init__(self, source: Path) -> None:
        super().__init__()
        self._source = source

    def stage(self, task: str) -> None:
        super().stage(task)
        if task == INGEST_METADATA:
            with self._source.open("r+b") as file:
                file.write(b"?")
            self._source.rename(self._source.with_name("elsewhere"))


def test_a_source_that_is_written_to_and_renamed_is_not_archived(
    site: Site, tmp_path: Path, sources: dict[str, Path]
) -> None:
    written = sources["data/a.txt"]
    document = move_document(tmp_path, sources)
    site.witness = LateWriter(written)
    with pytest.raises(SourceChanged):
        site.move(document)
    assert site.rows("Transactions") == []
    assert written.with_name("elsewhere").read_bytes() == b"?lpha\n"


def test_other_names_of_a_source_are_not_the_archives(site: Site, tmp_path: Path, sources: dict[str, Path]) -> None:
    other = tmp_path / "other"
    sources["data/a.txt"].chmod(0o640)
    os.link(sources["data/a.txt"], other)
    assert site.move(move_document(tmp_path, sources)).state is JobState.COMPLETE
    other.write_bytes(b"changed")
    assert stat.S_IMODE(other.stat().st_mode) == 0o640
    assert site.contents() == FILES
    assert not any(source.exists() for source in sources.values())


PLANTED: dict[str, Callable[[Path, Path], object]] = {
    "a file": lambda path, outside: path.write_text("planted"),
    "a file of another": lambda path, outside: path.hardlink_to(outside),
    "a link": lambda path, outside: path.symlink_to(outside),
    "a link to nothing": lambda path, outside: path.symlink_to("nowhere"),
    "a folder": lambda path, outside: path.mkdir(),
    "a FIFO": lambda path, outside: os.mkfifo(path),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_where_a_source_is_renamed_to_is_left(
    site: Site, tmp_path: Path, sources: dict[str, Path], planted: str
) -> None:
    (tmp_path / "outside").write_text("precious")
    names = [f".ingest-1.{fence}-{file_id}" for fence in (1, 2) for file_id in (1, 2, 3)]
    places = [folder / name for folder in {source.parent for source in sources.values()} for name in names]
    for place in places:
        PLANTED[planted](place, tmp_path / "outside")
    before = [identity_of(place.lstat()) for place in places]
    assert site.move(move_document(tmp_path, sources)).state is JobState.COMPLETE
    assert (tmp_path / "outside").read_text() == "precious"
    assert [identity_of(place.lstat()) for place in places] == before
    assert site.contents() == FILES
    kept = [source for source in sources.values() if source.exists()]
    assert len([warning for warning in site.witness.warnings if "cannot remove" in warning]) == len(kept) > 0
    for source in kept:
        source.write_bytes(b"changed")
    assert site.contents() == FILES


def test_a_run_that_was_killed_before_it_renamed_a_source(site: Site, tmp_path: Path, sources: dict[str, Path]) -> None:
    folder = next(iter(sources.values())).parent
    (folder / ".ingest-1.1-1").touch()
    assert site.move(move_document(tmp_path, sources)).state is JobState.COMPLETE
    assert site.contents() == FILES
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_a_link_that_takes_the_place_of_what_was_moved_back_changes_no_other_file(
    site: Site, tmp_path: Path, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write where the sources lie may put one there as soon as the first of them is back."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o400)
    for source in sources.values():
        source.chmod(0o666)
    link = os.link

    def link_and_swap(kept: Path, place: Path, **how: Any) -> None:
        link(kept, place, **how)
        if place in sources.values():
            place.rename(f"{place}.back")
            place.symlink_to(victim)

    document = move_document(tmp_path, sources)
    site.witness = LateWriter(sources["data/sub/b.bin"])
    monkeypatch.setattr(os, "link", link_and_swap)
    with pytest.raises(SourceChanged):
        site.move(document)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o400
    assert any(os.path.lexists(f"{source}.back") for source in sources.values())


@pytest.mark.parametrize("how", ["done", "failed", "delete"])
def test_what_took_the_place_of_a_file_in_a_drop_folder_is_left(site: Site, tmp_path: Path, how: str) -> None:
    bundle = write_bundle(tmp_path / "b.tar", metadata=b"{}" if how == "failed" else None)
    with suppress(IngestError):
        site.ingest(bundle)
    replace(bundle)
    new = bundle.read_bytes()
    (tmp_path / "place").mkdir()
    place = Destination(tmp_path / "place", f"--{how}")
    ways = {"done": Disposition(done=place), "failed": Disposition(failed=place), "delete": Disposition(delete=True)}
    candidate = candidate_at(bundle, site.job(1).fingerprint)
    assert not ways[how].carry_out(candidate, site.job(1), site.settings.spool)
    assert bundle.read_bytes() == new
    assert not list(place.path.iterdir())


def test_a_bundle_that_is_written_to_in_place_while_it_waits(site: Site, tmp_path: Path) -> None:
    """The kernel's word for the file is the same but for its times."""
    bundle = write_bundle(tmp_path / "b.tar")
    with connect(site.settings) as services, open_store(site.settings) as store:
        submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u")
        content = bundle.read_bytes()
        bundle.write_bytes(content.replace(b"alpha", b"omega"))
        job = store.lease_next()
        assert job is not None
        assert Runner(site.settings, services, store).run_leased(job, site.witness).state is JobState.FAILED
    assert site.archived() == {}

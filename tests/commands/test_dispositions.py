"""What becomes of the files in a drop folder, whatever they are called and whatever stands in the way.

Every byte that was given is in the archive or on a disk, nothing outside of the given folders is touched, whatever
failed is explained, and no file keeps another one from its turn.
"""

import json
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ingest_cli.disk import new_at
from ingest_cli.errors import ExitCode, ResourceUnavailable, SourceError
from ingest_cli.jobs.job import Job, JobState
from ingest_cli.settings import load_settings
from ingest_cli.watch.candidates import Candidate
from ingest_cli.watch.disposition import Destination, Disposition
from ingest_cli.watch.lock import FolderLock
from ingest_cli.watch.set_aside import Replaced, put_back_all, set_aside

from ..support.bundles import FILES, document_for, write_bundle
from ..support.candidates import candidate_at
from ..support.command import Command
from ..support.forks import Running
from ..support.mounts import Mount
from ..support.site import Site
from ..support.waiting import until

LETTERS = ["a", "B", "7", "ü", "ゆ", "🦉", " ", "\n", "\x1b", "'", '"', "\\", "*", ".", "-"]
NO_TEXT = os.fsdecode(b"\xff")
ENDS = ["", ".tar", ".error.json", ".part", ".1"]
WAYS = [(), ("--done", "done", "--failed", "failed"), ("--delete",), ("--delete", "--failed", "failed")]


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    for name in ("drop", "done", "failed", "outside"):
        (tmp_path / name).mkdir()
    return tmp_path / "drop"


def once(command: Command, drop: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return command("watch", "--once", "--settle", 0, "--patience", 0, drop, *words)


def looks(folder: Path) -> dict[str, object]:
    """All that lies in a folder: of what kind it is, and what is in it."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        kind = path.readlink() if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else None
        found[str(path.relative_to(folder))] = (stat.S_IFMT(mode), kind)
    return {name: look for name, look in found.items() if not name.endswith(".ingest-watch.lock")}


def unchanged(found: dict[str, object]) -> dict[str, object]:
    """What does not change where nothing is done: all but the databases."""
    return {name: look for name, look in found.items() if not name.startswith("data/")}


def explanations_in(folder: Path) -> list[str]:
    """The names of the files that are explained there."""
    stories = [path.read_bytes() for path in files_in(folder) if path.name.endswith(".error.json")]
    return sorted(json.loads(story)["file"] for story in stories if story.startswith(b"{"))


def files_in(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.iterdir() if stat.S_ISREG(path.lstat().st_mode))


TMPFS = ("-t", "tmpfs", "-o", "size=1m", "none")


@pytest.fixture
def without_rights(command: Command) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command as a user who owns the store, but has no rights over the files of others."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can have files of another user")

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        line = ["setpriv", "--bounding-set=-fowner,-dac_override,-dac_read_search,-chown", *command.line(*words)]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    return run


# Cases that a generator makes.


@dataclass
class Given:
    """Files dropped with names, contents and obstacles of all kinds."""

    folder: Path
    choice: random.Random
    kept: list[bytes] = field(default_factory=list)  # whose bytes are in no archive
    explained: list[str] = field(default_factory=list)
    archived: dict[str, bytes] = field(default_factory=dict)
    obstacles: list[Path] = field(default_factory=list)

    def drop(self, number: int) -> None:
        """Drop one more file."""
        name = self._name(number)
        path = self.folder / "drop" / name
        how = self.choice.choice([self._whole, self._whole, self._unlisted, self._trailing, self._broken, self._twice])
        if name.startswith(".") or name.endswith((".error.json", ".part")):
            self._broken(path, number)
            self.explained.pop()
        elif NO_TEXT in name:
            self._broken(path, number)
        else:
            how(path, number)
        for place in ("drop/{}.error.json", "done/{}", "done/{}.1", "failed/{}", "failed/{}.1", "failed/{}.error.json"):
            self._obstruct(self.folder / place.format(name))

    def _name(self, number: int) -> str:
        length = self.choice.choice([1, 5, 100, 236, 240, 244, 245, 250, 255])
        name, end = f"{number}{NO_TEXT if number % 10 == 0 else ''}", self.choice.choice(ENDS)
        while (missing := length - len(os.fsencode(name + end))) > 0:
            letter = self.choice.choice(LETTERS)
            letter = letter if len(letter.encode()) <= missing else "x"
            name = letter + name if self.choice.random() < 0.5 else name + letter
        return name + end

    def _whole(self, path: Path, number: int) -> None:
        files = {f"data/{number}": b"%d" % number}
        write_bundle(path, files)
        self.archived |= files

    def _unlisted(self, path: Path, number: int) -> None:
        files = {f"data/{number}": b"%d" % number}
        write_bundle(path, {**files, "data/unlisted": b"%d" % number}, document_for(files))
        self.archived |= files
        self.kept.append(path.read_bytes())

    def _trailing(self, path: Path, number: int) -> None:
        self._whole(path, number)
        path.write_bytes(path.read_bytes() + bytes(1000) + b"behind")
        self.kept.append(path.read_bytes())

    def _broken(self, path: Path, number: int) -> None:
        path.write_bytes(b"no tar, %d" % number)
        self.kept.append(path.read_bytes())
        self.explained.append(os.fsencode(path.name).decode(errors="replace"))

    def _twice(self, path: Path, number: int) -> None:
        """The document of a bundle that was ingested before, with other bytes."""
        write_bundle(path, {"data/before": b"%06d" % number}, document_for({"data/before": b"before"}))
        self.kept.append(path.read_bytes())

    def _obstruct(self, path: Path) -> None:
        outside = self.folder / "outside" / "precious"
        ways: list[Callable[[], object]] = [
            path.mkdir,
            lambda: path.symlink_to(outside),
            lambda: path.symlink_to("nowhere"),
            lambda: os.mkfifo(path),
            lambda: path.write_bytes(b"[" * 5000),
            lambda: path.hardlink_to(outside),
        ]
        if self.choice.random() < 0.2 and len(os.fsencode(path.name)) <= 255 and not os.path.lexists(path):
            self.choice.choice(ways)()
            self.obstacles.append(path)


def given(folder: Path, site: Site, seed: int, count: int) -> Given:
    (folder / "outside" / "precious").write_text("precious")
    site.ingest(write_bundle(folder / "outside" / "before.tar", {"data/before": b"before"}))
    dropped = Given(folder, random.Random(seed))
    for number in range(100, 100 + count):
        dropped.drop(number)
    return dropped


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way) or "left")
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(2, 30))])
def test_nothing_is_lost_and_nothing_else_touched(
    command: Command, site: Site, drop: Path, tmp_path: Path, way: tuple[str, ...], seed: int
) -> None:
    dropped = given(tmp_path, site, seed, 60)
    outside, before = looks(tmp_path / "outside"), looks(tmp_path)
    done = once(command, drop, "--pattern", "*", *way)
    assert "Traceback" not in done.stderr
    assert done.returncode == 3, done.stderr
    after = looks(tmp_path)
    assert looks(tmp_path / "outside") == outside
    for path in dropped.obstacles:
        name = str(path.relative_to(tmp_path))
        assert after.get(name) == before[name]
    on_disk = [path.read_bytes() for path in files_in(drop, tmp_path / "done", tmp_path / "failed")]
    assert not set(dropped.kept) - set(on_disk), "what is in no archive is still there"
    assert site.contents() == {"data/before": b"before", **dropped.archived}
    explained = explanations_in(tmp_path / "failed" if "--failed" in way else drop)
    assert set(dropped.explained) <= set(explained)
    assert len(explained) == len(set(explained))
    assert not [name for name in after if ".ingest-" in name]
    again = once(command, drop, "--pattern", "*", *way)
    assert unchanged(looks(tmp_path)) == unchanged(after)
    assert not again.stdout


# Files that may not be deleted.


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_bundle_with_files_that_are_archived_nowhere_is_kept(
    command: Command, site: Site, drop: Path, mode: str
) -> None:
    files = {"data/a": b"a"}
    bundle = write_bundle(drop / "b.tar", {**files, "data/b": b"b", "notes": b"n"}, document_for(files), mode=mode)
    content = bundle.read_bytes()
    done = once(command, drop, "--delete")
    assert done.returncode == ExitCode.SOME_FAILED
    why = "it is ingested, but kept: 2 of its files are archived nowhere, since the metadata does not list them: "
    assert f"b.tar: job 1: {why}'data/b', 'notes'" in done.stderr
    assert (bundle.read_bytes(), site.contents()) == (content, files)
    story = json.loads((drop / "b.tar.error.json").read_text())
    assert (story["file"], story["job_id"], story["exception"][: len(why)]) == ("b.tar", 1, why)
    assert "kept" in story
    again = once(command, drop, "--delete")
    assert (again.returncode, again.stderr) == (0, ""), "it is said once"
    assert once(command, drop, "--done", drop.parent / "done").returncode == 0
    assert looks(drop) == {}


def test_a_duplicate_is_deleted_if_its_bytes_are_those_that_are_stored(
    command: Command, site: Site, drop: Path
) -> None:
    document = document_for({"data/a": b"right"})
    site.ingest(write_bundle(drop / "first.part", {"data/a": b"right"}, document))
    write_bundle(drop / "same.tar", {"data/a": b"right"}, document)
    write_bundle(drop / "wrong.tar", {"data/a": b"wrong"}, document)
    write_bundle(drop / "missing.tar", {}, document)
    done = once(command, drop, "--delete")
    assert done.returncode == ExitCode.SOME_FAILED
    assert "wrong.tar: job 4: it is ingested, but kept: 'data/a' hashes to sha1" in done.stderr
    assert "missing.tar: job 2: it is ingested, but kept: the metadata lists 'data/a'" in done.stderr
    assert not (drop / "same.tar").exists()
    assert {"wrong.tar", "missing.tar"} <= looks(drop).keys()


def packed(site: Site, drop: Path) -> tuple[Candidate, Job]:
    """A folder that was packed and ingested, as a watcher sees it then."""
    job = site.ingest(write_bundle(drop.parent / "packed.tar", {"data/sub/a": b"a"}))
    folder = drop / "run"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("a")
    return candidate_at(folder), job


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file": lambda folder: (folder / "sub" / "late").write_text("late"),
    "other bytes": lambda folder: (folder / "sub" / "a").write_text("b"),
    "a link": lambda folder: (folder / "link").symlink_to("sub/a"),
    "a link to a folder": lambda folder: (folder / "link").symlink_to("sub"),
    "a link to nothing": lambda folder: (folder / "sub" / "link").symlink_to("nowhere"),
    "a FIFO": lambda folder: os.mkfifo(folder / "FIFO"),
    "another folder": lambda folder: shutil.copytree(folder.rename(folder.with_name("old")), folder),
    "a file in its place": lambda folder: folder.rename(folder.with_name("old")) and folder.write_text("file"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", ["done", "delete"])
def test_a_folder_that_was_changed_since_it_was_packed_is_left(site: Site, drop: Path, change: str, way: str) -> None:
    candidate, job = packed(site, drop)
    CHANGES[change](candidate.path)
    before = looks(drop)
    done = Disposition(done=Destination(drop.parent / "done", "--done"))
    disposition = done if way == "done" else Disposition(delete=True)
    assert not disposition.carry_out(candidate, job, site.settings.spool)
    assert looks(drop) == before
    assert looks(drop.parent / "done") == {}


def test_a_folder_with_more_than_was_packed_is_kept(site: Site, drop: Path) -> None:
    candidate, job = packed(site, drop)
    fewer = replace(job, files=0, bytes=0)
    with pytest.raises(SourceError, match=r"run: job 1: .* kept: 1 of its 1 file is archived nowhere"):
        Disposition(delete=True).carry_out(candidate, fewer, site.settings.spool)
    assert (drop / "run" / "sub" / "a").read_text() == "a"
    Disposition(delete=True).carry_out(candidate, fewer, site.settings.spool)
    assert (drop / "run" / "sub" / "a").read_text() == "a"
    (drop / "run.error.json").unlink()
    Disposition(delete=True).carry_out(candidate, job, site.settings.spool)
    assert looks(drop) == {}


# Folders that files are moved to.


@pytest.mark.parametrize("option", ["--done", "--failed"])
def test_a_folder_that_is_not_there_is_not_made(command: Command, drop: Path, tmp_path: Path, option: str) -> None:
    for place in (tmp_path / "share" / "done", drop / "none", drop.parent / "outside" / "file"):
        done = once(command, drop, option, place)
        assert done.returncode == ExitCode.USAGE
        assert f"there is no folder {place} for {option}: make it, or mount its disk" in done.stderr
        assert not place.exists()


@pytest.mark.parametrize("below", ["", "done"])
def test_a_share_that_is_away_is_waited_for(
    command: Command, starting: Callable[..., Running], drop: Path, tmp_path: Path, mount: Mount, below: str
) -> None:
    share, log = tmp_path / "share", tmp_path / "log"
    mount(tmp_path / "disk", *TMPFS)
    (tmp_path / "disk" / below).mkdir(exist_ok=True)
    mount(share, "--bind", tmp_path / "disk")
    with log.open("wb") as output:
        starting("watch", drop, "--settle", 0, "--scan", 0.1, "--done", share / below, output=output)
        until(lambda: (drop / ".ingest-watch.lock").exists())
        subprocess.run(["umount", share], check=True)
        for name in ("b", "c"):
            write_bundle(tmp_path / name, {f"data/{name}": b"x"}).rename(drop / f"{name}.tar")
        until(lambda: f"the folder {share / below} of --done is" in log.read_text())
        assert not (share / below / "b.tar").exists()
        assert {"b.tar", "c.tar"} <= looks(drop).keys()
        mount(share, "--bind", tmp_path / "disk")
        until(lambda: len(list((tmp_path / "disk" / below).glob("*.tar"))) == 2)
    assert log.read_text().count("of --done is") == 1


def test_a_folder_that_is_made_anew_on_the_same_disk(tmp_path: Path) -> None:
    """As who clears it now and then may do."""
    (tmp_path / "done").mkdir()
    done = Destination(tmp_path / "done", "--done")
    (tmp_path / "done").rename(tmp_path / "old")
    with pytest.raises(ResourceUnavailable, match=r"the folder .* of --done is away: No such file"):
        done.require()
    (tmp_path / "done").mkdir()
    done.require()


@pytest.mark.sweep
@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_a_full_disk_is_waited_for(
    command: Command, site: Site, drop: Path, tmp_path: Path, mount: Mount, outcome: str
) -> None:
    mount(tmp_path / outcome, *TMPFS)
    ballast = tmp_path / outcome / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    bundle = write_bundle(drop / "b.tar", metadata=b"{}" if outcome == "failed" else None)
    done = once(command, drop, f"--{outcome}", tmp_path / outcome)
    assert "No space left on device" in done.stderr
    assert done.returncode == (ExitCode.SOME_FAILED if outcome == "done" else ExitCode.FAILED)
    assert bundle.exists()
    assert looks(tmp_path / outcome).keys() == {"ballast"}
    once(command, drop, f"--{outcome}", tmp_path / outcome)
    assert bundle.exists()
    ballast.unlink()
    assert once(command, drop, f"--{outcome}", tmp_path / outcome).returncode == 0
    names = ["b.tar"] if outcome == "done" else ["b.tar", "b.tar.error.json"]
    assert sorted(looks(tmp_path / outcome)) == names
    assert looks(drop) == {}


def test_what_is_ingested_leaves_a_full_drop_folder(command: Command, site: Site, tmp_path: Path, mount: Mount) -> None:
    drop = tmp_path / "drop"
    mount(drop, "-t", "tmpfs", "-o", "size=1m,nr_inodes=4", "none")
    write_bundle(drop / "good.tar")
    (drop / "bad.tar").write_text("no tar")
    (drop / "last").touch()
    with pytest.raises(OSError, match="No space left"):
        (drop / "one more").touch()
    first = once(command, drop)
    assert f"cannot say beside {drop}/bad.tar why it failed: No space left on device" in first.stderr
    assert first.returncode == ExitCode.SOME_FAILED
    assert once(command, drop, "--delete").returncode in (0, ExitCode.UNREACHABLE)
    (drop / "last").unlink()
    assert once(command, drop, "--delete").returncode == 0
    assert sorted(looks(drop)) == ["bad.tar", "bad.tar.error.json"]
    assert site.contents() == FILES


def test_a_folder_is_moved_to_another_disk(
    command: Command, site: Site, drop: Path, tmp_path: Path, template: Path, mount: Mount
) -> None:
    mount(tmp_path / "done", *TMPFS)
    (drop / "run" / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        (drop / "run" / name).write_text(name)
        (drop / "run" / name).chmod(0o640)
        os.utime(drop / "run" / name, (1_500_000_000, 1_500_000_000))
    before = looks(drop)
    assert once(command, drop, "--pack", template, "--done", tmp_path / "done").returncode == 0
    assert looks(tmp_path / "done") == before
    found = (tmp_path / "done" / "run" / "sub" / "b").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o640, 1_500_000_000)
    assert looks(drop) == {}


# The program's own places.


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("place", "how"),
    [
        *((place, "itself") for place in ("done", "failed", "spool", "archive")),
        *(("done", how) for how in ("a link", "a mount")),
    ],
)
def test_a_drop_folder_is_nothing_else(
    command: Command, drop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: Mount, place: str, how: str
) -> None:
    same = drop
    if how == "a link":
        same = tmp_path / "link"
        same.symlink_to(drop)
    elif how == "a mount":
        same = tmp_path / "mount"
        mount(same, "--bind", drop)
    words = [f"--{place}", same] if place in ("done", "failed") else []
    monkeypatch.setenv(*(("VOLUME_PATH", str(same)) if place == "spool" else ("NOTHING", "")))
    monkeypatch.setenv(*(("ARCHIVEINTERFACE_URL", same.as_uri()) if place == "archive" else ("NOTHING", "")))
    done = once(command, drop, *words)
    assert done.returncode == ExitCode.USAGE
    what = f"--{place}" if place in ("done", "failed") else f"the {place}"
    assert f"is {what} as well: give it a folder of its own" in done.stderr


def test_own_folders_in_a_drop_folder_are_not_packed(
    command: Command, drop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: Path, mount: Mount
) -> None:
    monkeypatch.setenv("VOLUME_PATH", str(drop / "a" / "spool"))
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", (drop / "b" / "archive").as_uri())
    monkeypatch.setenv("INGEST_DB", str(drop / "c" / "jobs"))
    monkeypatch.setenv("METADATA_INGEST_URL", (drop / "d" / "catalogue").as_uri())
    for name in ("done", "failed", "another/drop", "run", "run 2"):
        (drop / name).mkdir(parents=True)
        (drop / name / "file").write_text(name)
    (drop / "run 2" / "link").symlink_to("file")
    mount(tmp_path / "mounted", "--bind", drop / "failed")
    words = ("--pack", template, "--done", drop / "done", "--failed", tmp_path / "mounted", drop / "another" / "drop")
    for _ in range(3):
        done = once(command, drop, *words)
        assert "Traceback" not in done.stderr
    site = Site(tmp_path / "data")
    site.settings = load_settings()
    assert [job.files for job in site.jobs()] == [1]
    assert (drop / "done" / "run" / "file").read_text() == "run"
    assert (drop / "failed" / "run 2" / "file").read_text() == "run 2"
    assert (drop / "another" / "drop" / "file").read_text() == "another/drop"


def test_own_files_in_a_drop_folder_are_not_ingested(
    command: Command, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_DB", str(drop / "jobs"))
    monkeypatch.setenv("METADATA_INGEST_URL", (drop / "catalogue").as_uri())
    monkeypatch.setenv("UNIQUEID_URL", (drop / "ids").as_uri())
    write_bundle(drop / "b.tar")
    for _ in range(2):
        assert once(command, drop, "--pattern", "*", "--failed", drop.parent / "failed").returncode == 0
    assert {"jobs", "catalogue", "ids", "b.tar"} <= looks(drop).keys()


# Folders and files of others.


@pytest.mark.sweep
@pytest.mark.parametrize("way", [("--done", "done"), ("--delete",)], ids=" ".join)
def test_a_file_of_another_in_a_sticky_folder(
    without_rights: Callable[..., subprocess.CompletedProcess[str]],
    site: Site,
    drop: Path,
    tmp_path: Path,
    way: tuple[str, ...],
) -> None:
    """It can be read, but neither renamed nor removed: nothing is copied, and the others have their turn."""
    write_bundle(drop / "a.tar", {"data/a": b"a"})
    write_bundle(drop / "b.tar", {"data/b": b"b"})
    for path in (drop, drop / "a.tar"):
        os.chown(path, 1000, 1000)
    drop.chmod(0o1777)
    words = ["watch", "--once", "--settle", 0, drop, *(tmp_path / word if word == "done" else word for word in way)]
    done = without_rights(*words)
    assert f"cannot move or delete {drop}/a.tar after job 1: Operation not permitted" in done.stderr
    assert done.stderr.count("not permitted") == 1
    assert done.returncode == ExitCode.SOME_FAILED
    for _ in range(2):
        without_rights(*words)
        assert looks(drop).keys() == {"a.tar"}
        assert looks(tmp_path / "done").keys() <= {"b.tar"}
    assert site.contents() == {"data/a": b"a", "data/b": b"b"}


def test_a_folder_that_may_only_be_read(command: Command, site: Site, tmp_path: Path, mount: Mount) -> None:
    drop = tmp_path / "drop"
    mount(drop, *TMPFS)
    write_bundle(drop / "good.tar")
    (drop / "bad.tar").write_text("no tar")
    subprocess.run(["mount", "-o", "remount,ro", drop], check=True)
    done = once(command, drop)
    assert done.returncode == ExitCode.SOME_FAILED
    assert "bad.tar is not a tar" in done.stderr
    assert "Read-only" not in done.stderr
    assert site.contents() == FILES
    assert (once(command, drop).returncode, once(command, drop).stderr) == (0, "")


def test_what_is_planted_in_place_of_the_lock_is_not_written_to_and_stops_no_watcher(
    command: Command, site: Site, drop: Path
) -> None:
    outside = drop.parent / "outside" / "precious"
    outside.write_text("precious")
    write_bundle(drop / "b.tar")
    lock = drop / ".ingest-watch.lock"
    lock.hardlink_to(outside)
    assert once(command, drop).returncode == 0
    lock.unlink()
    os.mkfifo(lock)
    assert once(command, drop).returncode == 0
    lock.unlink()
    lock.symlink_to(outside)
    assert once(command, drop).returncode == 0
    lock.unlink()
    lock.mkdir()
    assert once(command, drop).returncode == 0
    other = FolderLock(drop, site.settings.spool)
    assert once(command, drop).returncode == ExitCode.UNREACHABLE
    other.release()
    assert outside.read_text() == "precious"
    assert site.contents() == FILES


PLACES = {"another disk": "done", "the same disk": "failed", "nowhere": ""}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("is_folder", [False, True])
def test_who_renames_what_is_set_aside_reaches_nothing_else(
    drop: Path, tmp_path: Path, mount: Mount, place: str, is_folder: bool
) -> None:
    """Whoever may write in the drop folder may do that, at any moment."""
    mount(tmp_path / "done", *TMPFS)
    for folder, content in (("drop", "given"), ("outside", "precious")):
        path = tmp_path / folder / "b.tar"
        if is_folder:
            path.mkdir()
        (path / "file" if is_folder else path).write_text(content)
    given, outside = looks(drop), looks(tmp_path / "outside")
    candidate = candidate_at(drop / "b.tar")
    with suppress(Replaced), set_aside(candidate) as aside:
        hidden = aside.path.parent
        hidden.rename(drop / "caught")
        hidden.symlink_to(tmp_path / "outside")
        if PLACES[place]:
            aside.move_to(tmp_path / PLACES[place] / "b.tar")
        else:
            aside.delete()
    assert looks(tmp_path / "outside") == outside
    found = {**looks(drop), **looks(tmp_path / "done"), **looks(tmp_path / "failed")}
    assert not PLACES[place] or given.items() <= found.items()


# Watchers that are killed.


def test_what_a_watcher_that_was_killed_had_set_aside_is_put_back(command: Command, site: Site, drop: Path) -> None:
    names = ["b.tar", "x" * 250 + ".tar", "taken.tar"]
    for number, name in enumerate(names):
        path = write_bundle(drop / name, {f"data/{number}": b"x"})
        candidate = candidate_at(path)
        if os.fork() == 0:
            with set_aside(candidate):
                os._exit(0)
        os.wait()
        assert not path.exists()
    (drop / "taken.tar").write_text("no tar")
    (drop / ".ingest-0123456789abcdef.aside").write_text("not a folder")
    assert once(command, drop, "--delete").returncode == ExitCode.SOME_FAILED
    assert site.contents() == {"data/0": b"x", "data/1": b"x"}
    assert sorted(looks(drop)) == [
        ".ingest-0123456789abcdef.aside",
        "taken.tar",
        "taken.tar.1",
        "taken.tar.error.json",
    ]


def test_what_another_command_makes_in_a_drop_folder_is_left_alone(drop: Path) -> None:
    """As what is restored there is."""
    with new_at(drop / "restored") as aside:
        (aside / "data").mkdir(parents=True)
        assert list(put_back_all(drop)) == []
        assert (aside / "data").exists()


def exit_at(step: int) -> None:
    """End this process before it changes something on the disk for so many times."""
    left = [step]

    def count(event: str, arguments: tuple[object, ...]) -> None:
        changes = event in ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "ctypes.dlsym", "os.utime")
        if changes or (event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            left[0] -= 1
            if left[0] < 0:
                os._exit(1)

    sys.addaudithook(count)


OUTCOMES = {"done": "another disk", "failed": "the same disk", "delete": "nowhere"}


@pytest.mark.sweep
@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_watcher_that_is_killed_at_any_step(
    site: Site, drop: Path, tmp_path: Path, mount: Mount, outcome: str, is_folder: bool
) -> None:
    mount(tmp_path / "done", *TMPFS)
    job = site.ingest(write_bundle(tmp_path / "b.tar", {"data/1": b"1", "data/2": b"2"}))
    done, failed = Destination(tmp_path / "done", "--done"), Destination(tmp_path / "failed", "--failed")
    disposition = Disposition(done=None if outcome == "delete" else done, failed=failed, delete=outcome == "delete")
    job = replace(job, state=JobState.FAILED, exception="why") if outcome == "failed" else job
    for step in range(100):
        for folder in (drop, done.path, failed.path):
            assert looks(folder) == {}
        path = drop / "run"
        if is_folder:
            (path / "sub").mkdir(parents=True)
            (path / "1").write_text("1")
            (path / "sub" / "2").write_text("2")
        else:
            shutil.copy2(tmp_path / "b.tar", path)
        given = looks(drop)
        candidate = candidate_at(path)
        its_job = job if is_folder else replace(job, fingerprint=candidate.fingerprint)
        child = os.fork()
        if child == 0:
            exit_at(step)
            disposition.carry_out(candidate, its_job, site.settings.spool)
            os._exit(0)
        was_killed = os.waitpid(child, 0)[1] != 0
        assert list(put_back_all(drop)) == []
        if path.exists():
            assert looks(drop) == given
            assert disposition.carry_out(candidate, its_job, site.settings.spool)
        assert looks(drop) == {}
        place = {"done": done.path, "failed": failed.path}.get(outcome, drop)
        found = looks(place)
        assert not given or outcome == "delete" or given.items() <= {**found, **numbered(found)}.items()
        assert outcome != "failed" or explanations_in(failed.path) == ["run"]
        for left in place.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if not was_killed:
            assert step > 3
            return
    pytest.fail("it never ends")


def numbered(found: dict[str, object]) -> dict[str, object]:
    """What was found under a name with a number, as if it had none: another run was killed when it had moved it."""
    return {name.replace("run.1", "run", 1): look for name, look in found.items()}

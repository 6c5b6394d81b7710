"""``ingest watch --once``, for cron: it takes all that is ready, and passes over nothing in silence."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.watch.folder import MAX_WAITING
from ingest_cli.watch.lock import FolderLock

from ..support.bundles import FILES, write_bundle
from ..support.command import Command, untimed
from ..support.mounts import Mount
from ..support.site import Site
from ..support.waiting import until
from ..support.watching import make_folder, once, visible, without_privileges

YESTERDAY = time.time() - 86400


def run(command: Command, drop: Path, *words: object) -> tuple[int, list[str]]:
    """A run with the patience that is usual: how it ended, and what it said to a person."""
    done = command("watch", "--once", "--settle", 0.05, drop, *words)
    return done.returncode, untimed(done.stderr)


# All that is ready.


def test_more_files_than_may_wait_at_once(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    count = MAX_WAITING + 20
    for number in range(count):
        (drop / f"{number}.tar").write_bytes(b"no tar")
    (tmp_path / "failed").mkdir()
    assert once(command, drop, "--quiet", "--failed", tmp_path / "failed").returncode == ExitCode.FAILED
    assert len(site.jobs()) == count
    assert visible(drop) == []


def cut_short(path: Path) -> Path:
    path.write_bytes(write_bundle(path).read_bytes()[:3000])
    return path


def test_a_broken_file_of_yesterday_is_reported_and_one_of_now_is_left(
    command: Command, drop: Path, site: Site
) -> None:
    os.utime(cut_short(drop / "old.tar"), (YESTERDAY, YESTERDAY))
    cut_short(drop / "new.tar")
    code, said = run(command, drop)
    assert (code, len(said)) == (ExitCode.FAILED, 2)
    assert f"{drop / 'old.tar'}: job 1 failed at 'load metadata': the tar is truncated" in said[0]
    assert f"{drop}: left for the next run: 'new.tar': the tar is truncated" in said[1]
    assert run(command, drop) == (0, [])
    os.utime(drop / "new.tar", (YESTERDAY, YESTERDAY))
    code, said = run(command, drop, "--quiet")
    assert (code, len(said)) == (ExitCode.FAILED, 1)
    assert f"{drop / 'new.tar'}: job 2 failed" in said[0]


@pytest.mark.sweep
@pytest.mark.parametrize("moment", [time.time() + 1e9, 315619200.0], ids=["to come", "of robocopy"])
def test_a_time_that_says_nothing_of_when_it_was_written(
    command: Command, drop: Path, site: Site, moment: float
) -> None:
    """The file system knows when it touched the file last."""
    os.utime(cut_short(drop / "b.tar"), (moment, moment))
    code, said = run(command, drop)
    assert (code, len(said)) == (0, 1)
    assert "left for the next run: 'b.tar'" in said[0]
    until(lambda: run(command, drop, "--patience", 0.5)[0] == ExitCode.FAILED)


# What is not ingested.


def test_what_is_passed_over_is_said_once(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    write_bundle(drop / "b.tar")
    for name in ("notes.txt", ".hidden", "c.tar.part", "b.tar.error.json"):
        (drop / name).touch()
    (drop / "run").mkdir()
    (drop / "link.tar").symlink_to("b.tar")
    assert sorted(run(command, drop)[1]) == [
        f"ingest: {drop}: passed over: 'link.tar': links are not followed",
        f"ingest: {drop}: passed over: 'notes.txt': not named like a tar, see --pattern",
        f"ingest: {drop}: passed over: 'run': folders are ingested with --pack only",
    ]
    (drop / "more.txt").touch()
    assert run(command, drop) == (0, [f"ingest: {drop}: passed over: 'more.txt': not named like a tar, see --pattern"])
    (drop / "more.txt").unlink()
    assert run(command, drop) == (0, [])
    (drop / "more.txt").touch()
    assert run(command, drop, "--quiet") == (0, [])
    assert len(run(command, drop)[1]) == 1


def test_many_that_are_passed_over_are_one_line(command: Command, drop: Path) -> None:
    for number in range(1000):
        (drop / f"{number:03}.txt").touch()
    (line,) = run(command, drop)[1]
    assert "'000.txt', '001.txt'" in line
    assert ", and 990 more: not named like a tar" in line


def test_who_gives_patterns_knows_what_else_there_is(command: Command, drop: Path) -> None:
    (drop / "notes.txt").touch()
    assert run(command, drop, "--pattern", "*.tar") == (0, [])


def test_loose_files_in_a_folder_that_is_packed(command: Command, drop: Path, site: Site, template: Path) -> None:
    make_folder(drop / "run")
    (drop / "notes.txt").touch()
    code, said = run(command, drop, "--pack", template)
    assert (code, said) == (0, [f"ingest: {drop}: passed over: 'notes.txt': with --pack, only folders are ingested"])
    assert site.contents() == FILES


def test_a_folder_that_is_refused_is_said_once_and_moved(
    command: Command, drop: Path, site: Site, template: Path, tmp_path: Path
) -> None:
    (drop / "empty").mkdir()
    code, said = run(command, drop, "--pack", template, "--quiet")
    assert (code, len(said)) == (ExitCode.FAILED, 1)
    assert f"there are no files in {drop / 'empty'}" in said[0]
    assert visible(drop) == ["empty", "empty.error.json"]
    assert run(command, drop, "--pack", template) == (0, [])
    (make_folder(drop / "odd", {"data/a": b"a"}) / "link").symlink_to("a")
    (drop / "bare").mkdir()
    (tmp_path / "failed").mkdir()
    assert run(command, drop, "--pack", template, "--failed", tmp_path / "failed")[0] == ExitCode.FAILED
    assert visible(tmp_path / "failed") == ["odd", "odd.error.json"]
    assert visible(drop) == ["bare", "bare.error.json", "empty", "empty.error.json"], "files may be copied there yet"


def test_a_file_that_is_refused_goes_to_the_failed_ones(
    command: Command, drop: Path, site: Site, tmp_path: Path
) -> None:
    write_bundle(drop / os.fsdecode(b"a\xff.tar"))
    (tmp_path / "failed").mkdir()
    assert run(command, drop, "--failed", tmp_path / "failed")[0] == ExitCode.FAILED
    assert visible(drop) == []
    names = sorted(os.fsencode(path) for path in os.listdir(tmp_path / "failed"))
    assert names == [b"a\xff.tar", b"a\xff.tar.error.json"]


def test_a_folder_with_a_temporary_name_in_it_waits_and_that_is_said(
    command: Command, drop: Path, site: Site, template: Path
) -> None:
    temporary = make_folder(drop / "run", {"data/a": b"a", "data/.b.Xa3f9q": b"b"}) / ".b.Xa3f9q"
    code, said = run(command, drop, "--pack", template)
    assert (code, len(said)) == (0, 1)
    assert "left for the next run: 'run': it holds '.b.Xa3f9q', which is being written" in said[0]
    for path in (drop / "run" / "a", temporary, drop / "run"):
        os.utime(path, (YESTERDAY, YESTERDAY))
    code, said = run(command, drop, "--pack", template, "--quiet")
    assert (code, len(said)) == (ExitCode.FAILED, 1)
    assert f"{drop / 'run'} is not packed: it holds '.b.Xa3f9q'" in said[0]
    temporary.rename(drop / "run" / "b")
    assert once(command, drop, "--pack", template).returncode == 0
    assert site.contents() == {"data/a": b"a", "data/b": b"b"}


def test_a_folder_that_cannot_be_packed_now_is_left_for_another_reason_than_that_it_changed(
    command: Command, drop: Path, tmp_path: Path, template: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(tmp_path / "spool", "-t", "tmpfs", "-o", "size=64k", "none")
    monkeypatch.setenv("VOLUME_PATH", str(tmp_path / "spool"))
    make_folder(drop / "large", {"data/a": b"a" * 100_000})
    code, said = run(command, drop, "--pack", template)
    assert code == ExitCode.UNREACHABLE
    assert "No space left on device" in said[0]
    assert "left for the next run: 'large': it could not be taken now" in said[1]


# Several runs, several folders.


def test_a_run_that_finds_another_at_work(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    """With --quiet, as from cron, it leaves the folder to that one; and without, it says so."""
    write_bundle(drop / "b.tar")
    lock = FolderLock(drop, site.settings.spool)
    done = once(command, drop, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    code, said = run(command, drop)
    assert (code, len(said)) == (ExitCode.UNREACHABLE, 1)
    assert "is already watched by" in said[0]
    (tmp_path / "other").mkdir()
    write_bundle(tmp_path / "other" / "c.tar")
    assert once(command, drop, tmp_path / "other").returncode == ExitCode.SOME_FAILED
    assert [job.source for job in site.jobs()] == [str(tmp_path / "other" / "c.tar")]
    lock.release()
    assert once(command, drop).returncode == 0


def test_a_folder_that_is_missing_stops_no_other(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    write_bundle(drop / "b.tar")
    done = once(command, tmp_path / "missing", drop)
    assert done.returncode == ExitCode.SOME_FAILED
    assert f"cannot watch {tmp_path / 'missing'}: No such file" in done.stderr
    assert site.contents() == FILES
    assert once(command, tmp_path / "missing", drop).returncode == ExitCode.FAILED


def test_a_folder_that_may_not_be_read_stops_no_other(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    write_bundle(drop / "b.tar")
    (tmp_path / "closed").mkdir(mode=0)
    done = without_privileges(command.line("watch", "--once", "--settle", 0.05, tmp_path / "closed", drop))
    assert done.returncode == ExitCode.SOME_FAILED
    assert f"cannot read the folder {tmp_path / 'closed'}: Permission denied" in done.stderr
    assert site.contents() == FILES


def test_a_working_directory_that_is_gone(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    write_bundle(drop / "b.tar")
    (tmp_path / "gone").mkdir()
    in_it = ["sh", "-c", 'cd gone; rmdir ../gone; exec "$@"', "sh", *command.line("watch", "--once", "--settle", 0.05)]
    for folder, code in {"../drop": ExitCode.FAILED, str(drop): ExitCode.SUCCESS}.items():
        (tmp_path / "gone").mkdir(exist_ok=True)
        done = subprocess.run([*in_it, folder], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert ("the working directory is gone" in done.stderr) is bool(code)
    assert site.contents() == FILES


def test_a_file_system_that_gives_no_locks(command: Command, drop: Path, site: Site) -> None:
    """That is not another watcher."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    inject = ["strace", "-qq", "-o", os.devnull, "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]
    done = subprocess.run(
        [*inject, *command.line("watch", "--once", drop)], capture_output=True, text=True, check=False
    )
    assert done.returncode == ExitCode.UNREACHABLE
    assert untimed(done.stderr) == [f"ingest: cannot lock {drop}: No locks available"]


def test_a_folder_that_is_given_twice(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    write_bundle(drop / "b.tar")
    (tmp_path / "link").symlink_to("drop")
    done = once(command, drop, "drop", tmp_path / "link", drop / ".." / "drop")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(site.jobs()) == 1


def test_every_line_has_its_time(command: Command, drop: Path) -> None:
    write_bundle(drop / "b.tar")
    (drop / "bad.tar").write_bytes(b"no tar")
    (drop / "notes.txt").touch()
    done = once(command, drop)
    assert len(untimed(done.stdout)) == 1
    assert len(untimed(done.stderr)) == 2

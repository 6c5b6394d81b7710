"""``ingest stats``, ``prune`` and ``backup``: what there was, what can go, and copies of what must not."""

import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode

from ..support.bundles import FILES, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.site import Site


@pytest.fixture
def history(command: Command, tmp_path: Path) -> list[Path]:
    """A job that is complete and two that failed."""
    bundles = [write_bundle(tmp_path / "good.tar"), *(tmp_path / f"bad{number}.tar" for number in range(2))]
    for path in bundles[1:]:
        write_bundle(path, metadata=b"{}")
    assert command(*bundles).returncode == 3
    return bundles


def age(site: Site, days: int) -> None:
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute("UPDATE jobs SET updated = datetime('now', ?)", [f"-{days} days"])


def test_stats(command: Command, history: list[Path]) -> None:
    said = json.loads(command("stats", "--json").stdout)
    total = sum(map(len, FILES.values()))
    assert said["states"]["complete"] == {"jobs": 1, "files": 3, "bytes": total}
    assert said["states"]["failed"]["jobs"] == 2
    ((stage, reason, count),) = [tuple(row.values()) for row in said["failures"]]
    assert (stage, count) == ("load metadata", 2)
    assert "not a list of records" in reason
    assert set(said["stages"]) >= {"open tar", "load metadata", "ingest files"}
    (group,) = said["reasons"]
    assert (group["reason"], group["jobs"], group["job_ids"]) == (reason, 2, [3, 2])
    ((user, jobs),) = group["users"].items()
    assert jobs == 2
    assert sum(group["days"].values()) == 2
    done = {"complete": 1, "failed": 2, "files": 3, "bytes": total}
    assert said["users"] == [{"user": user, **done}]
    assert {name: sum(day[name] for day in said["days"]) for name in done} == done
    text = command("stats").stdout
    assert f"       2  load metadata: {reason}\n          jobs 3, 2\n" in text
    assert re.search(r"^jobs       ▁{28,}█▁?  at most 1$", text, re.M)
    assert re.search(rf"^{user} +1 +2 ", text, re.M)


def test_stats_tell_jobs_that_were_given_up_from_those_that_failed(command: Command, history: list[Path]) -> None:
    assert command("discard", 2).returncode == 0
    lines = command("stats").stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith(("failed ", "discarded "))] == ["1", "1"]
    assert "          job 3" in lines


def test_stats_where_the_terminal_speaks_ascii(
    command: Command, history: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    text = command("stats").stdout
    assert re.search(r"^jobs       _{28,}@_?  at most 1$", text, re.M)


def test_stats_of_nothing(command: Command) -> None:
    command("worker", "--until-empty")
    done = command("stats")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 6


def test_prune_only_names_what_can_go(command: Command, site: Site, history: list[Path]) -> None:
    age(site, 100)
    for path in history[:2]:
        path.unlink()
    done = command("prune")
    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["job 1", "job 2"]
    assert len(site.jobs()) == 3
    assert command("prune", "--yes").stdout == done.stdout
    assert [job.job_id for job in site.jobs()] == [3], "the file of job 3 is still there"
    assert json.loads(command("prune", "--json").stdout) == {
        "removed": False,
        "job_ids": [],
        "paths": [],
        "removed_events": 0,
    }


@pytest.mark.sweep
@pytest.mark.parametrize(("days", "older_than", "gone"), [(5, "6d", 0), (5, "4d", 3), (5, "100h", 3), (5, "1w", 0)])
def test_prune_by_age(command: Command, site: Site, history: list[Path], days: int, older_than: str, gone: int) -> None:
    age(site, days)
    for path in history:
        path.unlink()
    said = json.loads(command("prune", "--older-than", older_than, "--yes", "--json").stdout)
    assert len(said["job_ids"]) == gone
    assert len(site.jobs()) == 3 - gone
    assert site.contents() == FILES


def test_prune_leaves_what_can_be_gone_on_with(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with monkeypatch.context() as patch:
        patch.setenv("POLICY_INGEST_URL", "http://127.0.0.1:9/ingest")
        assert command(bundle).returncode == 4
    age(site, 1000)
    bundle.rename(tmp_path / "away.tar")
    assert json.loads(command("prune", "--yes", "--json").stdout)["job_ids"] == []
    (tmp_path / "away.tar").rename(bundle)
    assert command("retry", 1).returncode == 0


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["upload-x.tar", "packed-0.tar", "received-0.tar"])
def test_prune_of_the_spool(command: Command, site: Site, name: str) -> None:
    spool = site.settings.spool
    spool.mkdir(parents=True)
    left, other = spool / name, spool / "notes.txt"
    left.touch()
    other.touch()
    for path in (left, other):
        os.utime(path, (time.time() - 90_000,) * 2)
    command("worker", "--until-empty")
    assert command("prune").stdout.splitlines() == [str(left)]
    assert command("prune", "--yes").returncode == 0
    assert list(spool.iterdir()) == [other]


@pytest.mark.sweep
@pytest.mark.parametrize("older_than", ["", "90", "d", "-1d", "1y", "1e3d", "999999999d"])
def test_an_age_that_is_none(command: Command, older_than: str) -> None:
    done = command("prune", f"--older-than={older_than}")
    assert done.returncode == 2
    assert "is not an age" in done.stderr


@pytest.mark.sweep
def test_a_backup_can_be_used_instead(command: Command, site: Site, history: list[Path], tmp_path: Path) -> None:
    done = command("backup", "copy")
    assert done.returncode == 0, done.stderr
    data, copy = site.archive.parent, tmp_path / "copy"
    assert sorted(path.name for path in copy.iterdir()) == ["catalogue.sqlite3", "ids.sqlite3", "jobs.sqlite3"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in copy.iterdir())
    for path in data.glob("*.sqlite3*"):
        path.unlink()
    for path in copy.iterdir():
        shutil.copy(path, data)
    assert [job.job_id for job in site.jobs()] == [3, 2, 1]
    assert command("verify", "--all").returncode == 0
    assert command(write_bundle(tmp_path / "next.tar", {"data/n": b"n"})).stdout.startswith("job 4:")


def test_a_backup_overwrites_nothing(command: Command, history: list[Path], tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    done = command("backup", "copy")
    assert done.returncode == 1
    assert "already exists" in done.stderr
    assert [path.name for path in tmp_path.glob(".copy*")] == []


def test_a_backup_says_what_it_leaves_to_postgresql(
    command: Command, history: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, shown = "postgresql://ada:hush@db.example.org/ours", "postgresql://ada@db.example.org/ours"
    monkeypatch.setenv("INGEST_DATABASE_URL", url)
    done = command("backup", "copy")
    assert (done.returncode, "hush" in done.stderr) == (0, False)
    assert f"warning: the jobs in {shown} are not copied: that is for pg_dump" in done.stderr
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["catalogue.sqlite3", "ids.sqlite3"]
    for variable in ("UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, url)
    done = command("backup", "none")
    assert (done.returncode, (tmp_path / "none").exists()) == (ExitCode.USAGE, False)
    assert done.stderr == f"ingest: nothing to copy: all is in {shown}, which pg_dump copies\n"


def test_a_backup_makes_no_folders_where_a_disk_may_not_be_mounted(
    command: Command, history: list[Path], tmp_path: Path
) -> None:
    done = command("backup", "share/monday")
    assert done.returncode == 1
    assert "cannot write share/monday: No such file or directory" in done.stderr
    assert not (tmp_path / "share").exists()


def test_a_backup_while_jobs_run(
    command: Command, site: Site, tmp_path: Path, starting: Callable[..., Running]
) -> None:
    bundles = [write_bundle(tmp_path / f"{number}.tar", {f"data/{number}": b"x"}) for number in range(40)]
    running = starting(*bundles)
    for number in range(5):
        while len(site.jobs()) <= number and running.poll() is None:
            time.sleep(0.01)
        assert command("backup", f"copy{number}").returncode == 0
        for path in (tmp_path / f"copy{number}").iterdir():
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert running.wait(300) == 0


def test_no_id_is_given_out_again_once_a_backup_is_restored(command: Command, site: Site, tmp_path: Path) -> None:
    early, late, new = (
        write_bundle(tmp_path / f"{name}.tar", {f"data/{name}": name.encode()}) for name in ("early", "late", "new")
    )
    assert command("-q", early).returncode == 0
    assert command("backup", "copy").returncode == 0
    assert command("-q", late).returncode == 0
    for name in ("jobs.sqlite3", "catalogue.sqlite3", "ids.sqlite3"):
        for left in site.database.parent.glob(f"{name}*"):
            left.unlink()
        shutil.copy(tmp_path / "copy" / name, site.database.with_name(name))
    skipped = json.loads(command("skip-ids", "--json").stdout)
    assert skipped == {"last_job_id": 1_000_002, "last_file_id": 1_000_002}
    (stored,) = (json.loads(line) for line in command("-q", "--json", new).stdout.splitlines())
    assert stored["job_id"] == 1_000_003
    assert "orphaned" in command("verify", "--all").stdout
    assert command("skip-ids", "--job", 2_000_000, "--file", 5).stdout == (
        "job 2000001 and file 1000005 are the next ones\n"
    )


def test_ids_of_a_service_are_not_skipped(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIQUEID_URL", "http://127.0.0.1:9")
    refused = command("skip-ids")
    assert refused.returncode == ExitCode.USAGE
    assert "ids are given out by http://127.0.0.1:9, which has its own backup" in refused.stderr


def test_an_archive_that_cannot_be_listed_needs_to_be_told_its_last_file(
    command: Command, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert command("-q", write_bundle(tmp_path / "b.tar")).returncode == 0
    monkeypatch.setenv("ARCHIVEINTERFACE_URL", "http://127.0.0.1:9")
    assert "give the last id that one may have, by --file" in command("skip-ids").stderr
    assert command("skip-ids", "--file", 70).stdout.endswith("and file 71 are the next ones\n")

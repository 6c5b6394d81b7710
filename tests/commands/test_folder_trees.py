"""``ingest FOLDER``: what of a folder is taken, left out or refused, how that is shown first, and who is asked."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ingest_cli import api
from ingest_cli.bundle.pack_rules import PackRules
from ingest_cli.errors import ExitCode, IngestError, PackError
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.pipeline.observer import Observer

from ..support.bundles import FILES, OF_FOLDERS, write_folder
from ..support.command import Command
from ..support.mounts import Mount
from ..support.site import Site, Witness, assert_sound
from ..support.terminal import Terminal

SAID: dict[str, Any] = {"submitter": 10, "project": "1234a", "instrument": 54}
OF = OF_FOLDERS[:6]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "run")


def test_an_empty_folder_and_one_that_cannot_be_read_make_no_job(command: Command, site: Site, tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    done = command(tmp_path / "empty", "none", *OF)
    assert done.returncode == 1
    assert f"ingest: there are no files in {tmp_path}/empty\n" in done.stderr
    assert "ingest: 1 empty folder left out: inner/\n" in done.stderr
    assert "cannot read" in done.stderr
    assert site.jobs() == []


def socket_at(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(path))


SPECIAL: dict[str, Callable[[Path], object]] = {
    "symbolic link": lambda path: path.symlink_to("a.txt"),
    "FIFO": os.mkfifo,
    "socket": socket_at,
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_refused_or_skipped(
    site: Site, run: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)  # a socket's path is short
    SPECIAL[kind](Path("odd"))
    with pytest.raises(PackError, match=f"odd is a {kind}"):
        api.ingest_folder(run, **SAID)
    witness = Witness()
    assert api.ingest_folder(run, **SAID, rules=PackRules(skip_special=True), observer=witness).files == 3
    assert witness.warnings == [f"1 {kind} left out: odd"]


def test_links_are_followed_on_request_and_stored_once_read(site: Site, run: Path, tmp_path: Path) -> None:
    (run / "link").symlink_to(write_folder(tmp_path / "other", {"data/x": b"x"}))
    api.ingest_folder(run, **SAID, rules=PackRules(dereference=True))
    assert site.contents() == {**FILES, "data/link/x": b"x"}


def test_a_name_that_is_not_utf_8_is_refused_whether_of_a_file_or_of_the_folder(site: Site, run: Path) -> None:
    odd = run / os.fsdecode(b"a\xff")
    odd.write_text("x")
    with pytest.raises(PackError, match="not valid UTF-8"):
        api.ingest_folder(run, **SAID)
    odd.unlink()
    with pytest.raises(IngestError, match="not valid UTF-8: rename the folder"):
        api.ingest_folder(run.rename(run.with_name(os.fsdecode(b"run\xff"))), **SAID)
    assert site.jobs() == []


def test_what_this_program_keeps_in_the_folder_is_left_out(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive, the databases and the spool lie in it, and the archive by another name too."""
    home = tmp_path / "home"
    write_folder(home)
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    for number in range(2):
        (home / "new").write_text(str(number))
        done = command(home, *OF, "--dereference")
        assert done.returncode == 0, done.stderr
        assert "files and folders of this program left out:" in done.stderr
        if number == 0:
            (home / "link").symlink_to(home / "data" / "pacifica-ingest-cli" / "archive")
    with closing(sqlite3.connect(home / "data" / "pacifica-ingest-cli" / "catalogue.sqlite3")) as catalog:
        names = [row[0] for row in catalog.execute("SELECT name FROM Files ORDER BY id")]
    assert names == ["a.txt", "empty", "new", "b.bin", "new"]
    for own in ("archive", "spool"):
        inside = home / "data" / "pacifica-ingest-cli" / own / "inside"
        inside.mkdir(parents=True, exist_ok=True)
        done = command(inside, *OF)
        assert (done.returncode, "is a folder of this program's own" in done.stderr) == (1, True)


def test_each_folder_is_a_job_and_the_rest_is_told(command: Command, site: Site, tmp_path: Path) -> None:
    camp = tmp_path / "camp"
    for name in ("mon", "tue", "cache", ".Trash-1"):
        write_folder(camp / name, {"data/x": name.encode()})
    (camp / "empty" / "inner").mkdir(parents=True)
    (camp / "link").symlink_to("mon")
    (camp / "loose").write_text("x")
    (camp / ".ingest.json").write_text('{"project": "1234a", "exclude": ["cache/"]}')
    (camp / "tue" / ".ingest.json").write_text('{"project": "other"}')
    done = command("--each", camp, "--submitter", 10, "--instrument", 54, "--json")
    assert done.returncode == 0, done.stderr
    assert [job.name for job in reversed(site.jobs())] == [str(camp / "mon"), str(camp / "tue")]
    assert [row["project"] for row in site.rows("Transactions")] == ["1234a", "other"]
    warnings = [
        line.split("left out: ")[1] for line in done.stderr.splitlines() if line.startswith("ingest: warning: ")
    ]
    assert {name for names in warnings for name in names.split(", ")} == {
        *("cache/", ".Trash-1/", "empty/", "link", "loose", ".ingest.json")
    }
    shutil.rmtree(camp / "mon")
    shutil.rmtree(camp / "tue")
    done = command("--each", camp, *OF)
    assert (done.returncode, "there is no folder in it" in done.stderr) == (ExitCode.USAGE, True)


def test_a_dry_run_says_what_would_be_stored_and_makes_nothing(command: Command, site: Site, run: Path) -> None:
    (run / "cache").mkdir()
    (run / "cache" / "x").write_text("x")
    (run / ".DS_Store").write_text("x")
    words = ("--dry-run", run, *OF, "--exclude", "cache/")
    done = command(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{run}: 3 files, 2.1 kB would be stored: submitter 10, project 1234a, instrument 54",
        "  1 excluded path left out: cache/",
        "  1 system file left out: .DS_Store",
    ]
    assert not site.database.parent.exists(), "no site was made"
    assert command(run, *OF, "--exclude", "cache/").returncode == 0
    assert command(*words).stdout == f"{run}: was ingested before as job 1\n"
    (run / "new").write_text("new")
    (run / "a.txt").write_text("ALPHA\n")
    planned = json.loads(command(*words, "--json").stdout)
    assert (planned["files"], planned["bytes"], planned["known_files"]) == (2, 9, 2)
    assert planned["left_out"] == [
        {"path": ".DS_Store", "reason": "system file"},
        {"path": "cache/", "reason": "excluded path"},
    ]
    assert len(site.jobs()) == 1


def test_a_dry_run_says_what_would_be_refused(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "schema.json").write_text('{"minItems": 1000}')
    monkeypatch.setenv("POLICY_INGEST_URL", (tmp_path / "schema.json").as_uri())
    done = command("--dry-run", run, "none", *OF)
    assert done.returncode == 1
    assert [line.partition(":")[2].partition(":")[0] for line in done.stderr.splitlines()] == [f" {run}", " none"]


def test_two_processes_at_one_folder_store_it_once(command: Command, site: Site, run: Path) -> None:
    """The others come while the first has hashed all and stored nothing: by the job, and by a job of their own."""
    others = []

    class Meeting(Observer):
        def stage(self, task: str) -> None:
            if task == INGEST_FILES:
                others.extend([command(run, *OF), command(run, *OF, "--again")])

    assert api.ingest_folder(run, **SAID, observer=Meeting()).is_done
    assert [done.returncode for done in others] == [ExitCode.UNREACHABLE] * 2
    assert "job 1 is being worked on by" in others[0].stderr
    assert command("retry", "--failed").returncode == 0
    assert_sound(site, FILES, jobs=len(site.jobs()), transactions=1)


def asked(folder: Path, line: list[str], talk: list[tuple[str, str]]) -> None:
    """Answer the prompts, in their order; it ends well."""
    with Terminal(folder, line) as terminal:
        for number, (prompt, answer) in enumerate(talk):
            same = sum(before == prompt for before, _ in talk[:number])
            terminal.until(partial(_shows, prompt, same + 1))
            terminal.type(f"{answer}\r")
        assert sum(line.startswith("Of whom and what is it?") for line in terminal.lines) == 1
        assert terminal.end() == 0, terminal.lines


def _shows(prompt: str, times: int, lines: list[str]) -> bool:
    return sum(line.startswith(prompt) for line in lines) == times


@pytest.mark.sweep
def test_whoever_sits_at_the_terminal_is_asked_and_offered_what_was_used_last(
    command: Command, site: Site, run: Path, tmp_path: Path
) -> None:
    write_folder(tmp_path / "camp" / "one", {"data/1": b"1"})
    write_folder(tmp_path / "camp" / "two", {"data/2": b"2"})
    asked(
        tmp_path,
        command.line(run, "--project", "1234a"),
        [
            ("submitter's id:", "x"),
            ("submitter's id:", "10"),
            ("instrument's id:", ""),
            ("instrument's id:", "54"),
        ],
    )
    asked(
        tmp_path,
        command.line("--each", "camp"),
        [
            ("submitter's id [10]:", ""),
            ("project's id [1234a]:", "other"),
            ("instrument's id [54]:", ""),
        ],
    )
    assert [(row["submitter"], row["project"]) for row in site.rows("Transactions")] == [
        (10, "1234a"),
        (10, "other"),
        (10, "other"),
    ]


@pytest.mark.sweep
@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts disks")
@pytest.mark.parametrize("place", ["", "sub"])
def test_a_job_waits_for_a_disk_that_the_folder_or_a_part_of_it_lay_on(
    command: Command, site: Site, tmp_path: Path, mount: Mount, place: str
) -> None:
    folder, disk, kept = tmp_path / "run", tmp_path / "run" / place, tmp_path / "kept"
    kept.mkdir()
    mount(kept, "-t", "tmpfs", "none")
    folder.mkdir()
    mount(disk, "--bind", kept)
    (kept / "x").write_text("x")
    (folder / "y").write_text("y")
    assert command("--queue", "-q", folder, *OF).returncode == 0
    subprocess.run(["umount", disk], check=True)
    assert command("worker", "--until-empty", "-q").returncode == 0
    assert "nothing is mounted at" in site.job(1).exception
    assert site.job(1).is_deferred
    mount(disk, "--bind", kept)
    assert command("retry", "-q", 1).returncode == 0
    assert site.job(1).files == 2


@pytest.mark.sweep
def test_twenty_thousand_files(command: Command, site: Site, tmp_path: Path) -> None:
    files = {f"data/{number // 500}/{number}": b"%d" % number for number in range(20_000)}
    run = write_folder(tmp_path / "run", files)
    done = command("-q", run, *OF)
    assert (done.returncode, done.stderr) == (0, "")
    assert site.contents() == files
    (run / "new").write_text("new")
    assert command(run, *OF).stdout == f"job 2: {run} is complete, 1 file\n"

"""``ingest watch --pack``: sub-folders are packed by the rules of ``ingest pack``, and their jobs are known by them."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.jobs.spool import SpoolKind

from ..support.bundles import FILES, transaction, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.pacifica_double import PacificaSite
from ..support.serving import Server
from ..support.site import Site
from ..support.waiting import PATIENCE, until


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "template.json").write_text(json.dumps(transaction()))
    return tmp_path / "template.json"


@pytest.fixture
def packing(command: Command, drop: Path, template: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Packs and ingests what is in the drop folder."""

    def once(*words: object) -> subprocess.CompletedProcess[str]:
        return command("watch", "--once", "--settle", 0.05, "--patience", 0, "--pack", template, drop, *words)

    return once


Packing = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(drop: Path) -> Path:
    for name, content in FILES.items():
        path = drop / "run 1" / name.removeprefix("data/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return drop / "run 1"


def test_what_is_left_out_is_told_once(packing: Packing, site: Site, run: Path) -> None:
    for name in ("x.tmp", ".DS_Store"):
        (run / name).touch()
    (run / "hollow").mkdir()
    (run / "link").symlink_to("a.txt")
    words = ("--exclude", "*.tmp", "--skip-special")
    done = packing(*words)
    assert done.returncode == 0
    assert site.contents() == FILES
    assert [line.partition("warning: ")[2] for line in done.stderr.splitlines() if "warning" in line] == [
        f"{run}: 1 excluded path left out: x.tmp",
        f"{run}: 1 system file left out: .DS_Store",
        f"{run}: 1 empty folder left out: hollow/",
        f"{run}: 1 symbolic link left out: link",
    ]
    again = packing(*words)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_programs_are_told_too(packing: Packing, run: Path) -> None:
    (run / "hollow").mkdir()
    events = [json.loads(line) for line in packing("--json").stdout.splitlines()]
    assert {event["origin"] for event in events} == {str(run)}
    assert [event["message"] for event in events if event["event"] == "warning"] == [
        f"{run}: 1 empty folder left out: hollow/"
    ]


def test_quiet_says_nothing_of_it(packing: Packing, run: Path) -> None:
    (run / "hollow").mkdir()
    done = packing("--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_links_are_followed_on_request(packing: Packing, site: Site, run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"1")
    (run / "link").symlink_to(tmp_path / "elsewhere")
    (run / "again").symlink_to("sub")
    assert packing("--dereference").returncode == 0
    assert site.contents() == {**FILES, "data/link": b"1", "data/again/b.bin": FILES["data/sub/b.bin"]}
    assert packing("--dereference").returncode == 0
    assert len(site.jobs()) == 1


def test_all_that_refuses_a_folder_is_named(packing: Packing, site: Site, run: Path) -> None:
    (run / "link").symlink_to("a.txt")
    os.mkfifo(run / "fifo")
    done = packing()
    assert done.returncode == 1
    assert f"cannot be packed: {run}/fifo is a FIFO" in done.stderr
    said = json.loads((run.parent / "run 1.error.json").read_text())["exception"]
    for problem in ("fifo is a FIFO", "link is a symbolic link", "--skip-special", "--dereference"):
        assert problem in said
    assert site.jobs() == []


def test_other_rules_pack_no_folder_again(packing: Packing, site: Site, run: Path) -> None:
    (run / "x.tmp").touch()
    packing("--exclude", "*.tmp")
    assert packing().returncode == 0
    assert len(site.jobs()) == 1


def test_what_is_left_out_may_have_a_temporary_name(packing: Packing, site: Site, run: Path) -> None:
    for name in ("cache/x.part", "__MACOSX/y.part", "z.part"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).touch()
    assert "it holds 'z.part'" in packing("--exclude", "cache/").stderr
    assert packing("--exclude", "cache/", "--exclude", "*.part").returncode == 0
    assert site.contents() == FILES


def test_a_folder_whose_files_are_of_an_odd_time(packing: Packing, site: Site, run: Path) -> None:
    """As far as the file system keeps it."""
    os.utime(run / "a.txt", ns=(0, 300_000_000_000 * 1_000_000_000))
    assert packing().returncode == 0
    assert site.contents() == FILES


def test_a_folder_whose_name_is_no_text_is_refused_once(packing: Packing, site: Site, run: Path) -> None:
    run.rename(run.with_name(os.fsdecode(b"run \xff")))
    (run.parent / "good").mkdir()
    (run.parent / "good" / "a").touch()
    done = packing()
    assert done.returncode == ExitCode.SOME_FAILED
    assert "is not valid UTF-8: rename the folder" in done.stderr
    assert len(site.jobs()) == 1


def test_the_rules_are_of_packing(command: Command, drop: Path) -> None:
    for words in (["--exclude", "*.tmp"], ["--skip-special"], ["--dereference"], ["--no-default-excludes"]):
        done = command("watch", "--once", drop, *words)
        assert (done.returncode, "need --pack" in done.stderr) == (ExitCode.USAGE, True)


def test_a_file_that_is_written_to_while_it_is_packed(
    starting: Callable[..., Running], drop: Path, template: Path, site: Site
) -> None:
    """The folder is not whole yet, and waits: that is no failure of it."""
    (drop / "run").mkdir()
    with (drop / "run" / "large").open("wb") as file:
        file.truncate(20 << 30)
    process = starting("watch", "--once", "--settle", 0.05, "--patience", 0, "--pack", template, drop)
    until(lambda: "run/large" in str(opened_by(process.pid)))
    os.truncate(drop / "run" / "large", 5)
    assert process.wait(PATIENCE) == 0
    assert [path.name for path in drop.iterdir() if not path.name.startswith(".")] == ["run"]
    assert site.jobs() == []


def opened_by(pid: int) -> list[str]:
    """The files that a process has open."""
    with suppress(OSError):
        return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return []


def test_one_that_is_killed_leaves_nothing_in_the_spool(
    starting: Callable[..., Running], drop: Path, template: Path, site: Site
) -> None:
    (drop / "run").mkdir()
    with (drop / "run" / "large").open("wb") as file:
        file.truncate(20 << 30)
    process = starting("watch", "--once", "--settle", 0.05, "--patience", 0, "--pack", template, drop)
    until(lambda: "run/large" in str(opened_by(process.pid)))
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    assert list(site.settings.spool.iterdir()) == []


# What a job is known by.


def test_the_job_of_a_folder_is_known_by_it(command: Command, packing: Packing, site: Site, run: Path) -> None:
    assert f"job 1: {run} is complete" in packing().stdout
    assert f"  {run}  " in command("state").stdout.splitlines()[1]
    assert f"origin    {run}\n" in command("state", 1).stdout
    assert [job["origin"] for job in json.loads(command("state", "--json").stdout)] == [str(run)]
    (source,) = {job.source for job in site.jobs()}
    assert Path(source).name.startswith(SpoolKind.PACKED.prefix)
    assert json.loads(command("state", 1, "--json").stdout)["source"] == source


def test_one_that_failed_is_known_by_it_too(
    command: Command, packing: Packing, run: Path, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICY_INGEST_URL", "http://127.0.0.1:1")
    assert f"{run}: job 1 is deferred: it failed at 'Policy Validation'" in packing().stderr
    assert f"{run}: job 1 is deferred: it failed at 'Policy Validation'" in command("retry", 1).stderr
    monkeypatch.setenv("POLICY_INGEST_URL", f"{pacific.url}/policy")
    assert f"job 1: {run} is complete" in command("retry", 1).stdout
    run.rename(run.with_name("gone"))
    assert f"job 1: {run}\n" in command("prune", "--older-than", "0h").stdout


@pytest.mark.sweep
def test_standard_input_and_uploads_are_known_as_that(command: Command, site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with Server(tmp_path) as server:
        server.upload(bundle)
        until(lambda: [job.is_done for job in site.jobs()] == [True])
    bundle = write_bundle(tmp_path / "b.tar", {"data/other": b"2"})
    assert command("-q", "--receipt", "r.json", "-", stdin=bundle.read_bytes()).returncode == 0
    assert [job.origin for job in site.jobs()] == ["standard input", "HTTP upload"]
    shown = [re.split(" {2,}", line.strip())[2] for line in command("state").stdout.splitlines()]
    assert shown == ["name", "standard input", "HTTP upload"]
    assert json.loads((tmp_path / "r.json").read_text())["origin"] == "standard input"

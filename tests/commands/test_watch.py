"""``ingest watch``: what settles in a folder is ingested, once, and nothing that is half written."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_cli.errors import ExitCode
from ingest_cli.watch.rules import IN_FLIGHT

from ..support.bundles import FILES, document_for, file_record, transaction, write_bundle
from ..support.command import Command
from ..support.forks import Running
from ..support.mounts import Mount
from ..support.pacifica_double import PacificaSite
from ..support.site import Site, assert_sound
from ..support.waiting import PATIENCE, until
from ..support.watching import SETTLE, make_folder, once, settled, visible

# What is whole, and what is not yet.


def test_a_rename_into_place_counts_at_once(
    watching: Callable[..., object], drop: Path, site: Site, tmp_path: Path
) -> None:
    watching("--settle", 10 * PATIENCE)
    write_bundle(tmp_path / "b.tar").rename(drop / "b.tar")
    until(lambda: settled(site))
    assert site.contents() == FILES


def test_only_the_kernel_tells_a_rename_from_a_write(
    watching: Callable[..., object], drop: Path, site: Site, tmp_path: Path
) -> None:
    watching("--poll", "--settle", 1)
    begun = time.monotonic()
    write_bundle(tmp_path / "b.tar").rename(drop / "b.tar")
    until(lambda: settled(site))
    assert time.monotonic() - begun >= 1
    assert site.contents() == FILES


def test_a_rename_within_the_folder_counts_too(watching: Callable[..., object], drop: Path, site: Site) -> None:
    watching("--settle", 10 * PATIENCE)
    write_bundle(drop / "b.tar.part").rename(drop / "b.tar")
    until(lambda: settled(site))
    assert site.contents() == FILES


SLOW_WRITER = """
import sys, time
content = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "wb", buffering=0) as file:
    for number, at in enumerate(range(0, len(content), len(content) // 8)):
        file.write(content[at : at + len(content) // 8])
        time.sleep(float(sys.argv[3]) * (3 if number == 4 else 1))
"""


@pytest.mark.parametrize("step", [0.2, pytest.param(SETTLE * 0.8, marks=pytest.mark.sweep)])
def test_a_slow_writer_is_waited_for(
    watching: Callable[..., object], drop: Path, site: Site, tmp_path: Path, step: float
) -> None:
    """Also one that pauses for longer than a file must hold still: what is no whole tar is given more time."""
    watching()
    bundle = write_bundle(tmp_path / "b.tar")
    subprocess.run([sys.executable, "-c", SLOW_WRITER, bundle, drop / "b.tar", str(step)], check=True)
    until(lambda: settled(site))
    assert [job.is_done for job in site.jobs()] == [True]
    assert site.contents() == FILES


@pytest.mark.sweep
def test_a_writer_that_is_killed_fails_in_the_end(
    watching: Callable[..., object], drop: Path, site: Site, tmp_path: Path
) -> None:
    watching("--patience", SETTLE)
    (drop / "b.tar").write_bytes(write_bundle(tmp_path / "b.tar").read_bytes()[:3000])
    until(lambda: settled(site))
    (job,) = site.jobs()
    assert job.has_failed
    until(lambda: (drop / "b.tar.error.json").exists())
    why = json.loads((drop / "b.tar.error.json").read_text())
    assert (why["job_id"], why["file"], why["exception"]) == (1, "b.tar", job.exception)
    (tmp_path / "b.tar").rename(drop / "b.tar")
    until(lambda: settled(site, 2) and not (drop / "b.tar.error.json").exists())
    assert site.contents() == FILES


def test_a_file_that_is_truncated_and_written_again(
    watching: Callable[..., object], drop: Path, site: Site, tmp_path: Path
) -> None:
    watching()
    content = write_bundle(tmp_path / "b.tar").read_bytes()
    (drop / "b.tar").write_bytes(content[:5000])
    time.sleep(SETTLE / 2)
    (drop / "b.tar").write_bytes(b"")
    time.sleep(SETTLE / 2)
    (drop / "b.tar").write_bytes(content)
    until(lambda: settled(site))
    assert [job.is_done for job in site.jobs()] == [True]


@pytest.mark.sweep
@pytest.mark.parametrize("tool", ["cp", "mv", "rsync", "mv from another file system"])
def test_tools(watching: Callable[..., object], drop: Path, site: Site, tmp_path: Path, tool: str) -> None:
    if shutil.which(tool.split()[0]) is None:
        pytest.skip(f"there is no {tool}")
    bundle = write_bundle(tmp_path / "b.tar", {"data/large": os.urandom(3_000_000)})
    elsewhere = Path("/dev/shm") / f"{os.getpid()}.tar"
    if "another" in tool:
        if not elsewhere.parent.exists() or elsewhere.parent.stat().st_dev == drop.stat().st_dev:
            pytest.skip("there is no other file system")
        shutil.move(bundle, elsewhere)
        bundle = elsewhere
    watching()
    try:
        subprocess.run([tool.split()[0], bundle, drop / "b.tar"], check=True)
        until(lambda: settled(site))
    finally:
        elsewhere.unlink(missing_ok=True)
    assert [job.is_done for job in site.jobs()] == [True]


@pytest.mark.sweep
@pytest.mark.parametrize(
    "name",
    [".b.tar", "b.tar.part", "b.tar.tmp", "b.tar.filepart", "b.tar.crdownload", ".b.tar.Xa3f9q", "~b.tar", "b.tar~"],
)
def test_names_of_files_in_flight_are_left_alone(command: Command, drop: Path, site: Site, name: str) -> None:
    write_bundle(drop / name)
    assert once(command, drop, "--pattern", "*").returncode == 0
    assert site.jobs() == []
    assert IN_FLIGHT.search(name)


def test_a_marker(command: Command, drop: Path, site: Site) -> None:
    write_bundle(drop / "b.tar")
    once(command, drop, "--marker", "--delete")
    assert site.jobs() == []
    (drop / "b.tar.done").touch()
    assert once(command, drop, "--marker", "--delete").returncode == 0
    assert site.contents() == FILES
    assert visible(drop) == []


# What becomes of it.


def test_by_default_a_file_stays_and_is_not_looked_at_again(command: Command, drop: Path, site: Site) -> None:
    write_bundle(drop / "b.tar")
    for _ in range(2):
        done = once(command, drop)
        assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ""
    assert (visible(drop), len(site.jobs())) == (["b.tar"], 1)


def test_done_and_failed(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "failed").mkdir()
    for round_ in range(2):
        write_bundle(drop / "good.tar", {"data/a": bytes([round_])})
        (drop / "bad.tar").write_text(f"no tar {round_}")
        assert once(command, drop, "--done", tmp_path / "done", "--failed", tmp_path / "failed").returncode == 3
        assert visible(drop) == []
    assert visible(tmp_path / "done") == ["good.tar", "good.tar.1"]
    assert visible(tmp_path / "failed") == ["bad.tar", "bad.tar.1", "bad.tar.1.error.json", "bad.tar.error.json"]


def test_delete(command: Command, drop: Path, site: Site) -> None:
    write_bundle(drop / "good.tar")
    (drop / "bad.tar").write_text("no tar")
    once(command, drop, "--delete")
    assert visible(drop) == ["bad.tar", "bad.tar.error.json"]
    assert site.contents() == FILES


def test_quiet_says_nothing_on_success(command: Command, drop: Path) -> None:
    write_bundle(drop / "b.tar")
    done = once(command, drop, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_exit_codes(command: Command, drop: Path, pacific: PacificaSite) -> None:
    assert once(command, drop).returncode == 0
    (drop / "bad.tar").write_text("no tar")
    assert once(command, drop).returncode == 1
    assert once(command, drop).returncode == 0, "what failed is not tried again"
    assert once(command, drop.parent / "missing").returncode == 1
    assert command("watch", "--once", drop, "--done", "x", "--delete").returncode == 2


def test_a_service_that_is_down_is_for_the_next_run(
    command: Command, drop: Path, site: Site, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(drop / "b.tar")
    monkeypatch.setenv("POLICY_INGEST_URL", "http://127.0.0.1:1")
    done = once(command, drop)
    assert done.returncode == 4
    assert "is deferred: it failed" in done.stderr
    assert visible(drop) == ["b.tar"]


def test_documents_of_moves(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    document = [*transaction(), file_record("data/one", b"1", source=str(tmp_path / "one"))]
    (drop / "m.json").write_text(json.dumps(document))
    assert once(command, drop, "--move").returncode == 0
    assert site.contents() == {"data/one": b"1"}
    assert once(command, drop, "--move").returncode == 0
    assert len(site.jobs()) == 1


def test_sub_folders_are_packed(command: Command, drop: Path, site: Site, template: Path, tmp_path: Path) -> None:
    make_folder(drop / "run 1")
    (drop / "empty").mkdir()
    done = once(command, drop, "--pack", template)
    assert "there are no files in" in done.stderr
    assert site.contents() == FILES
    assert list(site.settings.spool.glob("packed-*")) == []
    (tmp_path / "done").mkdir()
    assert once(command, drop, "--pack", template, "--done", tmp_path / "done").returncode == 0
    assert len(site.jobs()) == 1, "a folder is packed once"
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["run 1"]


def test_a_folder_that_was_changed_is_packed_again(command: Command, drop: Path, site: Site, template: Path) -> None:
    make_folder(drop / "run")
    (drop / "run" / "link").symlink_to("a.txt")
    done = once(command, drop, "--pack", template)
    assert done.returncode == 1
    assert "run/link is a symbolic link" in (drop / "run.error.json").read_text()
    (drop / "run" / "link").unlink()
    assert once(command, drop, "--pack", template, "--delete").returncode == 0
    assert site.contents() == FILES
    assert visible(drop) == []


@pytest.mark.sweep
def test_a_folder_that_fills_slowly(watching: Callable[..., object], drop: Path, site: Site, template: Path) -> None:
    watching("--pack", template, "--settle", 5 * SETTLE)
    for number in range(12):
        (drop / "run").mkdir(exist_ok=True)
        (drop / "run" / f"{number}").write_text(str(number))
        time.sleep(SETTLE / 2)
    until(lambda: settled(site))
    assert site.contents() == {f"data/{number}": str(number).encode() for number in range(12)}


@pytest.mark.parametrize("text", ["x", "{}", "[]", '[{"destinationTable": "Transactions.project", "value": 3}]'])
def test_a_template_that_is_none(command: Command, drop: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    assert once(command, drop, "--pack", tmp_path / "t.json").returncode == ExitCode.USAGE


# What else lies there.


def test_names_of_all_kinds(command: Command, drop: Path, site: Site) -> None:
    names = ["with space.tar", "new\nline.tar", "-q.tar", "ümläut.tar", "'quoted\".tar"]
    for number, name in enumerate(names):
        write_bundle(drop / name, {f"data/{number}": bytes([number])})
    assert once(command, drop).returncode == 0
    assert len(site.rows("Transactions")) == len(names)


def test_a_name_that_is_no_text_is_refused_and_the_rest_goes_on(command: Command, drop: Path, site: Site) -> None:
    write_bundle(drop / os.fsdecode(b"a\xff.tar"))
    write_bundle(drop / "b.tar")
    done = once(command, drop)
    assert done.returncode == 3
    assert "is not valid UTF-8" in done.stderr
    assert site.contents() == FILES
    assert command(os.fsdecode(b"drop/a\xff.tar")).returncode == 1


def test_what_is_no_plain_file_is_left_alone(command: Command, drop: Path, site: Site, tmp_path: Path) -> None:
    (drop / "link.tar").symlink_to(write_bundle(tmp_path / "b.tar"))
    os.mkfifo(drop / "fifo.tar")
    (drop / "folder.tar").mkdir()
    (drop / "notes.txt").write_text("hello")
    assert once(command, drop).returncode == 0
    assert site.jobs() == []


@pytest.mark.skipif(os.getuid() == 0 and shutil.which("setpriv") is None, reason="root reads everything")
def test_a_file_that_may_not_be_read(command: Command, drop: Path, site: Site) -> None:
    write_bundle(drop / "a.tar").chmod(0)
    write_bundle(drop / "b.tar")
    line = command.line("watch", "--once", "--settle", 0.05, "--patience", 0, drop)
    if os.getuid() == 0:
        line = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *line]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Permission denied" in done.stderr
    assert "Permission denied" in (drop / "a.tar.error.json").read_text()
    assert site.contents() == FILES


# One watcher, for a long time.


def test_a_second_watcher_says_who_has_the_folder(
    watching: Callable[..., Running], command: Command, drop: Path
) -> None:
    first = watching()
    until(lambda: (drop / ".ingest-watch.lock").stat().st_size > 0)
    done = once(command, drop)
    assert done.returncode == ExitCode.UNREACHABLE
    assert f":{first.pid}" in done.stderr
    first.kill()
    first.wait()
    assert once(command, drop).returncode == 0


@pytest.mark.sweep
def test_a_folder_that_goes_and_comes_back(
    watching: Callable[..., object], drop: Path, site: Site, tmp_path: Path
) -> None:
    watching("--scan", 1)
    away = drop.rename(tmp_path / "away")
    until(lambda: f"{drop} is gone" in (tmp_path / "log").read_text())
    write_bundle(away / "b.tar")
    away.rename(drop)
    until(lambda: settled(site))
    assert f"{drop} is back" in (tmp_path / "log").read_text()
    write_bundle(drop / "c.tar", {"data/c": b"c"}, document_for({"data/c": b"c"}))
    until(lambda: settled(site, 2))


def test_a_folder_in_whose_place_another_is_mounted(
    watching: Callable[..., object], drop: Path, site: Site, tmp_path: Path, mount: Mount
) -> None:
    """The roots of two disks have the same number."""
    mount(drop, "-t", "tmpfs", "none")
    watching()
    mount(drop, "-t", "tmpfs", "none")
    until(lambda: f"{drop} was replaced, mounted or unmounted" in (tmp_path / "log").read_text())
    assert (drop / ".ingest-watch.lock").exists()
    write_bundle(drop / "b.tar")
    until(lambda: settled(site))


def test_a_lost_event_loses_no_bundle(watching: Callable[..., object], drop: Path, site: Site) -> None:
    write_bundle(drop / "before.tar")
    watching("--scan", 0.5, "--poll")
    until(lambda: settled(site))


@pytest.mark.sweep
def test_many_bundles_and_a_watcher_that_is_killed_five_times(
    watching: Callable[..., Running], drop: Path, site: Site, tmp_path: Path
) -> None:
    count = 1000
    files = {f"data/{number:04}": f"{number}".encode() for number in range(count)}
    for name, content in files.items():
        write_bundle(tmp_path / f"{name[5:]}.tar", {name: content})

    def drop_all() -> None:
        for name in files:
            (tmp_path / f"{name[5:]}.tar").rename(drop / f"{name[5:]}.tar")

    dropping = threading.Thread(target=drop_all, daemon=True)
    dropping.start()
    for share in range(1, 6):
        process = watching("--quiet", "--workers", 2)
        until(lambda share=share: site.database.exists() and len(site.jobs()) > share * 100)  # type: ignore[misc]
        process.kill()
        process.wait()
    dropping.join()
    watching("--quiet", "--workers", 2)
    until(lambda: len(site.jobs()) == count)
    until(lambda: settled(site, count))
    assert_sound(site, files, count)
